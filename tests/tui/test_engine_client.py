"""The client of the engine, and keys: who hears of what, which model is the current one, what keys are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from likely.app import requests as r
from likely.app.tui.base import keys
from likely.app.tui.base.engine_client import EngineClient
from likely.app.tui.base.view_table import VIEWS, numbered
from likely.app.worker import Closed, Failed
from likely.engine.adapters.attached import Attached
from likely.engine.errors import DataError
from tests.tui.test_slash_commands import Noted


class Queue:
    """A worker that takes down what is asked of it, and reports what it is told to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.reports: list[tuple[int, Any]] = []

    def submit(self, request: Any) -> int:
        self.asked.append(request)
        return len(self.asked)

    def drain(self) -> list[tuple[int, Any]]:
        found, self.reports = self.reports, []
        return found


def client(adapters: Sequence[tuple[str, float]] = ()) -> tuple[EngineClient, Queue, list[str]]:
    queue, log = Queue(), list[str]()
    listener = Noted(log, "")
    listener.models_in_use = lambda: {"used"}
    return EngineClient(queue, listener, lambda: log.append("busy"), adapters), queue, log  # type: ignore[arg-type]


def facts(name: str) -> r.ModelFacts:
    return r.ModelFacts(name, 100, (b"a",), True)


def test_events_go_to_those_who_asked() -> None:
    it, queue, log = client()
    heard: list[tuple[int, list[Any]]] = []
    one = it.submit(r.Offer(), lambda job, events: heard.append((job, events)))
    it.submit(r.Offer())
    two = it.submit(r.Offer(), lambda job, events: heard.append((job, events)))
    assert log == ["busy", "busy"]
    queue.reports = [(one, "a"), (one, "b"), (2, "x"), (two, "c"), (one, "d"), (2, Closed())]
    assert it.drain() and heard == [(1, ["a", "b"]), (3, ["c"]), (1, ["d"])]
    queue.reports = [(one, "e"), (one, Closed()), (two, Closed())]
    heard.clear()
    assert not it.drain() and heard == [(1, ["e"])]
    queue.reports = [(one, "late")]
    assert not it.drain() and heard == [(1, ["e"])]


def test_a_model_is_loaded_and_others_are_let_go() -> None:
    it, queue, log = client([("dir", 0.5)])
    it.load("one", ["two"])
    assert queue.asked == [r.Load("one", ("two",), queue.asked[0].control)]
    assert it.loading == r.Progressed("one", "loading") and log[-1] == "models_changed()"
    assert not it.stop_loading()
    queue.reports = [(1, r.Progressed("one", "downloading", 1, 4))]
    it.drain()
    assert it.loading is not None and it.loading.done == 1
    assert it.stop_loading() and queue.asked[0].control.cancelled
    it.models = {"used": facts("used"), "idle": facts("idle"), "one": facts("one")}
    it.adapters = {"idle": ()}
    queue.reports = [(1, r.Loaded(facts("one")))]
    it.drain()
    assert it.current == facts("one") and it.loading is None and not it.stop_loading()
    assert queue.asked[1:] == [r.Unload("idle"), r.Adapt("one", "add", "dir", 0.5)]
    assert sorted(it.models) == ["one", "used"] and not it.adapters
    assert any(line.startswith("model_known(") for line in log) and log[-1] == "models_changed()"
    it.unload("one")
    assert it.current is None and queue.asked[-1] == r.Unload("one") and sorted(it.models) == ["used"]
    it.unload("none")
    assert queue.asked[-1] == r.Unload("none")


def test_the_model_asked_for_last_is_the_current_one() -> None:
    it, queue, log = client([("dir", 0.5)])
    it.load("one")
    it.load("two", adapters=[("other", 2.0)])
    assert queue.asked[0].control.cancelled and not queue.asked[1].control.cancelled
    queue.reports = [(1, r.Progressed("one", "late", 1, 2)), (1, Failed("stopped")), (1, r.Offered(()))]
    it.drain()
    assert it.loading == r.Progressed("two", "loading") and not any(
        line.startswith(("say", "models_offered")) for line in log
    )
    queue.reports = [(1, r.Loaded(facts("one")))]
    it.drain()
    assert it.current is None and list(it.models) == ["one"]
    queue.reports = [(2, r.Loaded(facts("two")))]
    it.drain()
    assert it.current == facts("two") and r.Adapt("two", "add", "other", 2.0) in queue.asked
    it.load("three")
    queue.reports = [(len(queue.asked), r.Offered(("offers",)))]  # type: ignore[arg-type]
    it.drain()
    assert it.loading is None and "models_offered(('offers',))" in log
    it.load("four", adapters=())
    queue.reports = [(len(queue.asked), Failed("no such model"))]
    it.drain()
    assert it.loading is None and "say('no such model', alarm=True)" in log and it.current == facts("two")


def test_adapters_are_put_on_the_current_model() -> None:
    it, queue, log = client()
    it.adapt("add", "dir")
    it.steer("calm", ["a"], ["b"], None)
    assert not queue.asked and it.attached == ()
    assert [line for line in log if "wants a model" in line and "alarm=True" in line] == log
    it.current = facts("one")
    heard: list[str] = []
    it.adapt("weigh", "calm", 0.5, heard.append)
    assert queue.asked == [r.Adapt("one", "weigh", "calm", 0.5)]
    on = (Attached("calm", Path("calm"), 0.5, "lora", 8, 2.0, ("q",), 10, "m"),)
    queue.reports = [(1, r.AdaptersChanged("one", on))]
    it.drain()
    assert it.attached == on and heard == [""] and log[-2:] == ["say('adapters: calm 0.5')", "adapters_changed()"]
    it.adapt("remove", "calm")
    queue.reports = [(2, r.AdaptersChanged("one", ())), (2, Failed("broken"))]
    it.drain()
    assert (
        it.attached == ()
        and "say('no adapter: the model as it came')" in log
        and log[-1] == "say('broken', alarm=True)"
    )
    it.adapt("add", "x", heard=heard.append)
    queue.reports = [(3, Failed("broken"))]
    it.drain()
    assert heard == ["", "broken"]
    it.steer("calm", ["a", "b"], ["c"], 3)
    asked = queue.asked[-1]
    assert (asked.model, asked.name, len(asked.toward), len(asked.away), asked.layer) == ("one", "calm", 2, 1, 3)
    assert asked.toward[1].parts == ("b",)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        keys.pretty(each)
        for each in ("ctrl+r", "up", "f1,ctrl+underscore,ctrl+slash", "comma", "x,y,z", "shift+left", "escape")
    ]
    assert said == ["^r", "↑", "f1 ^/", ",", "x y", "shift+left", "esc"]
    for mac, key in ((True, "^/"), (False, "f1")):
        monkeypatch.setattr(keys, "MAC", mac)
        assert keys.help_key() == key


def test_keys_are_remapped(tmp_path: Path) -> None:
    path, known = tmp_path / "keys.toml", {"chat.redo": "ctrl+r", "app.quit": "ctrl+q"}
    assert keys.load(path, known) == {}
    path.write_text('"app.quit" = "ctrl+x"\n[chat]\nredo = "ctrl+y"\n')
    assert keys.load(path, known) == {"app.quit": "ctrl+x", "chat.redo": "ctrl+y"}
    for text, line in (
        ("chat.rego = 'x'", "did you mean chat.redo?"),
        ("zzz = 'x'", "F1 lists them"),
        ("chat.redo = 3", "wants keys as text"),
        ("chat.redo = ''", "got ''"),
        ("=", "keys.toml"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=line):
            keys.load(path, known)


def test_views_have_numbers() -> None:
    assert numbered().startswith("1 chat · 2 compare · 3 text · 4 tune · 5 inside") and len(VIEWS) == 8
