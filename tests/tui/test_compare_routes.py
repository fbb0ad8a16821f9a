"""What a comparison does when something is heard, pressed or chosen, told to columns that only write it down."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from app import requests as r
from app.tui import presets
from app.tui.sampling import Sampling
from app.tui.tokens.layout import TokenPlace
from app.tui.views.compare import CompareScreen
from app.tui.widgets.token_view import TokenView
from app.worker import Failed
from engine.conversation import Conversation, Fork, Node
from engine.decode.strategies import PLAIN, parse
from tests.pictures import assert_picture
from tests.tui.bench import Bench, request_of, tree
from tests.tui.test_session_stories import ASK, short
from tests.tui.test_slash_commands import Noted


class Columns:
    """A comparison of columns whose sessions are real, and whose widgets write down what they are told."""

    def __init__(self, home: Path, count: int = 3) -> None:
        self.log: list[str] = []
        self.note = lambda name, **facts: Noted(self.log, name, **facts)
        self.benches = [Bench(short()) for _ in range(count)]
        self.asked: list[tuple[r.ModelRequest, Any]] = []
        facts = self.benches[0].facts
        self.engine = self.note("engine", current=facts, models={"scripted": facts}, submit=self.submit)
        self.host = self.note(
            "host", engine=self.engine, home=home, store=None, session=None, clock=lambda: 5.0,
            names_of=lambda name: self.benches[0].names
        )  # fmt: skip
        self.columns = [self.column(number, bench) for number, bench in enumerate(self.benches)]
        self.screen: Any = self.note(
            "", host=self.host, columns=self.columns, hints=self.note("hints"), top=self.note("top"),
            line=self.note("line"), seed=7, markdown=True, prompt=self.note("prompt"), prompt_text="", kept=None,
            focused=None, is_mounted=True, app=self.note("app", size=SimpleNamespace(width=84)),
            size=SimpleNamespace(width=120),
        )  # fmt: skip
        self.screen.picked = lambda: CompareScreen.picked(self.screen)
        self.screen._model_of = lambda column: CompareScreen._model_of(self.screen, column)
        self.screen._conversation = lambda *args: CompareScreen._conversation(self.screen, *args)
        self.screen._empty = lambda: CompareScreen._empty(self.screen)
        self.pushed: list[tuple[Any, Any]] = []
        self.screen.app.push_screen = lambda screen, then: self.pushed.append((screen, then))

    def column(self, number: int, bench: Bench) -> Any:
        talk = bench.session
        return self.note(
            f"column {number}", talk=talk, model="", models={""}, has_focus_within=False,
            view=self.note(f"view {number}", cursor=None, has_focus=False), kept_label="", label=f"label {number}",
            steps=(), answer=f"answer {number}", place=None, named=False, stop=lambda: talk.stop(),
            take_events=lambda job, events: "".join(map(str, events)),
        )  # fmt: skip

    def submit(self, request: r.ModelRequest, heard: Any) -> int:
        self.asked.append((request, heard))
        self.log.append(f"asks {request_of(request)}")
        return len(self.asked)

    def told(self, about: str, name: str, *args: Any, **options: Any) -> list[str]:
        self.log.clear()
        found = getattr(CompareScreen, name)(self.screen, *args, **options)
        if asyncio.iscoroutine(found):
            try:
                found.send(None)
            except StopIteration:
                found = None
        said = found if isinstance(found, bool | int | str | set | None) else type(found).__name__
        return [f"{about}: {name} -> {said}", *(f"  {line}" for line in self.log)]


@pytest.fixture
def columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Columns:
    monkeypatch.setattr("app.tui.keys.MAC", False)
    numbers = count()
    monkeypatch.setattr("app.tui.views.compare.secrets.token_hex", lambda size: f"id {next(numbers)}")
    return Columns(tmp_path)


def answered(node: str) -> Conversation:
    """A kept comparison with one answer."""
    talk = Conversation("k").add(Node("u", Fork(), "user", text=ASK))
    return talk.add(Node(node, Fork("u"), "assistant", text="x"))


class Waits:
    """Something that can be awaited and is there at once."""

    def __await__(self) -> Iterator[None]:
        return iter(())


def test_columns_begin_when_their_models_are_there(columns: Columns) -> None:
    it, lines = columns, []
    lines += it.told("nothing is new", "models_changed")
    other = replace(it.benches[0].facts, name="other", title="Another")
    it.engine.models["other"], it.engine.current = other, other
    it.columns[1].model = "scripted"
    lines += it.told("another current model", "models_changed")
    assert [column.talk.facts.name for column in it.columns] == ["other", "scripted", "other"]
    it.engine.current, it.columns[0].model = None, "gone"
    lines += it.told("none", "models_changed")
    lines += it.told("heads", "refresh_heads")
    assert [column.named for column in it.columns] == [True] * 3
    it.columns[1].talk.facts = other
    it.told("heads", "refresh_heads")
    assert [column.named for column in it.columns] == [False] * 3
    it.columns[2].talk.facts, it.columns[2].model = None, "wanted"
    assert CompareScreen._model_of(it.screen, it.columns[2]) == "wanted"
    it.columns[1].models = {"", "drafter"}
    assert CompareScreen.models_in_use(it.screen) == {"", "drafter"}
    assert_picture("tui/pictures/texts/compare-models.txt", lines)


def test_a_prompt_goes_to_every_column(columns: Columns) -> None:
    it, lines = columns, []
    lines += it.told("sent", "on_prompt_input_sent", SimpleNamespace(text="  "))
    assert it.screen.prompt_text == ""
    lines += it.told("sent", "on_prompt_input_sent", SimpleNamespace(text=ASK))
    assert it.screen.prompt_text == ASK
    lines += it.told("begun", "start")
    assert it.screen.kept.kind == "compare" and not it.screen.kept.nodes and it.screen.kept.id.startswith("id")
    talk = (
        Conversation("k")
        .add(Node("u", Fork(), "user", text=ASK))
        .add(Node("answer 0", Fork("u"), "assistant", text="x"))
    )
    it.screen.kept = talk
    lines += it.told("a column", "_answer", it.columns[0])
    assert it.screen.kept.hidden("answer 0", 1)
    it.columns[0].models = {"", "absent"}
    lines += it.told("a model is absent", "_answer", it.columns[0])
    it.screen.prompt_text = ""
    lines += it.told("no prompt yet", "differs", it.columns[0])
    it.screen.prompt_text = ASK
    for number in (0, 1):
        lines += it.told("it differs", "differs", it.columns[number])
    it.columns[1].talk.facts = None
    lines += it.told("no model yet", "differs", it.columns[1])
    seeds = iter((123,))
    with patch("app.tui.views.compare.secrets.randbelow", lambda most: next(seeds) + most):
        lines += it.told("another seed", "action_redo")
    assert it.screen.seed == 1123
    it.screen.prompt_text = ""
    with patch("app.tui.views.compare.secrets.randbelow", lambda most: 5):
        lines += it.told("another seed, no prompt", "action_redo")
    assert_picture("tui/pictures/texts/compare-begun.txt", lines)


def test_events_are_those_of_a_column(columns: Columns) -> None:
    it, lines = columns, []
    lines += it.told("of none", "_heard", object(), 1, ["x"])
    lines += it.told("at rest", "_heard", it.columns[0], 1, [])
    it.columns[1].view.has_focus = True
    lines += it.told("another has the focus", "_heard", it.columns[0], 1, ["trouble"])
    it.columns[0].talk.submit(ASK)
    lines += it.told("it runs", "_heard", it.columns[0], 1, [])
    lines += it.told("it has the focus", "_heard", it.columns[1], 1, [])
    assert_picture("tui/pictures/texts/compare-heard.txt", lines)


def test_a_token_of_the_picked_column_is_looked_at(columns: Columns) -> None:
    it = columns
    from app.tui.chat.token_look import TokenLook

    for column, bench in zip(it.columns, it.benches, strict=True):
        bench.say(ASK)
        column.look = TokenLook(bench.session, None)
        column.steps = bench.session.transcript.shown[1].steps
    it.screen._inspection = lambda column: CompareScreen._inspection(it.screen, column)
    shown: list[Any] = []
    it.screen.line.show = lambda table, bits: shown.append((table, bits))
    CompareScreen.inspect(it.screen)
    assert shown == [(None, ())]
    it.columns[1].has_focus_within, it.columns[1].place = True, TokenPlace(1, 3)
    CompareScreen.inspect(it.screen)
    table, bits = shown[1]
    assert table.title == "TOKEN 4/6" and table.live and len(bits) == 4
    it.columns[1].view.cursor = TokenPlace(1, 3)
    CompareScreen.inspect(it.screen)
    assert not shown[2][0].live
    found = CompareScreen.formula(it.screen)
    assert found is not None and found.map == "metric" and "   column 3 " in [text for text, _ in found.parts]
    it.screen.focused = TokenView.__new__(TokenView)
    assert getattr(CompareScreen.formula(it.screen), "map", "") == "model"
    it.columns[1].place = None
    assert getattr(CompareScreen.formula(it.screen), "map", "") == "metric"
    it.screen.columns = []
    CompareScreen.inspect(it.screen)
    assert len(shown) == 3


def test_keys_and_hints_are_of_what_has_the_focus(columns: Columns) -> None:
    it, lines = columns, []
    lines += it.told("in the prompt", "_hint")
    it.screen.focused = TokenView.__new__(TokenView)
    lines += it.told("in a column", "_hint")
    it.columns[2].talk.submit(ASK)
    lines += it.told("one runs", "_hint")
    it.columns[1].has_focus_within = True
    lines += (
        it.told("focus", "on_descendant_focus") + it.told("a key", "on_key") + it.told("chosen", "on_token_view_chosen")
    )
    lines += (
        it.told("moved", "on_token_view_cursor_moved")
        + it.told("raw", "action_markdown")
        + it.told("rendered", "action_markdown")
    )
    assert it.screen.markdown is True
    lines += (
        it.told("smaller", "on_resize")
        + it.told("measured", "on_column_measured")
        + it.told("back", "on_screen_resume")
    )
    it.screen.is_mounted = False
    lines += it.told("not there yet", "on_screen_resume")
    assert CompareScreen.picked(it.screen) is it.columns[1]
    it.columns[1].has_focus_within = False
    assert CompareScreen.picked(it.screen) is it.columns[0]
    it.host.store = None
    lines.append(str([(name, about) for name, about, _ in CompareScreen.commands(it.screen)]))
    it.host.store = object()
    lines.append(str([name for name, _, _ in CompareScreen.commands(it.screen)][-1]))
    lines += it.told("feet", "refresh_feet")
    it.columns[1].talk.facts = replace(it.benches[1].facts, mask=3)
    lines += it.told("feet of a canvas", "refresh_feet")
    assert_picture("tui/pictures/texts/compare-keys.txt", lines)


def test_columns_are_stopped_and_left(columns: Columns) -> None:
    it, lines = columns, []
    lines += it.told("nothing runs", "action_stop") + it.told("nothing runs", "interrupt") + it.told("left", "leave")
    for name in ("action_stop", "interrupt", "leave"):
        it.columns[1].talk.submit(ASK)
        lines += it.told("one runs", name)
        it.columns[1].talk.stop()
    assert_picture("tui/pictures/texts/compare-stopped.txt", lines)


def test_a_comparison_is_kept(columns: Columns) -> None:
    it, lines = columns, []
    lines += it.told("nothing", "_keep") + it.told("no name", "rename", "x")
    assert CompareScreen.current(it.screen) is None
    for column, bench in zip(it.columns, it.benches, strict=True):
        bench.say(ASK)
        column.steps = bench.session.transcript.shown[1].steps
        for index, segment in enumerate(bench.session.conversation.lineage()):
            assert segment.node.id == f"n{index + 1}"
    it.columns[2].kept_label = "kept"
    lines += it.told("nothing to keep it in", "_keep")
    it.screen.kept = CompareScreen._empty(it.screen)
    kept: list[Conversation] = []
    it.host.save = kept.append
    lines += it.told("kept", "_keep")
    assert kept[-1] is it.screen.kept is CompareScreen.current(it.screen) and kept[-1].updated == 5.0
    lines += tree(kept[-1])
    it.told("named", "rename", "y" * 70)
    assert kept[-1].title == "y" * 59 + "…" and len(kept) == 2
    for column in it.columns:
        column.steps = ()
    it.told("no answers", "_keep")
    assert len(kept) == 2
    lines += it.told("a new one", "fresh") + it.told("a new one", "action_new")
    lines += it.told("opened", "open", kept[0])
    assert it.screen.kept is kept[0] and it.screen.prompt_text == ASK
    it.screen.is_mounted = False
    lines += it.told("before it is there", "open", Conversation("e"))
    assert it.screen.prompt_text == ""
    lines += it.told("laid out", "_laid_out")

    def mount(*columns: Any) -> Waits:
        it.log.append(f"mounts {len(columns)}")
        return Waits()

    it.screen.query_one = lambda name: it.note(f"row {name}", remove_children=Waits, mount=mount)
    it.screen._columns = lambda: [1, 2]
    lines += it.told("others", "_lay_out")
    opened: list[Conversation] = []
    it.host.open, it.columns[1].has_focus_within = opened.append, True
    lines += it.told("adopted", "action_adopt")
    assert kept[-1] is opened[0]
    lines += tree(opened[0])
    it.columns[1].talk.transcript.shown = []
    lines += it.told("nothing to adopt", "action_adopt")
    assert_picture("tui/pictures/texts/compare-kept.txt", lines)


@contextmanager
def bare_columns() -> Iterator[list[Any]]:
    """Columns that are no widgets."""
    made: list[Any] = []

    def column(talk: Any, model: str, store: Any, label: str) -> Any:
        made.append(SimpleNamespace(talk=talk, model=model, label=label))
        return made[-1]

    with patch("app.tui.views.compare.Column", column):
        yield made


def test_columns_are_made_of_the_chat_or_of_what_was_kept(columns: Columns) -> None:
    it = columns
    it.screen._column = lambda *args: CompareScreen._column(it.screen, *args)
    it.screen._kept_column = lambda talk: CompareScreen._kept_column(it.screen, talk)
    with bare_columns():
        for width, chat, names in (
            (84, None, ["greedy", "balanced", "wild"]), (83, None, ["greedy", "balanced"]),
            (84, "wild", ["greedy", "wild", "balanced"]),
        ):  # fmt: skip
            it.screen.app.size.width = width
            system = Conversation("s", system="Be brief.")
            sampling = Sampling() if chat is None else Sampling().preset(chat)
            it.host.session = None if chat is None else SimpleNamespace(sampling=sampling, conversation=system)
            made = CompareScreen._columns(it.screen)
            assert [column.talk.sampling.preset_name for column in made] == names  # type: ignore[attr-defined]
            assert {column.talk.conversation.system for column in made} == {"" if chat is None else "Be brief."}
            first = made[0].talk
            assert (first.new_seed(), first.strategy, first.clock(), made[0].label, made[0].model) == (
                7,
                PLAIN,
                5.0,
                "",
                "",
            )
            assert (
                first.conversation.recipe == first.sampling.recipe and first.conversation.order == first.sampling.names
            )
        first.send(r.Offer())
        assert isinstance(it.asked[-1][0], r.Offer)
        it.asked[-1][1](4, ["event"])
        assert it.log[-1].startswith("_heard(") and it.log[-1].endswith("4, ['event'])")
        steps = tuple(it.benches[0].engine.score([1, 2]))[1:]
        talk = Conversation("k", model="scripted").add(Node("u", Fork(), "user", text=ASK))
        beam, votes = parse("beam").words, parse("vote").words
        labels = (f"{beam} · T 1.00", f"scripted · {votes} · T 1.00", "T 0.80", "x", "y")
        for number, label in enumerate(labels):
            node = Node(f"a{number}", Fork("u"), "assistant", steps=steps, label=label, finish="eot")
            talk = talk.add(node)
        it.screen.kept = talk
        it.engine.models["other"] = replace(it.benches[0].facts, name="other", title="T 0.80")
        made = CompareScreen._columns(it.screen)
        found = [(c.label, c.model, str(c.talk.strategy)) for c in made]
        assert found == [
            (labels[0], "", "beam"), (labels[1], "scripted", "vote"), (labels[2], "other", "sample"),
            (labels[3], "", "sample"),
        ]  # fmt: skip
        assert [c.talk.conversation.messages()[-1].last.id for c in made] == ["a0", "a1", "a2", "a3"]


def test_a_column_is_added_and_removed(columns: Columns) -> None:
    it, lines = columns, []
    mounted: list[Any] = []

    def mount(column: Any) -> Waits:
        mounted.append(column)
        return Waits()

    it.screen.query_one = lambda name: SimpleNamespace(mount=mount)
    it.screen._column = lambda *args: args
    it.columns[1].has_focus_within, it.columns[1].model = True, "other"
    for width, added in ((111, 0), (112, 1)):
        it.screen.size.width = width
        lines += it.told(f"{width} columns", "action_add")
        assert len(mounted) == added
    assert mounted[0] == (it.columns[1].talk.sampling, "other", it.columns[1].talk.strategy)
    it.screen.columns = [*it.columns, it.columns[0]]
    it.screen.size.width = 999
    lines += it.told("four", "action_add")
    it.screen.columns = list(it.columns)
    it.columns[1].remove = lambda: (it.screen.columns.remove(it.columns[1]), Waits())[1]
    talk = (
        Conversation("k")
        .add(Node("u", Fork(), "user", text=ASK))
        .add(Node("answer 1", Fork("u"), "assistant", text="x"))
    )
    it.screen.kept = talk
    lines += it.told("three", "action_remove")
    assert it.screen.kept.hidden("answer 1", 1)
    lines += it.told("two", "action_remove")
    it.screen.columns, it.screen.kept = list(it.columns), None
    lines += it.told("three, nothing kept", "action_remove") + it.told("unmarked", "unmark")
    assert_picture("tui/pictures/texts/compare-columns.txt", lines)


def test_a_column_is_set_up(columns: Columns, tmp_path: Path) -> None:
    it, lines = columns, []
    it.engine.models["other"] = replace(it.benches[0].facts, name="other")
    it.screen.set_up = lambda column: CompareScreen.set_up(it.screen, column)
    it.screen._chosen = lambda *args: CompareScreen._chosen(it.screen, *args)
    it.screen._typed = lambda *args: CompareScreen._typed(it.screen, *args)
    it.columns[0].has_focus_within = True
    with patch("app.tui.views.compare.Pick", lambda title, options: (title, options)):
        it.told("set up", "action_set_up")
    ((title, options), chosen) = it.pushed.pop()
    lines += [title, *(f"  {id!r}: {about}" for id, about in options)]
    presets.keep(tmp_path, "mine", Sampling().with_value("top_k", 3))
    talk = it.columns[0].talk
    for choice in (
        None,
        "preset wild",
        "preset mine",
        "order llama.cpp",
        "strategy beam 3",
        "model other",
        "model scripted",
    ):
        it.log.clear()
        chosen(choice)
        named = f"{talk.sampling.preset_name} {talk.sampling.order_name} model {it.columns[0].model}"
        lines += [f"{choice}: {talk.strategy} {named}", *(f"  {line}" for line in it.log)]
    assert talk.strategy == parse("beam 3") and talk.sampling.values["top_k"] == 3
    loads: list[Any] = []
    it.screen._other_model = lambda column, use: loads.append((column, use))
    chosen("draft")
    loads.pop()[1](it.engine.models["other"])
    assert str(talk.strategy) == "draft other"
    chosen("model")
    loads.pop()[1](it.engine.models["other"])
    assert it.columns[0].model == "other" and not it.pushed
    with patch("app.tui.views.compare.Ask", lambda title, text: (title, text)):
        chosen("typed")
    (asked, typed) = it.pushed.pop()
    lines.append(str(asked))
    for text in (None, "temp 0.5", "warmth 2"):
        it.log.clear()
        typed(text)
        lines += [f"{text}: {talk.sampling.values['temp']}", *(f"  {line}" for line in it.log)]
    assert_picture("tui/pictures/texts/compare-set-up.txt", lines)


def test_another_model_is_loaded_beside_the_current_one(columns: Columns) -> None:
    it, lines = columns, []
    then: list[r.ModelFacts] = []
    lines += it.told("loaded", "_load", "other", then.append)
    other = replace(it.benches[0].facts, name="other")
    halfway, begun = r.Progressed("other", "downloading", 1, 4), r.Progressed("other", "loading")
    for event in (halfway, begun, Failed("no room"), r.Loaded(other)):
        it.log.clear()
        it.asked[-1][1](1, [event])
        lines += [type(event).__name__, *(f"  {line}" for line in it.log)]
    assert then == [other] and it.asked[-1][0].model == "other"
    it.screen._load = lambda name, loaded: it.log.append(f"loads {name}") or loaded(other)
    used: list[Any] = []
    with patch("app.tui.dialogs.models.Models", lambda host: "models"):
        lines += it.told("another", "_other_model", it.columns[0], used.append)
    ((_, named),) = it.pushed
    it.log.clear()
    named(None)
    named("other")
    assert used == [other]
    assert_picture("tui/pictures/texts/compare-loads.txt", [*lines, *(f"  {line}" for line in it.log)])


def test_a_comparison_begins_with_what_was_said_last(columns: Columns) -> None:
    it, lines = columns, []
    widgets = {"PromptInput": it.note("prompt", prompts=None), "InspectorLine": it.note("line", display=False)}
    it.screen.query_one = lambda kind: widgets[kind.__name__]
    it.host.prompts = ["earlier"]
    lines += it.told("no chat", "on_mount")
    assert widgets["InspectorLine"].display is True and widgets["PromptInput"].prompts == ["earlier"]
    it.benches[0].say(ASK)
    it.benches[0].say("And red")
    it.host.session = it.benches[0].session
    lines += it.told("a chat", "on_mount")
    it.screen.prompt_text = "kept"
    lines += it.told("a kept one", "on_mount")
    assert_picture("tui/pictures/texts/compare-mounted.txt", lines)
