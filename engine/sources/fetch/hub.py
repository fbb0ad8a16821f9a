"""A repository's files from the Hugging Face hub: only those needed, resumed, and checked against the hub's hashes.

huggingface_hub knows the person's token, proxy and mirror (HF_ENDPOINT) and is imported on the first download. The
transfer is ours, because its own begins again after an interruption.
"""

import fnmatch
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, LikelyError
from engine.sources.catalogue import Hub
from engine.sources.fetch.progress import Report, disk_errors, require_space

ANSWER_S = 5.0  # how long the hub may take to answer
STALL_S = 10.0  # how long a download may stand still
TRIES = 5  # in a row without a byte, before a download is given up
CHUNK = 1 << 20
NAMED = {"model": "model", "dataset": "data set"}
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
    return _fetch_repository(hub, folder, report, "model", lambda siblings: _choose(hub.repo, siblings, file))


def fetch_data(hub: Hub, folder: Path, report: Report, kinds: Sequence[str]) -> str:
    """The same for a data set: its files, in folders of their own too, that end with one of `kinds`."""

    def choose(siblings: Sequence[Any]) -> list[Any]:
        wanted = [s for s in siblings if s.rfilename.endswith(tuple(kinds)) and ".." not in s.rfilename.split("/")]
        if not wanted:
            raise CheckpointError(f"the data set {hub.repo} has no file that ends with {', '.join(kinds)}")
        return sorted(wanted, key=lambda sibling: sibling.size or 0)

    return _fetch_repository(hub, folder, report, "dataset", choose)


def _fetch_repository(
    hub: Hub, folder: Path, report: Report, kind: str, choose: Callable[[Sequence[Any]], list[Any]]
) -> str:
    from huggingface_hub import HfApi, constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # else it asks the hub for more than the model, and waits for that too
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        with disk_errors(folder):
            report(f"asking the hub for {hub.repo}", 0, 0)
            info = HfApi(endpoint=endpoint).repo_info(
                hub.repo, repo_type=kind, revision=hub.revision, files_metadata=True, timeout=ANSWER_S
            )
            _fetch(hub.repo, kind, str(info.sha), choose(info.siblings or []), folder, report, endpoint)
            return str(info.sha)
    except Exception as error:  # LikelyError, the disk's OSError, or what the HTTP client of the day raises
        if isinstance(error, LikelyError) or type(error).__module__ == "builtins":
            raise
        raise _failed(hub, NAMED[kind], error) from error


def _choose(repo: str, siblings: Sequence[Any], file: str | None) -> list[Any]:
    """The files to fetch, smallest first, so that a wrong model is known before its weights are here."""
    names = {sibling.rfilename: sibling for sibling in siblings if "/" not in sibling.rfilename}
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


def _fetch(
    repo: str, kind: str, commit: str, wanted: list[Any], folder: Path, report: Report, endpoint: str | None
) -> None:
    from huggingface_hub import hf_hub_url

    partials = {sibling.rfilename: _partial(folder, sibling) for sibling in wanted}
    there = [path for path in folder.rglob("*") if path.is_file()]
    for path in there:
        if str(path.relative_to(folder)) not in partials and path not in partials.values():
            path.unlink()
    total, finished = sum(sibling.size or 0 for sibling in wanted), 0
    require_space(folder, total - sum(path.stat().st_size for path in there if path.exists()))

    def progress(done: int) -> None:
        report(f"downloading {repo}", finished + done, total)

    for sibling in wanted:
        name, size = sibling.rfilename, sibling.size or 0
        path, partial = folder / name, partials[name]
        if path.exists() and not _is_intact(path, sibling, report):
            path.unlink()  # of another revision
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            url = hf_hub_url(repo, name, repo_type=kind, revision=commit, endpoint=endpoint)
            _download(url, partial, size, progress)
            if not _is_intact(partial, sibling, report):
                partial.unlink()
                raise CheckpointError(f"{name} is damaged: its hash is not the one the hub gives; pull again")
            partial.rename(path)
        finished += size
        progress(0)


def _partial(folder: Path, sibling: Any) -> Path:
    """Where a file grows until it is whole; another file under the same name grows elsewhere."""
    return folder / f"{sibling.rfilename}.{_expected(sibling)[:16]}.part"


def _expected(sibling: Any) -> str:
    """The hub's hash: SHA-256 of a large file, git's blob SHA-1 of a small one."""
    return str(sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id)


def _download(url: str, partial: Path, size: int, progress: Callable[[int], None]) -> None:
    """Fetch what `partial` lacks of `size` bytes; a broken connection is taken up again where it broke."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    failures = 0
    while (before := _size(partial)) < size or not partial.exists():
        headers = build_hf_headers(library_name="likely") | {"Accept-Encoding": "identity"}
        if before:
            headers["Range"] = f"bytes={before}-"
        broken = None
        try:
            with get_session().stream("GET", url, headers=headers, timeout=STALL_S, follow_redirects=True) as response:
                hf_raise_for_status(response)
                with open(partial, "ab") as out:
                    if response.status_code != 206:  # the whole file, whatever was asked for
                        out.seek(0)
                        out.truncate()
                    for piece in response.iter_bytes(CHUNK):
                        out.write(piece)
                        progress(out.tell())
        except (LikelyError, OSError):
            raise
        except Exception as error:  # the connection broke, by whichever name the HTTP client calls that
            broken = error
        failures = 0 if _size(partial) > before else failures + 1
        if failures == TRIES:
            raise broken or CheckpointError(f"the hub sends less of {partial.name} than it said; try again later")
        time.sleep(failures)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_intact(path: Path, sibling: Any, report: Report) -> bool:
    size, done = path.stat().st_size, 0
    git_blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    digest = hashlib.sha256() if sibling.lfs is not None else git_blob
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            done += len(piece)
            if size > 16 * CHUNK:
                report(f"verifying {sibling.rfilename}", done, size)
    return digest.hexdigest() == _expected(sibling)


def _failed(hub: Hub, what: str, error: Exception) -> CheckpointError:
    kind = type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if kind == "GatedRepoError" or status == 403:
        return CheckpointError(
            f"{hub.repo} is gated: accept its licence on the hub, log in with `hf auth login`, pull again"
        )
    if kind == "RevisionNotFoundError":
        return CheckpointError(f"{hub.repo} has no revision {hub.revision!r}")
    if kind in ("RepositoryNotFoundError", "HFValidationError") or status in (401, 404):
        return CheckpointError(
            f"the hub has no {what} {hub.repo!r} that you may read; check its name, or `hf auth login`"
        )
    if status is not None:
        return CheckpointError(f"the hub answered {status} for {hub.repo}; try again later")
    return CheckpointError(f"the hub cannot be reached for {hub.repo} ({kind}); go online, or name a file or a folder")
