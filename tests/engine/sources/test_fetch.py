"""Downloads: `pip download` from a folder and a loopback index, the hub's protocol from a loopback server."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from likely.engine.base.errors import CheckpointError, Interrupted
from likely.engine.weights.sources.fetch.catalogue import Hub, Package
from likely.engine.weights.sources.fetch.hub import fetch_hub
from likely.engine.weights.sources.fetch.package import fetch_package
from likely.engine.weights.sources.fetch.progress import silent
from tests.engine import hub_server, index_server
from tests.support.limits import file_size_limit

DATA = bytes(range(256)) * 8192  # 2 MiB; pip shows no progress below half of one
PACKAGE = Package(
    wheels=("tiny-model==1.0.0", "tiny-model-part2==1.0.0"), parts=("tiny/model.part0", "tiny/model.part1"),
    filename="model.gguf", sha256=hashlib.sha256(DATA).hexdigest(), nbytes=len(DATA), notices=("tiny/NOTICE",),
)  # fmt: skip
WHEELS = (
    index_server.wheel("tiny-model", {"tiny/model.part0": DATA[:1_200_000], "tiny/NOTICE": b"whose it is"}),
    index_server.wheel("tiny-model-part2", {"tiny/model.part1": DATA[1_200_000:]}),
)
REPO = "me/tiny"
FILES = {
    "config.json": b"{}", "model.safetensors": DATA, "tokenizer.json": b"{}", "README.md": b"---\nlicense: mit\n---\n",
    "pytorch_model.bin": b"pickle", "onnx/model.safetensors": b"elsewhere", "tiny.gguf": DATA,
}  # fmt: skip


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip's own settings point to, and no index."""
    folder = index_server.write_wheels(tmp_path / "wheels", *WHEELS)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, not the person's."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.HubServer]:
    with hub_server.serve(REPO, dict(FILES)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


# -- packages ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[index_server.IndexServer]:
    with index_server.serve(*WHEELS) as server:
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        yield server


def fails(line: str, *, package: Package | None = None, target: Path | None = None) -> None:
    """Fetching the package, or the repository, is refused in one such line."""
    with pytest.raises(CheckpointError, match=line) as caught:
        if package is not None and target is not None:
            fetch_package(package, target, silent)
        else:
            fetch_hub(Hub(REPO), silent)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_progress_counts_the_bytes_of_every_wheel(target: Path, index: index_server.IndexServer) -> None:
    total, seen = sum(len(data) for _, data in WHEELS), list[tuple[str, int, int]]()
    fetch_package(PACKAGE, target, lambda *progress: seen.append(progress), download_bytes=total)
    downloads = [(done, of) for stage, done, of in seen if stage == "downloading tiny-model"]
    assert downloads[0] == (0, total) and downloads[-1] == (total, total) and downloads == sorted(downloads)
    assert ("unpacking model.gguf", len(DATA), len(DATA)) in seen
    shutil.rmtree(target)
    target.mkdir()
    with file_size_limit(100_000):
        fails("the disk is full", package=PACKAGE, target=target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, r"has SHA-256 .*, expected 0000.*discarded"),
        ({"wheels": ("tiny-model==2.0.0",)}, "pip's index has no tiny-model==2.0.0"),
        ({"parts": ("tiny/elsewhere",)}, "the wheel of tiny-model==1.0.0 is damaged"),
        ({"nbytes": 1 << 60}, "not enough disk space: .* MB needed"),
    ],
)
def test_what_is_wrong_is_said(wheels: Path, target: Path, change: dict[str, object], message: str) -> None:
    fails(message, package=Package(**{**PACKAGE.__dict__, **change}), target=target)  # type: ignore[arg-type]


def test_raising_from_the_report_stops_pip(wheels: Path, target: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        fetch_package(PACKAGE, target, stop)
    assert list(target.iterdir()) == []


# -- the hub -----------------------------------------------------------------------------------------------------------


def partials(cache: Path) -> list[Path]:
    """What an interrupted download has left."""
    return list((cache / f"models--{REPO.replace('/', '--')}" / "blobs").glob("*.incomplete"))


def test_only_what_a_model_needs_is_fetched(hub: hub_server.HubServer, cache: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = fetch_hub(Hub(REPO), lambda *progress: seen.append(progress))
    assert folder == cache / "models--me--tiny" / "snapshots" / hub_server.COMMIT
    names = ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: FILES[name] for name in names}
    assert hub.downloads()[-1] == "model.safetensors" and not partials(cache)
    assert all(path.startswith((f"/{REPO}/", f"/api/models/{REPO}")) for _, path, _ in hub.requests)
    total = sum(len(FILES[name]) for name in names)
    assert (f"downloading {REPO}", total, total) in seen


def test_other_programs_find_what_was_fetched_and_we_what_they_have(hub: hub_server.HubServer, cache: Path) -> None:
    """By the library itself, without a network: what mlx-lm and transformers call."""
    folder = fetch_hub(Hub(REPO), silent)
    found = huggingface_hub.snapshot_download(REPO, cache_dir=cache, local_files_only=True, allow_patterns=["*.json"])
    assert Path(found) == folder
    assert huggingface_hub.try_to_load_from_cache(REPO, "model.safetensors", cache_dir=cache) is not None
    shutil.rmtree(cache)
    theirs = huggingface_hub.snapshot_download(REPO, cache_dir=cache, endpoint=hub.url)
    hub.requests.clear()
    assert fetch_hub(Hub(REPO), silent) == Path(theirs) and hub.downloads() == []


def test_one_gguf_file(hub: hub_server.HubServer, cache: Path) -> None:
    folder = fetch_hub(Hub(REPO), silent, file="tiny.gguf")
    assert [path.name for path in folder.iterdir()] == ["tiny.gguf"]
    with pytest.raises(CheckpointError, match=r"has no file 'tinny\.gguf'; it has: tiny\.gguf"):
        fetch_hub(Hub(REPO), silent, file="tinny.gguf")
    hub.files |= {f"tiny-{n}.gguf": b"" for n in range(9)}
    for wanted in ("tiny-x.gguf", "0"):  # near some, and near none
        with pytest.raises(CheckpointError) as error:
            fetch_hub(Hub(REPO), silent, file=wanted)
        assert str(error.value).count(".gguf") - wanted.count(".gguf") == 3


@pytest.mark.slow
def test_a_dropped_connection_is_resumed(hub: hub_server.HubServer, cache: Path) -> None:
    hub.cut_after = 1_500_000

    def mend(stage: str, done: int, total: int) -> None:
        if done > 1_000_000:
            hub.cut_after = None

    folder = fetch_hub(Hub(REPO), mend)
    assert (folder / "model.safetensors").read_bytes() == DATA
    assert f"bytes={1 << 20}-" in [range_ for _, _, range_ in hub.requests]


def stop(stage: str, done: int, total: int) -> None:
    """A person who stops a download early."""
    if done > 500_000:
        raise Interrupted("stopped")


def test_a_cancelled_download_is_resumed_by_the_next(hub: hub_server.HubServer, cache: Path) -> None:
    with pytest.raises(Interrupted):
        fetch_hub(Hub(REPO), stop)
    assert len(partials(cache)) == 1 and not list(cache.rglob("model.safetensors"))
    hub.requests.clear()
    folder = fetch_hub(Hub(REPO), silent)
    assert (folder / "model.safetensors").read_bytes() == DATA and not partials(cache)
    assert hub.downloads() == ["model.safetensors"]
    assert any(range_.startswith("bytes=") for _, _, range_ in hub.requests)


def test_a_large_file_is_sent_from_another_host_which_is_shown_no_token(
    hub: hub_server.HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of a download that was stopped is gone on with, or begun again where it is of no use."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.cdn = hub.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Interrupted):
        fetch_hub(Hub(REPO), stop)
    (partial,) = partials(cache)
    partial.write_bytes(bytes(len(DATA) + 1))  # longer than the file ever was
    with pytest.raises(Interrupted):
        fetch_hub(Hub(REPO), stop)
    assert (fetch_hub(Hub(REPO), silent) / "model.safetensors").read_bytes() == DATA
    assert set(hub.tokens) == {None} and any(range_ for _, path, range_ in hub.requests if path.startswith("/cdn/"))


@pytest.fixture
def xet(hub: hub_server.HubServer, tmp_path: Path) -> hub_server.HubServer:
    """The same server, whose large file lies in a content store too."""
    hf_xet = pytest.importorskip("hf_xet")
    (tmp_path / "store").mkdir()
    (tmp_path / "large").write_bytes(DATA)
    hub.xet = f"local://{tmp_path / 'store'}"
    with hf_xet.XetSession().new_upload_commit(endpoint=hub.xet) as commit:
        upload = commit.start_upload_file(str(tmp_path / "large"))
    hub.xet_hashes["model.safetensors"] = upload.result().xet_info.hash
    return hub


def test_a_large_file_comes_through_xet_and_goes_on_where_it_stopped(xet: hub_server.HubServer, cache: Path) -> None:
    assert (fetch_hub(Hub(REPO), silent) / "model.safetensors").read_bytes() == DATA
    assert "model.safetensors" not in xet.downloads() and "README.md" in xet.downloads()
    shutil.rmtree(cache)
    xet.xet_hashes, hashes = {}, xet.xet_hashes
    with pytest.raises(Interrupted):
        fetch_hub(Hub(REPO), stop)
    (partial,) = partials(cache)
    partial.write_bytes(b"?" + partial.read_bytes()[1:])  # to see that the rest alone is fetched: the hash tells
    xet.xet_hashes = hashes
    with pytest.raises(CheckpointError, match="damaged"):
        fetch_hub(Hub(REPO), silent)
    assert (fetch_hub(Hub(REPO), silent) / "model.safetensors").read_bytes() == DATA


def test_where_xet_fails_the_same_bytes_come_over_http(xet: hub_server.HubServer, cache: Path, tmp_path: Path) -> None:
    xet.xet = f"local://{tmp_path / 'large'}/no"  # a file is no store
    assert (fetch_hub(Hub(REPO), silent) / "model.safetensors").read_bytes() == DATA
    assert "model.safetensors" in xet.downloads()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_the_hub_sends_is_hashed(hub: hub_server.HubServer, cache: Path, name: str) -> None:
    hub.corrupt.add(name)
    fails(f"{name} is damaged: its hash is not the one the hub gives")
    assert not partials(cache) and not list(cache.rglob(name))
    hub.corrupt.clear()
    assert (fetch_hub(Hub(REPO), silent) / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(
    ("of", "status", "code", "message"),
    [
        ("status", 401, "RepoNotFound", "the hub has no model 'me/tiny'"),
        ("status", 404, "RepoNotFound", "the hub has no model 'me/tiny'"),
        ("status", 404, "RevisionNotFound", "has no revision 'main'"), ("status", 500, "", "the hub answered 500"),
        ("status", 401, "GatedRepo", "is gated: accept its licence on the hub, log in"),
        ("status", 403, "GatedRepo", "is gated: accept its licence"),
        ("files_status", 401, "GatedRepo", "me/tiny is gated: accept its licence on the hub, log in with"),
    ],
)  # fmt: skip
def test_refusals(hub: hub_server.HubServer, cache: Path, of: str, status: int, code: str, message: str) -> None:
    """Of the whole repository, or of its files while its list is shown."""
    setattr(hub, of, (status, code))
    fails(message)


def test_where_there_is_no_hub(hub: hub_server.HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("1", "true"):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        fails("me/tiny is not on this machine, and HF_HUB_OFFLINE is set")
    assert hub.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(CheckpointError, match=r"no model 'mlx-community/Qwen3-4B-4bits'.*; did you mean qwen3-4b\?"):
        fetch_hub(Hub("mlx-community/Qwen3-4B-4bits"), silent)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    fails(r"the hub cannot be reached for me/tiny \(ConnectError\)")


def test_a_disk_without_room(hub: hub_server.HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is known before anything is fetched, where it can be."""
    with monkeypatch.context() as little:
        little.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
        fails(r"not enough disk space: 2.1 MB needed, 1.0 MB free at .* set HF_HOME")
    assert hub.downloads() == []
    with file_size_limit(500_000):
        fails(r"the disk is full at .* set HF_HOME")
    assert not list(cache.rglob("model.safetensors"))
    shutil.rmtree(cache)
    cache.write_text("a file")
    fails(r"cannot write to .*; set HF_HOME elsewhere")
