"""Registry of what was made on this machine: adapters, and models that were fused, quantised or pretrained.

One small JSON file says where each lies; they stay where they were put. A name is its folder's. What is gone from there
is said to be, never guessed. Knows nothing of what is in them. Light: the screen imports it.
"""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.home import expanded, home
from likely.engine.base.files.lock import locked, silent
from likely.engine.base.files.whole_file import write_whole
from likely.metal.errors import nearest_names

ADAPTER, FUSED, QUANTISED, PRETRAINED = "adapter", "fused", "quantised", "pretrained"
BEST = "best"  # in an adapter's folder: the weights of the least validation loss, or the most held-out pass@1
RECORD = {"path": str, "kind": str, "base": str}


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that was made here, where it was put, and of which model."""

    path: Path
    kind: str
    base: str

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def there(self) -> bool:
        return self.path.exists()

    @property
    def nbytes(self) -> int:
        """On disk."""
        if self.path.is_file():
            return self.path.stat().st_size
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


def all() -> tuple[Artifact, ...]:
    """Everything that was made here, gone or not, by name; nothing where the file is damaged, which `damage` says."""
    try:
        return _read()
    except DataError:
        return ()


def damage() -> str:
    """That the registry cannot be read, in words; "" where it can. Nobody writes over it then."""
    try:
        _read()
    except DataError as error:
        return f"{error}: until you mend it or move it away, no name of what was made here is known, nor is one kept"
    return ""


def note(path: Path, kind: str, base: str) -> None:
    """Remember what was made. A disk that cannot be written, or a damaged registry, leaves it unsaid."""
    one = Artifact(Path(os.path.abspath(path)), kind, base)
    if one not in all():
        _change(lambda every: [*(other for other in every if other.path != one.path), one])


def find(name: str) -> Artifact | None:
    """The one by this name, of several one that is still there, or the one at this path; None where there is none."""
    path = Path(os.path.abspath(expanded(name)))
    candidates = [one for one in all() if name == one.name or path == one.path]
    return min(candidates, key=lambda one: (path != one.path, not one.there), default=None)


def place(name: str | Path) -> Path:
    """The folder that an adapter's name means: a path where there is one, else that of one made here, or `best` in it.

    CheckpointError for one that is gone.
    """
    path = expanded(name)
    owner, _, inside = str(name).rpartition(f"/{BEST}")
    one = None if path.exists() else find(owner if owner and not inside else str(name))
    if one is None or one.kind != ADAPTER:
        return path
    if not one.there:
        raise CheckpointError(gone(one))
    return one.path / BEST if owner and not inside else one.path


def nearest(name: str) -> str:
    """The adapter that may have been meant by a name; "" where none is like it."""
    return next(iter(nearest_names(name, [one.name for one in all() if one.kind == ADAPTER])), "")


def called(folder: Path) -> str:
    """The name of an adapter's folder: of the best weights of one, OWNER/best."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{BEST}" if folder.name == BEST else folder.name


def gone(one: Artifact) -> str:
    """That something is not where it was put, in words."""
    name = one.name if find(one.name) == one else str(one.path)
    return f"{one.name} was made here, and is gone from {one.path}: likely rm {shlex.quote(name)} forgets it"


def remove(one: Artifact) -> None:
    """Delete it where it lies, and forget it. DataError where it cannot be deleted: it is remembered then."""
    try:
        if one.path.is_dir() and not one.path.is_symlink():
            shutil.rmtree(one.path)
        else:
            one.path.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"cannot remove {one.path}: {error.strerror}") from None
    _change(lambda every: [other for other in every if other.path != one.path])


def foreign_files(one: Artifact) -> list[str]:
    """Names in its folder that no training, fusing or packing writes: somebody has put them there."""
    known = (".safetensors", ".json", ".jsonl", ".jinja", ".model", ".txt", ".md", ".gguf", ".lock")
    if not one.path.is_dir():
        return []
    inside = (BEST, "search", "tensorboard", ".DS_Store")
    names = sorted(os.listdir(one.path))
    return [name for name in names if not (name.endswith(known) or name in inside or name.startswith("events."))]


def _change(change: Callable[[Sequence[Artifact]], Sequence[Artifact]]) -> None:
    """Put what `change` makes of the registry in its place; what another process notes meanwhile stays too."""
    path = _file()
    with suppress(OSError, DataError), locked(path.with_name(f".{path.name}.lock"), "made", wait=silent):
        records = [{**asdict(one), "path": str(one.path)} for one in change(_read())]
        write_whole(path, [json.dumps(records, indent=1)])


def _read() -> tuple[Artifact, ...]:
    """Registry as it is, by name. DataError for one that is damaged."""
    if not os.path.lexists(_file()):
        return ()
    made = [Artifact(Path(one["path"]), one["kind"], one["base"]) for one in foreign_json.read(_file(), [RECORD])]
    return tuple(sorted(made, key=lambda one: (one.name, one.path)))


def _file() -> Path:
    return home() / "made.json"
