"""Places on this disk where other programs, or the person, keep models: the hub's cache, LM Studio's folders, theirs.

Models are used where they lie: nothing is copied, moved or written here. Says what a place holds by its files' names;
whether a model there is whole is for `model_info.describe` to find out.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json, preferences
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import read_whole, refuse_pipe

PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
DEPTH = 3  # folders below a folder of models: owner, repository, and one for those who sort


@dataclass(frozen=True)
class Found:
    """A folder or a GGUF file that may be a model."""

    name: str  # owner/name, or owner/name/file.gguf
    path: Path
    source: str  # in words, for the person


def hub_cache() -> Path:
    """The cache that every program built on huggingface_hub shares; its rules, without importing it."""
    if named := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return expanded(os.path.expandvars(named))
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hf_home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    return expanded(os.path.expandvars(hf_home)) / "hub"


def in_hub_cache(repo: str, file: str | None = None, revision: str = "main") -> Iterator[Found]:
    """The snapshots of a repository, that of `revision` first, then the newest; with `file`, that file in them."""
    for snapshot in _snapshots(hub_cache() / f"models--{repo.replace('/', '--')}", revision):
        path = snapshot / file if file else snapshot
        if path.exists():
            yield Found(f"{repo}/{file}" if file else repo, path, f"hub cache {repo}@{snapshot.name[:8]}")


def all_in_hub_cache() -> Iterator[Found]:
    """Every snapshot of every repository, each repository's best first."""
    for folder in _folders(hub_cache()):
        if folder.name.startswith("models--"):
            repo = folder.name.removeprefix("models--").replace("--", "/", 1)
            for snapshot in _snapshots(folder, "main"):
                source = f"hub cache {repo}@{snapshot.name[:8]}"
                yield from (Found(model.name, model.path, source) for model in _models_of(snapshot, repo, ""))


def lm_studio() -> tuple[Path, ...]:
    """LM Studio's folders of models that there are: the one it is set to, that of its home, and its old one."""
    here = expanded("~")
    root = Path(_line(here / ".lmstudio-home-pointer") or here / ".lmstudio")
    candidates = [root / "models", here / ".lmstudio" / "models", here / ".cache" / "lm-studio" / "models"]
    try:
        named = foreign_json.read(root / "settings.json").get("downloadsFolder")
        candidates[:0] = [expanded(named)] if isinstance(named, str) and named else []
    except DataError:
        pass
    return tuple(dict.fromkeys(folder for folder in candidates if os.path.isdir(folder)))


def in_folders() -> Iterator[Found]:
    """Models that LM Studio and the person keep, each named by its way from the folder that they named."""
    for root in preferences.folders():
        yield from _walk(root, f"folder {root}")
    for root in lm_studio():
        yield from _walk(root, "LM Studio")


def _walk(root: Path, source: str, folder: Path | None = None, depth: int = DEPTH) -> Iterator[Found]:
    folder = folder or root
    name = folder.name if folder == root else str(folder.relative_to(root))
    yield from _models_of(folder, name, source)
    if depth and not os.path.exists(folder / "config.json"):
        for inner in _folders(folder):
            if not inner.name.startswith("."):
                yield from _walk(root, source, inner, depth - 1)


def _models_of(folder: Path, name: str, source: str) -> Iterator[Found]:
    """The folder itself if it is laid out as a model, and each GGUF file in it that is a whole language model."""
    if os.path.exists(folder / "config.json"):
        yield Found(name, folder, source)
    try:
        files = sorted(path for path in folder.glob("*.gguf") if path.is_file())
    except (OSError, ValueError):
        return
    for file in files:
        # a picture encoder that goes with a model, and parts of one, are no models
        if not file.name.startswith("mmproj") and not PART.search(file.name):
            yield Found(f"{name}/{file.name}", file, source)


def _snapshots(repository: Path, revision: str) -> list[Path]:
    commit = _line(repository / "refs" / revision)
    return sorted(_folders(repository / "snapshots"), key=lambda path: (path.name != commit, -_changed(path)))


def _line(path: Path) -> str:
    """The words of a file of one line; "" where it cannot be read."""
    try:
        refuse_pipe(path)
        return read_whole(path).strip()
    except DataError:
        return ""


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; none where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except (OSError, ValueError):  # ValueError: a setting's name that no file can have
        return []


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
