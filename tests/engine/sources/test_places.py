"""Models that are on the disk already: in the hub's cache, LM Studio's folders, a person's own; and the default one."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from likely.engine import preferences
from likely.engine.errors import CheckpointError
from likely.engine.sources import store
from likely.engine.sources.fetch import places
from likely.engine.sources.model_info import describe
from likely.metal import mx
from tests.engine import hub_server, tiny
from tests.engine.sources.test_fetch import file_size_limit

REPO = "me/tiny"


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
    arrays = {name: mx.array(array) for name, array in tiny.weights(tiny.LLAMA).items()}
    return tiny.write_folder(tmp_path_factory.mktemp("folder") / "tiny", tiny.LLAMA, arrays)


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.HubServer]:
    with hub_server.serve(REPO, {path.name: path.read_bytes() for path in folder.iterdir()}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


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


# -- the hub's cache ---------------------------------------------------------------------------------------------------


def test_of_two_snapshots_that_of_main_is_used_and_else_one_that_is_whole(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old, new = snapshot(cache, folder, "a" * 40), snapshot(cache, folder, "b" * 40)
    os.utime(old, (2e9, 2e9))
    refs = cache / "models--me--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("b" * 40)
    assert [info.path for info in store.list()] == [new]
    (cache / "models--me--tiny" / "blobs" / f"{'b' * 40}-model.safetensors").unlink()  # its link dangles now
    assert [info.path for info in store.list()] == [old]
    info = store.resolve(REPO)
    assert info is not None and info.path == old
    shutil.rmtree(refs)
    (old / "tokenizer.json").unlink()
    assert store.list() == () and store.resolve(REPO) is None


@pytest.mark.parametrize(
    "harm",
    [
        lambda place: (place / "config.json").unlink(),
        lambda place: (place / "tokenizer.json").unlink(),
        lambda place: (place / "model.safetensors").unlink(),
        lambda place: os.truncate((place / "model.safetensors").resolve(), 1000),
        lambda place: (place / "config.json").resolve().write_text("{"),
        lambda place: (place / "config.json").resolve().write_text('{"model_type": "clip_vision"}'),
        lambda place: (place / "config.json").resolve().write_text('{"model_type": ["llama"]}'),
        lambda place: (place / "config.json").resolve().unlink(),
        lambda place: (place / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}'),
    ],
)
def test_what_is_broken_or_of_no_family_that_runs_is_passed_over(
    folder: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    place = snapshot(tmp_path / "cache", folder, "a" * 40)
    whole = snapshot(tmp_path / "cache", folder, "c" * 40, "other--one")
    assert len(store.list()) == 2
    harm(place)
    assert [info.path for info in store.list()] == [whole] and store.resolve(REPO) is None


def test_what_a_download_left_unfinished_is_finished(hub: hub_server.HubServer) -> None:
    info = store.pull(REPO)
    (info.path / "model.safetensors").resolve().unlink()
    assert store.resolve(REPO) is None
    assert store.pull(REPO) == info


def test_without_a_network_what_is_here_is_used(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot(tmp_path / "cache", folder, "a" * 40)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert store.pull(REPO).name == REPO
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        store.pull("me/other")


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
    assert places.hub_cache() == tmp_path / where
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert theirs == str(tmp_path / where)


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
    assert info.name == "qwen3-0.6b" and info.license == "apache-2.0" and info.path == kept
    assert store.resolve(repo) == store.resolve("qwen3-0.6b") == store.find("qwen3-0.6b") == info
    store.remove("qwen3-0.6b")
    assert not kept.exists()


# -- removal -----------------------------------------------------------------------------------------------------------


def test_what_others_use_too_is_removed_only_when_that_is_said(hub: hub_server.HubServer, tmp_path: Path) -> None:
    info = store.pull(REPO)
    with pytest.raises(CheckpointError, match=r"me/tiny lies in the hub's cache.*`likely rm me/tiny --shared`"):
        store.remove(REPO)
    assert store.list() == (info,)
    assert store.remove(REPO, shared=True) == info and store.list() == ()
    assert not list((tmp_path / "cache").rglob("*tiny/*/*"))


@pytest.mark.parametrize("shared", [False, True])
def test_what_lm_studio_has_is_used_in_place_and_never_removed(
    folder: Path, gguf_file: Path, tmp_path: Path, shared: bool
) -> None:
    theirs = tmp_path / "person" / ".lmstudio" / "models" / "me"
    shutil.copytree(folder, theirs / "tiny")
    (theirs / "tiny-gguf").mkdir()
    for name in ("tiny.gguf", "mmproj-tiny.gguf", "big-00001-of-00002.gguf"):
        shutil.copy(gguf_file, theirs / "tiny-gguf" / name)
    found = {info.name: info for info in store.list()}
    assert set(found) == {"me/tiny", "me/tiny-gguf/tiny.gguf"}
    assert {info.source for info in found.values()} == {"LM Studio"}
    for name, info in found.items():
        assert store.resolve(name) == info and info.path.is_relative_to(theirs)
        with pytest.raises(CheckpointError, match=f"{name} was put here by another program or by you: delete {theirs}"):
            store.remove(name, shared=shared)
        assert info.path.exists()


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["pointer", "setting", "old"])
def test_where_lm_studio_keeps_its_models(folder: Path, tmp_path: Path, how: str) -> None:
    person, elsewhere = tmp_path / "person", tmp_path / "elsewhere"
    match how:
        case "pointer":
            person.mkdir()
            (person / ".lmstudio-home-pointer").write_text(f"{elsewhere}\n")
            models = elsewhere / "models"
        case "setting":
            (person / ".lmstudio").mkdir(parents=True)
            (person / ".lmstudio" / "settings.json").write_text(json.dumps({"downloadsFolder": str(elsewhere)}))
            models = elsewhere
        case _:
            models = person / ".cache" / "lm-studio" / "models"
    shutil.copytree(folder, models / "me" / "tiny")
    assert [info.path for info in store.list()] == [models / "me" / "tiny"]


def test_folders_that_a_person_names(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "yours"):
        shutil.copytree(folder, tmp_path / name / "deep" / f"tiny-{name}")
    monkeypatch.setenv("LIKELY_MODELS", str(tmp_path / "mine"))
    preferences.add_folder(tmp_path / "yours")
    preferences.add_folder(tmp_path / "gone")
    names = ["deep/tiny-mine", "deep/tiny-yours"]
    assert [info.name for info in store.list()] == names
    for name in names:
        info = store.resolve(name)
        assert info is not None and info.source.startswith("folder ")
    with pytest.raises(CheckpointError, match="did you mean deep/tiny-mine"):
        store.find("deep/tiny-mini")


# -- which model, where none is named ----------------------------------------------------------------------------------


def test_of_several_the_one_chosen_last_is_the_default(folder: Path, tmp_path: Path) -> None:
    places = [snapshot(tmp_path / "cache", folder, "a" * 40, f"me--{name}") for name in ("one", "two")]
    assert store.default() is None
    for name in ("me/one", "me/two"):
        preferences.choose(name)
        assert store.default() == store.resolve(name) and preferences.chosen() == name
    shutil.rmtree(places[1])
    assert store.default() == store.resolve("me/one")  # what was chosen is gone; there is one left


def test_a_path_that_was_chosen_holds_from_other_folders_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    preferences.choose("./tiny")
    monkeypatch.chdir(tmp_path)
    info = store.default()
    assert info is not None and info.path == folder
    preferences.choose("other", within=tmp_path / "elsewhere")
    assert preferences.chosen(tmp_path / "elsewhere") == "other" and preferences.chosen() == str(folder)


def test_preferences_that_cannot_be_read_or_written_are_none(home: Path) -> None:
    home.mkdir()
    for text in ("", "[]", '{"model": 3, "folders": "x"}'):
        (home / "preferences.json").write_text(text)
        assert preferences.chosen() == "" and preferences.folders() == ()
    preferences.choose("tiny")
    assert preferences.chosen() == "tiny"
    shutil.rmtree(home)
    home.write_text("a file")
    preferences.choose("other")
    assert preferences.chosen() == ""


def test_a_full_disk_leaves_the_preferences_as_they_were_and_nothing_beside(home: Path, tmp_path: Path) -> None:
    preferences.choose("tiny")
    with file_size_limit(10):
        preferences.choose("other")
        preferences.add_folder(tmp_path)
    assert preferences.chosen() == "tiny" and preferences.folders() == ()
    assert [path.name for path in home.iterdir()] == ["preferences.json"]


def test_no_folder_is_lost_where_several_are_added_at_once(home: Path, tmp_path: Path) -> None:
    wanted = [tmp_path / str(i) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(preferences.add_folder, wanted))
    assert set(preferences.folders()) == set(wanted) and [path.name for path in home.iterdir()] == ["preferences.json"]
