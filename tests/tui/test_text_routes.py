"""What the page of a text does when something is heard, typed or chosen, told to widgets that only write it down."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app import requests as r
from app.tui.chat import text_document
from app.tui.chat.greedy_continuation import GreedyContinuation
from app.tui.chat.live_run import LiveRun
from app.tui.chat.text_document import spans
from app.tui.chat.word_surprisals import bits_of_words
from app.tui.sampling import Sampling
from app.tui.views.text import TextScreen
from app.worker import Failed
from engine.conversation import Conversation, Fork, Node
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted, Reloaded, Revised, Stats
from tests.pictures import assert_picture
from tests.tui.bench import Bench, request_of, tree
from tests.tui.test_session_stories import short
from tests.tui.test_slash_commands import Noted

TEXT = "Why is the sky blue?"


class Page:
    """A page whose text is a string, and whose widgets write down what they are told."""

    def __init__(self, text: str = TEXT) -> None:
        self.log: list[str] = []
        self.bench = Bench(short())
        note = lambda name, **facts: Noted(self.log, name, **facts)  # noqa: E731
        self.heard: list[tuple[r.ModelRequest, Any]] = []
        self.engine = note("engine", current=self.bench.facts, loading=None, submit=self.submit)
        self.host = note(
            "host", engine=self.engine, clock=lambda: 5.0, names_of=lambda name: self.bench.names, store=None
        )
        self.buffer = note(
            "buffer",
            text=text,
            place=len(text),
            measured=len(text),
            has_focus=True,
            document=SimpleNamespace(end="END"),
            wrapped_document=SimpleNamespace(height=3),
        )
        self.inspector = note("inspector", close=lambda: False)
        self.steps = list(self.bench.engine.score(self.bench.engine.tokenizer.encode(text))) if text else []
        self.screen: Any = note(
            "", host=self.host, buffer=self.buffer, inspector=self.inspector, hints=note("hints", news=""),
            top=note("top"), measures=note("measures"), talk=Conversation("t", kind="text"), steps=self.steps,
            measured=text, next_logits=None, run=None, sampling=Sampling(), conversation=None,
            going_on=GreedyContinuation(), new_seed=lambda: 3, is_attached=True, is_mounted=True, _job=-1,
            _typing=None, _saved_s=0.0,
        )  # fmt: skip
        for name in ("here", "_commit", "inspection"):
            setattr(self.screen, name, lambda *args, name=name: getattr(TextScreen, name)(self.screen, *args))

    def submit(self, request: r.ModelRequest, heard: Any) -> int:
        self.heard.append((request, heard))
        self.log.append(f"asks {request_of(request)}")
        return len(self.heard)

    def told(self, about: str, name: str, *args: Any, **options: Any) -> list[str]:
        self.log.clear()
        found = getattr(TextScreen, name)(self.screen, *args, **options)
        said = found if isinstance(found, bool | int | None) else type(found).__name__
        return [f"{about}: {name} -> {said}", *(f"  {line}" for line in self.log)]


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(10**6))
    monkeypatch.setattr("app.tui.views.text._new_id", lambda: f"n{next(numbers)}")
    monkeypatch.setattr("app.tui.views.text.secrets.token_hex", lambda size: f"id of {size}")


def test_a_text_is_measured_when_it_is_another() -> None:
    page = Page()
    lines = page.told("as it was measured", "measure")
    page.screen.measured = ""
    page.engine.current = None
    lines += page.told("no model", "measure")
    page.engine.current, page.screen.run = page.bench.facts, "run"
    lines += page.told("a run", "measure")
    page.screen.run = None
    lines += page.told("another text", "measure")
    (_, measured), (_, followed) = page.heard
    for about, heard, event in (
        ("measured", measured, r.Scored(tuple(page.steps[:3]))), ("measuring failed", measured, Failed("no room")),
        ("followed", followed, r.ExactLogits(np.zeros(3))), ("not followed", followed, Failed("no room")),
    ):  # fmt: skip
        page.log.clear()
        heard(1, [event])
        lines += [about, *(f"  {line}" for line in page.log)]
    assert page.screen.steps == page.steps[:3] and page.screen.measured == TEXT and page.screen.next_logits[0] == TEXT
    page.screen.is_attached, page.screen.steps = False, []
    measured(1, [r.Scored(tuple(page.steps))])
    followed(1, [r.ExactLogits(np.ones(3))])
    assert page.screen.steps == [] and not page.screen.next_logits[1].any()
    page.buffer.text, page.screen.steps = "", page.steps
    lines += page.told("nothing is written", "measure")
    assert page.screen.steps == [] and page.screen.measured == ""
    assert_picture("tui/pictures/texts/text-measured.txt", lines)


def test_typing_is_waited_for() -> None:
    page = Page()
    lines = page.told("typed", "on_text_buffer_moved")
    page.screen._typing = Noted(page.log, "timer")
    lines += page.told("typed again", "on_text_buffer_moved")
    page.screen.run = "run"
    lines += page.told("a run", "on_text_buffer_moved") + page.told("smaller", "on_resize")
    assert_picture("tui/pictures/texts/text-typed.txt", lines)


def test_measures_fill_the_room_that_is_left() -> None:
    page = Page()
    asked: list[Any] = []
    page.screen._fit_measures = lambda: True
    page.screen.going_on = Noted(page.log, "going_on", after="", ask=lambda *args: asked.append(args))
    shown: list[int] = []
    page.screen.measures.show = lambda steps, here, going_on, stale: shown.append(len(steps))
    lines = page.told("measured", "show_measures")
    assert asked[0][:2] == (TEXT, "scripted") and shown == [len(page.steps)]
    page.screen.going_on.after = TEXT
    lines += page.told("it goes on", "show_measures")
    assert len(asked) == 1
    page.buffer.measured = 10
    lines += page.told("a part", "show_measures")
    assert shown[-1] == sum(end <= 10 for _, end in spans(page.steps)) < len(page.steps)
    page.screen.measured = "other"
    lines += page.told("not current", "show_measures")
    page.screen.measured, page.screen.going_on.after = TEXT, "other"
    lines += page.told("of another text", "show_measures")
    page.screen.run = "run"
    page.screen.going_on.after = ""
    lines += page.told("a run", "show_measures")
    page.screen.run, page.engine.current = None, None
    lines += page.told("no model", "show_measures")
    count = len(asked)
    page.screen._fit_measures = lambda: False
    page.engine.current = page.bench.facts
    lines += page.told("no room", "show_measures")
    assert len(asked) == count == 2 and len(shown) == 7
    page.screen.is_attached = False
    assert TextScreen._fit_measures(page.screen) is False
    page.screen.is_attached, page.screen.query_one = True, lambda kind: SimpleNamespace(size=(30, 20))
    fits: list[tuple[int, ...]] = []
    page.screen.measures.fit = lambda *args: bool(fits.append(args))  # type: ignore[func-returns-value]
    TextScreen._fit_measures(page.screen)
    page.buffer.text = ""
    TextScreen._fit_measures(page.screen)
    assert fits == [(30, 20, 3), (30, 20, 0)]
    assert_picture("tui/pictures/texts/text-measures.txt", lines)


def test_characters_are_as_hot_as_their_tokens() -> None:
    page = Page("a日b c")
    byte = lambda step, text, bits: SimpleNamespace(step=step, text=text, bits=bits)  # noqa: E731
    tinted: list[Any] = []
    page.buffer.tint = lambda text, levels: tinted.append((text, levels))
    page.screen.measured = "日b c"
    base = page.steps[1]

    page.screen.steps = [
        replace(base, text=each.text, logprob=-each.bits * 0.6931471805599453, special=False)
        for each in (byte(0, "", 9), byte(1, "日", 0.1), byte(2, "b", 0.1), byte(3, " c", 4))
    ]
    TextScreen._tint(page.screen)
    ((text, levels),) = tinted
    assert text == "日b c" and len(levels) == 4 and levels[0] > levels[2] > levels[1] and levels[2] == levels[3]


@pytest.mark.parametrize("place", range(len(TEXT) + 1))
def test_a_token_is_before_the_cursor(place: int) -> None:
    page = Page()
    page.buffer.place = place
    wanted = next((i for i, (start, end) in enumerate(spans(page.steps)) if start <= place < end), None)
    assert TextScreen.here(page.screen) == wanted
    at = TextScreen.inspection(page.screen)
    if wanted is None:
        assert at is None and place == len(TEXT)
        page.screen.next_logits = (TEXT, np.zeros(9))
        ahead = TextScreen.inspection(page.screen)
        assert ahead is not None and ahead.upcoming and ahead.title == "NEXT" and len(ahead.before) == len(page.steps)
        for attribute, value in (("steps", []), ("next_logits", ("other", np.zeros(9)))):
            before, _ = getattr(page.screen, attribute), setattr(page.screen, attribute, value)
            assert TextScreen.inspection(page.screen) is None
            setattr(page.screen, attribute, before)
    else:
        assert at is not None and at.step is page.steps[wanted] and at.title == f"TOKEN {wanted + 1}/{len(page.steps)}"
        assert list(at.before) == [step.token for step in page.steps[:wanted]] and at.seed == 0
        page.screen.measured = TEXT[:place]
        assert TextScreen.inspection(page.screen) is None
    formula = TextScreen.formula(page.screen)
    page.inspector.formula = lambda: "of the token"
    assert (TextScreen.formula(page.screen) == "of the token") is (wanted is not None)  # type: ignore[comparison-overlap]
    page.buffer.has_focus = False
    assert TextScreen.formula(page.screen) == "of the token" and (formula is not None) is (wanted is None)  # type: ignore[comparison-overlap]


def test_the_top_line_tells_what_was_measured() -> None:
    page = Page()
    lines = page.told("measured", "status")
    page.screen.steps = page.steps[:1]
    lines += page.told("nothing to measure", "status")
    page.screen.steps = []
    page.engine.current = r.ModelFacts("m", 64, (b"a",), True)
    lines += page.told("empty", "status")
    page.engine.current = None
    lines += page.told("no model", "status")
    page.engine.loading = object()
    lines += page.told("loading", "status")
    lines += page.told("no model", "models_changed")
    page.engine.current = page.bench.facts
    lines += page.told("a model", "models_changed")
    assert page.screen.talk.model == "scripted" and page.screen.measured == ""
    lines += page.told("the same", "models_changed")
    assert_picture("tui/pictures/texts/text-top.txt", lines)


def test_a_text_is_continued_from_the_cursor() -> None:
    page, lines = Page(), []
    page.engine.current = None
    lines += page.told("no model", "action_continue")
    page.engine.current, page.screen.run = page.bench.facts, "run"
    lines += page.told("it runs already", "action_continue")
    page.screen.run = None
    page.buffer.place = 10
    lines += page.told("from the middle", "action_continue", 7)
    lines += tree(page.screen.talk)
    run = page.screen.run
    assert list(run.control.forced) == [7] and page.screen._job == 1
    step = page.bench.engine.score([1, 2])[1]
    events = [r.Began((1,)), Emitted(0, step)]
    lines += page.told("of another job", "take_events", 9, events) + page.told("tokens", "take_events", 1, events)
    page.screen._saved_s = 0.0
    page.host.clock = lambda: 0.95
    lines += page.told("saved soon", "take_events", 1, [])
    page.screen._saved_s = 0.05
    lines += page.told("not yet", "take_events", 1, [])
    lines += page.told("news", "take_events", 1, [Reloaded("loaded again")])
    lines += page.told("revised", "take_events", 1, [Revised(0, step.position, step)])
    lines += page.told("the end", "take_events", 1, [Done(0, "eot", Stats(1, 0, 1, 0.1, 0.1))])
    lines += tree(page.screen.talk)
    page.screen.run, page.screen._job = LiveRun(run.node, RunControl(), lambda: "x"), 1
    lines += page.told("failed", "take_events", 1, [Failed("gone")])
    page.screen.run = None
    lines += page.told("none runs", "take_events", 1, events)
    page.screen.run, page.screen.is_attached = run, False
    lines += page.told("not there", "take_events", 1, events)
    empty = Page("")
    lines += empty.told("nothing to continue", "action_continue")
    assert_picture("tui/pictures/texts/text-continued.txt", lines)


def test_what_is_written_is_saved_under_its_first_words() -> None:
    page = Page()
    talk = Conversation("t", kind="text").add(Node("n", Fork(), "text", text="One\n two " + "x" * 70))
    for title, saved in (("", "One two " + "x" * 51 + "…"), ("One two", "One two " + "x" * 51 + "…"), ("Mine", "Mine")):
        page.screen.talk = Conversation("t", kind="text", title=title, nodes=talk.nodes, chosen=talk.chosen)
        kept: list[Conversation] = []
        page.host.save = kept.append
        TextScreen.save(page.screen)
        assert kept == [page.screen.talk] and kept[0].title == saved and kept[0].updated == 5.0
        assert kept[0].recipe == Sampling().recipe and kept[0].order == Sampling().names
    lines = page.told("named", "rename", "y" * 70)
    assert page.screen.talk.title == "y" * 59 + "…" and TextScreen.current(page.screen) is page.screen.talk
    fresh = TextScreen._fresh(page.screen)
    assert (fresh.id, fresh.kind, fresh.created, fresh.updated) == ("id of 4", "text", 5.0, 5.0)
    lines += page.told("a new one", "fresh") + page.told("a new one", "action_new") + page.told("opened", "open", fresh)
    page.screen.is_mounted = False
    lines += page.told("before it is there", "open", talk) + page.told("not there yet", "on_screen_resume")
    assert page.screen.conversation is talk
    page.screen.is_mounted = True
    lines += (
        page.told("back", "on_screen_resume") + page.told("shown", "_show", talk) + page.told("written", "_write", "w")
    )
    assert page.screen.sampling == Sampling.of(talk.recipe)
    assert_picture("tui/pictures/texts/text-saved.txt", lines)


def test_a_page_is_stopped_and_left() -> None:
    page, lines = Page(), []
    lines += page.told("in the text", "action_stop")
    page.buffer.has_focus = False
    lines += page.told("elsewhere", "action_stop")
    page.buffer.has_focus, page.inspector.close = True, lambda: True
    lines += page.told("a sheet", "action_stop") + page.told("nothing runs", "interrupt")
    talk = Conversation("t", kind="text").add(Node("n", Fork(), "text", joins=True))
    page.screen.talk, run = talk, LiveRun("n", RunControl(), lambda: "x")
    page.screen.run = run
    lines += page.told("a run", "interrupt")
    assert not run.control.cancelled
    lines += page.told("a run", "action_stop")
    assert run.control.cancelled
    page.screen._end = lambda run, finish: page.log.append(f"ends {finish}")
    lines += page.told("left", "leave")
    page.screen.run = None
    lines += page.told("left", "leave") + page.told("a key", "on_key")
    page.screen.hints.news = "news"
    lines += page.told("a key", "on_key") + page.told("the sampler", "action_sampler")
    page.screen.talk, page.screen.run = talk, run
    lines += page.told("the end", "_end", run, "cancelled")
    assert page.screen.run is None and page.screen.talk.nodes["n"].finish == "cancelled"
    assert_picture("tui/pictures/texts/text-stopped.txt", lines)


def test_panels_of_a_page_are_heard() -> None:
    page, lines = Page(), []
    event = lambda **facts: SimpleNamespace(**facts)  # noqa: E731
    page.buffer.place = 8
    lines += page.told("a candidate", "on_candidates_picked", event(verb="branch", token=7))
    page.buffer.place = len(TEXT)
    lines += page.told("at the end", "on_candidates_picked", event(verb="branch", token=7))
    lines += page.told("forced", "on_candidates_picked", event(verb="force", token=7))
    page.screen.run = LiveRun("n", RunControl(), lambda: "x")
    lines += page.told("forced", "on_candidates_picked", event(verb="force", token=7))
    assert list(page.screen.run.control.forced) == [7]
    wild = Sampling().preset("wild")
    lines += page.told("settings", "on_sliders_changed", event(sampling=wild))
    assert page.screen.run.control.recipe == wild.recipe and page.screen.sampling is wild
    lines += page.told("a branch", "on_tree_pane_checked_out", event(fork=Fork(), option="a"))
    page.screen.run = None
    page.screen.talk = (
        Conversation("t").add(Node("a", Fork(), "text", text=TEXT)).add(Node("b", Fork(), "text", text="b"))
    )
    lines += page.told("a branch", "on_tree_pane_checked_out", event(fork=Fork(), option="a"))
    assert text_document.text_of(page.screen.talk) == TEXT
    word = bits_of_words(page.steps)[1]
    lines += page.told("a word", "on_word_strip_word_pointed", event(word=word))
    names = [name for name, _, _ in TextScreen.commands(page.screen)]
    page.screen.run, page.host.store = "run", object()
    lines += [str(names), str([(name, about) for name, about, _ in TextScreen.commands(page.screen)])]
    assert_picture("tui/pictures/texts/text-panels.txt", lines)
