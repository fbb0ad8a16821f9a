"""`likely pull`, `models`, `rm`, and which model a verb uses where none is named."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from likely.app.cli.options import choosing
from likely.engine.base.files import preferences
from likely.engine.base.files.artifacts import ADAPTER, note
from likely.engine.base.files.home import home
from likely.engine.weights.sources import store
from likely.engine.weights.sources.fetch import catalogue
from tests.cli.conftest import Likely, random_model
from tests.engine import hub_server

REPO = "me/tiny"


@pytest.fixture(autouse=True)
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody with an empty home folder."""
    for name in ("LIKELY_MODELS", "LIKELY_MODEL", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "likely"))
    return tmp_path


def put(person: Path, name: str) -> Path:
    """A model where LM Studio would have it."""
    (person / ".lmstudio" / "models" / "me").mkdir(parents=True, exist_ok=True)
    return random_model(person / ".lmstudio" / "models" / "me" / name)


def test_models_says_where_each_lives_and_which_is_used(likely: Likely, person: Path) -> None:
    assert "no model is here yet: `likely models --known`" in likely("models")[1]
    paths = [put(person, "one"), put(person, "two")]
    code, out, _ = likely("models", "--default", "me/two")
    lines = out.splitlines()[1:]
    assert code == 0 and [line[:8] for line in lines] == ["  me/one", "* me/two"]
    assert all(line.endswith(str(path)) for line, path in zip(lines, paths, strict=True))
    told = json.loads(likely("models", "--json")[1])
    assert [(row["name"], row["default"]) for row in told] == [("me/one", False), ("me/two", True)]


@pytest.mark.slow(2)
def test_what_was_made_here_is_known_by_name_from_any_folder_until_it_is_removed(
    likely: Likely, person: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter and what it was fused into; the oracle of a name is the path that it stands for."""
    base, made, elsewhere = random_model(tmp_path / "base"), tmp_path / "made", tmp_path / "elsewhere"
    for folder in (made, elsewhere):
        folder.mkdir()
    (made / "rows.jsonl").write_text("".join(f'{{"prompt": "tag {i}", "completion": "<{i}>"}}\n' for i in range(12)))
    monkeypatch.chdir(made)
    tuned = ("--length", 64, "--steps", 3, "--layers", 1, "--rate", 0.02, "--out", "style")
    assert likely("tune", "rows.jsonl", "-M", base, *tuned)[0] == 0
    monkeypatch.chdir(elsewhere)
    assert likely("fuse", "style", "--out", made / "whole")[0] == 0  # the rows that it saw are found, too
    listed = likely("models").out
    assert "made/style" in listed and "-A style/best those that did best" in listed and "fused here, of" not in listed
    told = {row["name"]: row for row in json.loads(likely("models", "--json").out)}
    assert told["whole"]["source"] == f"fused here, of {base}" and told["style"]["made"] == "adapter"

    def offered(*words: str) -> set[str]:
        monkeypatch.setenv("_LIKELY_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(("likely", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        found = set(likely().out.splitlines())
        monkeypatch.delenv("_LIKELY_COMPLETE")
        return found

    for words in (("run", "-M", "wh"), ("rm", "wh"), ("diff", "x", "wh"), ("tune", "--model", "wh")):
        assert offered(*words) == {"plain,whole"}
    assert offered("chat", "-A", "st") == offered("fuse", "st") == offered("rm", "st") == {"plain,style"}
    assert offered("run", "-M", "./wh") == {"file,./wh"} and offered("run", "-M", "none") == {"file,none"}
    assert "plain,qwen3-4b" in offered("pull", "qwen3-4")

    def said(*words: object) -> str:
        code, out, err = likely("explain", "tag 1", "--json", *words)
        return str(json.loads(out)["tokens"]) if code == 0 else err

    assert said("-M", base, "-A", "style") == said("-M", base, "-A", made / "style") != said("-M", base)
    assert said("-M", base, "-A", "style/best") == said("-M", base, "-A", made / "style" / "best")
    assert said("-M", "whole") == said("-M", made / "whole")
    (made / "style" / "photo.jpg").touch()
    assert f"style is an adapter of {base}, no model: -A style puts it on one" in said("-M", "style")
    assert "made/style puts it on one" in likely("quantize", made / "style").err
    assert "holds photo.jpg too, which was not made here" in likely("rm", "style", "--yes").err
    (made / "style" / "photo.jpg").unlink()
    assert likely("rm", "style", stdin=b"n\n")[0] == 130 and (made / "style").exists()
    code, _, err = likely("rm", "style", stdin=b"")  # nobody answers
    assert code == 1 and "--yes removes unasked" in err and (made / "style").exists()
    assert "is removed" in likely("rm", "../made/style", "--yes").out and not (made / "style").exists()
    shutil.rmtree(made / "whole")
    assert f"whole was made here, and is gone from {made / 'whole'}" in said("-M", "whole")
    assert "did you mean whole?" in likely("rm", "whoel").err
    assert "is forgotten" in likely("rm", "whole").out and "whole" not in likely("models").out


def test_a_damaged_registry_of_what_was_made_is_told_and_kept_as_it_is(likely: Likely, person: Path) -> None:
    folders = [person / name / "style" for name in ("gone", "here")]
    folders[1].mkdir(parents=True)
    for folder in folders:
        note(folder, ADAPTER, "base")
    assert f"likely rm {folders[0]} forgets it" in likely("models").out  # as the name is another's
    assert "did you mean style?" in likely("explain", "hi", "-M", put(person, "one"), "-A", "stile").err
    registry = home() / "made.json"
    registry.write_bytes(damaged := registry.read_bytes()[:99])
    note(person / "later", ADAPTER, "base")
    assert registry.read_bytes() == damaged
    for told in (likely("models").err, likely("rm", "style").err):
        assert f"cannot read {registry}: " in told and "until you mend it" in told


def test_a_default_must_be_here(likely: Likely) -> None:
    code, _, err = likely("models", "--default", "qwen3-4b")
    assert code == 1 and err == "likely: qwen3-4b is not on this machine yet: `likely pull qwen3-4b` fetches it\n"
    code, _, err = likely("models", "--default", "qwen-4b")
    assert code == 1 and "did you mean qwen3-4b" in err


def test_a_folder_that_is_added_is_looked_through_from_then_on(likely: Likely, person: Path) -> None:
    (person / "mine").mkdir()
    path = random_model(person / "mine" / "tiny")
    assert str(path) in likely("models", "--add", str(person / "mine"))[1]
    assert str(path) in likely("models")[1]


def test_the_catalogue_lists_name_size_licence_memory_and_what_each_is_good_for(likely: Likely) -> None:
    out = likely("models", "--known")[1]
    for known in catalogue.KNOWN.values():
        (line,) = [line for line in out.splitlines() if f" {known.name} " in line]
        assert known.good_for in line and known.license in line and f"{known.memory_gb} GB" in line
        assert ("?" in line) == (not known.checked)


def test_pull_and_rm_of_what_the_hub_has(likely: Likely, person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = random_model(person / "source")
    with hub_server.serve(REPO, {path.name: path.read_bytes() for path in source.iterdir()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        code, out, _ = likely("pull", REPO)
    place = person / ".cache" / "huggingface" / "hub" / "models--me--tiny" / "snapshots" / hub_server.COMMIT
    assert code == 0 and out.startswith("me/tiny is here: 452 kB, llama") and f", {place}; hub cache" in out
    code, out, err = likely("rm", REPO, "--yes")
    assert code == 1 and "which other programs use too" in err and "--shared" in err and place.exists()
    assert likely("rm", REPO, "--yes", "--shared")[0] == 0 and not place.exists()


def test_a_size_that_nobody_has_seen_is_checked_at_the_first_pull(
    likely: Likely, person: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, source = catalogue.KNOWN["qwen3-0.6b"], random_model(person / "source")
    assert isinstance(known.source, catalogue.Hub) and not known.checked
    with hub_server.serve(known.source.repo, {path.name: path.read_bytes() for path in source.iterdir()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        code, _, err = likely("pull", "qwen3-0.6b")
    assert code == 0 and f"the catalogue of {catalogue.DATE} computed" in err and "it is 0 MB" in err


def test_rm_leaves_what_another_program_has(likely: Likely, person: Path) -> None:
    path = put(person, "one")
    code, _, err = likely("rm", "me/one", "--yes", "--shared")
    assert code == 1 and f"delete {path} yourself" in err and path.exists()


# -- where no model is named -------------------------------------------------------------------------------------------

RUN = [sys.executable, "-c", "from likely.app.cli import main; main()", "run", "hi", "--raw", "--max-tokens", "2", "-q"]


def run(**kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(RUN, capture_output=True, text=True, stdin=subprocess.DEVNULL, **kwargs)


def test_a_pipe_without_a_model_is_told_how_in_one_line() -> None:
    done = run()
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("likely: no model is on this machine: fetch one with `likely pull ")
    assert "`likely pull smollm2` (93 MB), or name one with -M" in done.stderr


@pytest.mark.slow
def test_a_pipe_uses_the_only_model_and_of_several_the_chosen_one(person: Path) -> None:
    put(person, "one")
    assert run().returncode == 0
    put(person, "two")
    done = run()
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "2 models are here and none is chosen (me/one, me/two)" in done.stderr
    assert "`likely models --default NAME`" in done.stderr
    preferences.choose("me/two")
    assert run().returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("run", "hi", "--raw", "-m", "9", "--seed", "1"),
        ("explain", "hi"),
        ("chat", "--plain", "-m", "9", "--seed", "1"),
    ],
)
def test_one_choice_holds_for_every_verb(likely: Likely, person: Path, words: tuple[str, ...]) -> None:
    said = {}
    for seed, name in enumerate(("one", "two")):
        random_model(person / ".lmstudio" / "models" / "me" / name, seed)
        said[name] = likely(*words, "-M", f"me/{name}", stdin=b"hi\n/quit\n").out
    assert said["one"] != said["two"]
    for name in ("two", "one"):
        preferences.choose(f"me/{name}")
        assert likely(*words, stdin=b"hi\n/quit\n")[:2] == (0, said[name])


@pytest.mark.slow
def test_a_terminal_is_asked_once(person: Path) -> None:
    for name in ("one", "two"):
        put(person, name)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(RUN, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, close_fds=True)
    os.close(theirs)
    seen = b""
    while b"number [1]:" not in seen:
        seen += os.read(ours, 1000)
    os.write(ours, b"2\n")
    child.communicate()
    os.close(ours)
    assert b"1  me/one" in seen and b"2  me/two" in seen
    assert child.returncode == 0 and preferences.chosen() == "me/two"
    assert run().returncode == 0  # and never again


def test_an_empty_machine_is_asked_what_to_fetch(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    pages, asked = {"SC_PAGE_SIZE": catalogue.GIB, "SC_PHYS_PAGES": 8}, os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: pages[name] if name in pages else asked(name))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **__: 1)
    assert choosing.ask() == "qwen3-1.7b" == preferences.chosen()
    shown = capfd.readouterr().err
    assert "suit its 8 GB of memory" in shown and "smollm2" in shown and "instant, tiny" in shown
    assert "968 MB" in shown and "apache-2.0" in shown and "qwen3-4b" not in shown
    assert store.default() is None  # it is not here yet: `run` fetches it next
