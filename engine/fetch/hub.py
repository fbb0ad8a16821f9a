"""A model's files from the Hugging Face hub: only those that it needs, resumed, and checked against the hub's hashes.

huggingface_hub does the transfer (tokens, proxies, mirrors by HF_ENDPOINT) and is imported on the first download.
"""

import fnmatch
import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from engine.catalogue import Hub
from engine.errors import CheckpointError, LikelyError
from engine.fetch.progress import Report, disk_errors, require_space

ANSWER_S = 5.0  # how long the hub may take to answer
CHUNK = 1 << 20
NEEDED = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "weights*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
    "LICENSE*",
    "NOTICE*",
)


def fetch_hub(hub: Hub, folder: Path, report: Report, *, file: str | None = None) -> str:
    """Put the repository's model files, or the one GGUF `file`, into `folder`; returns the commit they are from.

    What an interrupted call left in `folder` is used. CheckpointError where the hub does not answer within 5 s, has no
    such model, wants a token, or sent something else than it said.
    """
    from huggingface_hub import HfApi, hf_hub_download

    endpoint = os.environ.get("HF_ENDPOINT") or None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns on stderr, which belongs to the screen
    try:
        with disk_errors(folder):
            report(f"asking the hub for {hub.repo}", 0, 0)
            info = HfApi(endpoint=endpoint).model_info(
                hub.repo, revision=hub.revision, files_metadata=True, timeout=ANSWER_S
            )
            wanted = _choose(hub.repo, info.siblings or [], file)
            total = sum(sibling.size or 0 for sibling in wanted)
            require_space(folder, total - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
            bar = _bar(f"downloading {hub.repo}", total, report)
            for sibling in wanted:
                hf_hub_download(
                    hub.repo,
                    sibling.rfilename,
                    revision=info.sha,
                    local_dir=folder,
                    etag_timeout=ANSWER_S,
                    endpoint=endpoint,
                    tqdm_class=bar,
                )
                bar.finished += sibling.size or 0
            for sibling in wanted:
                _verify(folder / sibling.rfilename, sibling, report)
            shutil.rmtree(folder / ".cache", ignore_errors=True)
            return str(info.sha)
    except (LikelyError, OSError) as error:
        if isinstance(error, LikelyError) or not type(error).__module__.startswith(("huggingface_hub", "httpx")):
            raise
        raise _failed(hub, error) from error
    except Exception as error:  # the transfer's own exceptions, of whichever HTTP client it uses
        raise _failed(hub, error) from error


def _choose(repo: str, siblings: Sequence[Any], file: str | None) -> list[Any]:
    """The files to fetch, smallest first, so that a wrong model is known before its weights are here."""
    names = {sibling.rfilename: sibling for sibling in siblings}
    ggufs = [name for name in names if name.endswith(".gguf")]
    if file is not None:
        if file not in names:
            near = get_close_matches(file, ggufs, 3, 0.3) or ggufs[:3]
            raise CheckpointError(f"{repo} has no file {file!r}; it has: {', '.join(near) or 'no GGUF file'}")
        return [names[file]]
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        if ggufs:
            raise CheckpointError(f"{repo} holds GGUF files: name one, as {repo}/{ggufs[0]}")
        raise CheckpointError(f"{repo} has no config.json with .safetensors weights: not a model that can be run here")
    chosen = [s for name, s in names.items() if any(fnmatch.fnmatch(name, pattern) for pattern in NEEDED)]
    return sorted(chosen, key=lambda sibling: sibling.size or 0)


def _bar(what: str, total: int, report: Report) -> Any:
    """A stand-in for the progress bar that huggingface_hub expects: a class that it makes one of for each file."""

    class Bar:
        finished = 0  # bytes of the files before this one

        def __init__(self, *args: Any, initial: int = 0, **options: Any) -> None:
            self.n = initial
            self.update(0)

        def update(self, n: float | None = 1) -> None:
            self.n += int(n or 0)
            report(what, Bar.finished + self.n, total)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

        def __getattr__(self, name: str) -> Any:  # close, refresh, set_description: nothing to do
            return lambda *args, **options: None

    return Bar


def _verify(path: Path, sibling: Any, report: Report) -> None:
    """Compare with the hub's hash: SHA-256 for a large file, git's blob SHA-1 for a small one."""
    size = path.stat().st_size
    if sibling.size is not None and size != sibling.size:
        path.unlink()
        raise CheckpointError(f"{path.name} has {size:,} bytes, the hub says {sibling.size:,}; pull again")
    if sibling.lfs is not None:
        digest, expected = hashlib.sha256(), sibling.lfs.sha256
    else:
        digest, expected = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), sibling.blob_id
    done = 0
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            done += len(piece)
            if size > 16 * CHUNK:
                report(f"verifying {path.name}", done, size)
    if expected and digest.hexdigest() != expected:
        path.unlink()
        raise CheckpointError(f"{path.name} is damaged: its hash is not the one the hub gives; pull again")


def _failed(hub: Hub, error: Exception) -> CheckpointError:
    kind = type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if kind == "GatedRepoError" or status == 403:
        return CheckpointError(
            f"{hub.repo} is gated: accept its licence on the hub, log in with `hf auth login`, pull again"
        )
    if kind in ("RepositoryNotFoundError", "HFValidationError") or status in (401, 404):
        return CheckpointError(
            f"the hub has no model {hub.repo!r} that you may read; check its name, or `hf auth login`"
        )
    if kind == "RevisionNotFoundError":
        return CheckpointError(f"{hub.repo} has no revision {hub.revision!r}")
    if status is not None:
        return CheckpointError(f"the hub answered {status} for {hub.repo}; try again later")
    return CheckpointError(f"the hub cannot be reached for {hub.repo} ({kind}); go online, or name a file or a folder")
