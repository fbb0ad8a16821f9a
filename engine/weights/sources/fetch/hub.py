"""A repository's files from the Hugging Face hub into its shared cache: only those needed, verified, and resumed.

huggingface_hub knows the person's token, proxy and mirror, transfers, and lays the cache out, so that all who build on
it find what is fetched here; hf_xet reads large files in several streams. Two things are left to do: they begin an
interrupted file again, and what came over HTTP they do not hash. A blob of the cache is named by its hash, so each
grows beside its place, is hashed, and moves in. Imported on the first download.
"""

import fnmatch
import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

from likely.engine.base.errors import CheckpointError, LikelyError
from likely.engine.weights.sources.fetch import caches, catalogue
from likely.engine.weights.sources.fetch.catalogue import Hub
from likely.engine.weights.sources.fetch.progress import Report, disk_errors, require_space

ANSWER_S = 5.0  # how long the hub may take to answer
CHUNK = 1 << 20  # what a broken connection may cost, and how often a person can stop it
SETTING = "HF_HOME"
NAMED = {"model": "model", "dataset": "data set"}
YES = ("1", "ON", "YES", "TRUE")
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


def fetch_hub(hub: Hub, report: Report, *, file: str | None = None) -> Path:
    """The snapshot's folder in the hub's cache, with the repository's model files, or the one GGUF `file`, in it.

    What an interrupted call left is used. CheckpointError where the hub does not answer within 5 s, has no such model,
    wants a token, or sent something else than it said.
    """
    return _fetch_repository(hub, report, "model", lambda siblings: _choose(hub.repo, siblings, file))


def fetch_data(hub: Hub, report: Report, kinds: Sequence[str]) -> Path:
    """The folder in the hub's cache with the files of a data set, at any depth, that end with one of `kinds`."""

    def choose(siblings: Sequence[Any]) -> list[Any]:
        wanted = [s for s in siblings if s.rfilename.endswith(tuple(kinds)) and ".." not in s.rfilename.split("/")]
        if not wanted:
            raise CheckpointError(f"the data set {hub.repo} has no file that ends with {', '.join(kinds)}")
        return sorted(wanted, key=lambda sibling: sibling.size or 0)

    return _fetch_repository(hub, report, "dataset", choose)


def _fetch_repository(hub: Hub, report: Report, kind: str, choose: Callable[[Sequence[Any]], list[Any]]) -> Path:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in YES:
        raise CheckpointError(
            f"{hub.repo} is not on this machine, and HF_HUB_OFFLINE is set: unset it to fetch, or name a model that is"
        )
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.utils import disable_progress_bars, logging

    constants.HF_HUB_DISABLE_TELEMETRY = True  # else it asks the hub for more than the model, and waits for that too
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    logging.set_verbosity_error()  # its warnings and bars would be written across the screen
    disable_progress_bars()
    cache, endpoint = caches.hub_cache(), os.environ.get("HF_ENDPOINT") or None
    try:
        with disk_errors(cache, SETTING):
            report(f"asking the hub for {hub.repo}", 0, 0)
            info = HfApi(endpoint=endpoint).repo_info(
                hub.repo, repo_type=kind, revision=hub.revision, files_metadata=True, timeout=ANSWER_S
            )
            wanted = choose(info.siblings or [])
            folder = cache / f"{kind}s--{hub.repo.replace('/', '--')}"
            _fetch_blobs(hub.repo, kind, str(info.sha), wanted, folder, report, endpoint)
            report(f"finishing {hub.repo}", 0, 0)
            snapshot = snapshot_download(
                hub.repo,
                repo_type=kind,
                revision=hub.revision,
                cache_dir=cache,
                endpoint=endpoint,
                allow_patterns=[glob.escape(sibling.rfilename) for sibling in wanted],
            )
            for sibling in wanted:
                _check_snapshot(Path(snapshot) / sibling.rfilename, sibling)
            return Path(snapshot)
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


def _fetch_blobs(
    repo: str, kind: str, commit: str, wanted: list[Any], folder: Path, report: Report, endpoint: str | None
) -> None:
    """Put the files' contents into the cache, each under its hash."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import WeakFileLock

    blobs, locks = folder / "blobs", folder.parent / ".locks" / folder.name
    blobs.mkdir(parents=True, exist_ok=True)
    locks.mkdir(parents=True, exist_ok=True)
    total, finished = sum(sibling.size or 0 for sibling in wanted), 0
    missing = [sibling for sibling in wanted if not (blobs / _expected(sibling)).exists()]
    there = sum(_size(_partial(blobs, sibling)) for sibling in missing)
    require_space(folder, sum(sibling.size or 0 for sibling in missing) - there, SETTING)

    def progress(done: int) -> None:
        report(f"downloading {repo}", finished + done, total)

    for sibling in wanted:
        blob, partial = blobs / _expected(sibling), _partial(blobs, sibling)
        with WeakFileLock(locks / f"{blob.name}.lock"):  # the library's own: another program that fetches it waits
            if not blob.exists():
                url = hf_hub_url(repo, sibling.rfilename, repo_type=kind, revision=commit, endpoint=endpoint)
                _grow(partial, url, sibling.size or 0, progress, endpoint)
                if not _is_intact(partial, sibling, report):
                    partial.unlink()
                    raise _damaged(sibling.rfilename)
                partial.rename(blob)
        finished += sibling.size or 0
        progress(0)


def _grow(partial: Path, url: str, size: int, progress: Callable[[int], None], endpoint: str | None) -> None:
    """Fetch what `partial` lacks of `size` bytes; a broken connection is taken up again where it broke."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    headers = build_hf_headers(library_name="likely") | {"Accept-Encoding": "identity"}
    with open(partial, "ab") as out:
        if out.tell() > size:
            out.seek(0)
            out.truncate()
        sink = _Counted(out, progress)
        if size > CHUNK and out.tell() < size:
            for piece in _xet_pieces(url, headers, out.tell(), size, endpoint):
                sink.write(piece)
        while (before := out.tell()) < size:
            try:
                http_get(url, sink, resume_size=before, headers=headers, expected_size=size)  # type: ignore[arg-type]
            except Exception as error:  # it has tried a few times; what has moved on is tried further
                if isinstance(error, LikelyError) or getattr(error, "errno", None) or out.tell() <= before:
                    raise


class _Counted:
    """A file that says how long it is whenever it grows; raising there ends the download."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None]) -> None:
        self._file, self._progress = file, progress
        self.tell, self.seek, self.truncate = file.tell, file.seek, file.truncate

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self._file.flush()
        self._progress(self._file.tell())
        return written


def _xet_pieces(url: str, headers: dict[str, str], start: int, size: int, endpoint: str | None) -> Iterator[bytes]:
    """The file from `start` on through xet, in order; ends early, or at once, where xet cannot give it."""
    try:
        from hf_xet import XetFileInfo, XetSession
        from huggingface_hub import constants, get_hf_file_metadata, get_session

        if constants.HF_HUB_DISABLE_XET:
            return
        data = get_hf_file_metadata(url, headers=headers, endpoint=endpoint).xet_file_data
        if data is None:
            return
        granted = get_session().get(data.refresh_route, headers=headers).headers
        stream = (
            XetSession()
            .new_download_stream_group(
                endpoint=granted["X-Xet-Cas-Url"],
                token=granted["X-Xet-Access-Token"],
                token_expiry_unix_secs=int(granted["X-Xet-Token-Expiration"]),
                token_refresh_url=data.refresh_route,
                token_refresh_headers=headers,
            )
            .download_stream(XetFileInfo(data.file_hash, size), start=start)
        )
    except Exception:  # no xet here, or another one than we know: plain HTTP gives the same bytes
        return
    while True:
        try:
            piece = next(stream)
        except Exception:  # its end, or whatever broke: HTTP fetches what is missing
            return
        yield piece


def _partial(blobs: Path, sibling: Any) -> Path:
    """Where a blob grows until it is whole, under no name that the library writes to."""
    return blobs / f"{_expected(sibling)}.likely.incomplete"


def _expected(sibling: Any) -> str:
    """The hub's hash: SHA-256 of a large file, git's blob SHA-1 of a small one. The cache names the blob by it."""
    return str(sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id)


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


def _check_snapshot(path: Path, sibling: Any) -> None:
    """Hash what the library fetched itself: a mirror gave another name for the blob than the hub's hash."""
    blob = path.resolve()
    if blob.name != _expected(sibling) and not _is_intact(blob, sibling, lambda *_: None):
        path.unlink()
        blob.unlink(missing_ok=True)
        raise _damaged(sibling.rfilename)


def _damaged(name: str) -> CheckpointError:
    return CheckpointError(f"{name} is damaged: its hash is not the one the hub gives; pull again")


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
        near = [name for name in catalogue.nearest(hub.repo) if what == "model"][:1]
        hint = f"did you mean {near[0]}? Else check its name" if near else "check its name"
        return CheckpointError(f"the hub has no {what} {hub.repo!r} that you may read; {hint}, or `hf auth login`")
    if status is not None:
        return CheckpointError(f"the hub answered {status} for {hub.repo}; try again later")
    return CheckpointError(f"the hub cannot be reached for {hub.repo} ({kind}); go online, or name a file or a folder")
