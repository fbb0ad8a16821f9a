"""What a person takes for granted: counts that are right, keys that stop, names, files that are not overwritten."""

import os
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from likely.app.store import Store
from likely.app.tui.base.layout import TokenPlace
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.chat import titler
from likely.app.tui.chat.start import Start
from likely.engine.conversation import Conversation
from likely.engine.decode.events import Reloaded
from likely.engine.trace.step import Recipe
from tests.support.model import SKY, ScriptedEngine
from tests.tui.conftest import Play, Stage
from tests.tui.test_chat import ASK, held


def counted(stage: Stage) -> int:
    """The context that the top line says is taken."""
    fact = next(fact for fact in stage.chat.top.facts if "ctx" in fact)
    return int(fact.split("/")[0])


def taken(stage: Stage) -> int:
    """The context that is taken: what the model read, and every token since."""
    step = stage.shown[-1].steps[-1]
    return step.position + 1


@pytest.mark.slow
async def test_the_context_is_counted_after_escape_branch_and_continue(play: Play) -> None:
    engine = ScriptedEngine()
    async with play(engine) as stage:
        assert counted(stage) == 0
        await stage.ask(ASK)
        whole = taken(stage)
        assert counted(stage) == whole > 40
        held(engine, 5)
        await stage.type("and red?")
        await stage.until(lambda: len(stage.shown) == 4 and len(stage.shown[3].steps) == 5)
        await stage.pilot.press("escape")
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: not stage.chat.talk.running)
        assert counted(stage) == taken(stage) > whole + 5
        engine.pace = lambda _: None
        stage.chat.action_resume()
        await stage.until(lambda: stage.ended and len(stage.shown[3].steps) > 5)
        assert counted(stage) == taken(stage)
        begun = dict(stage.chat.talk.transcript.began_ids)
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(3, 3))
        await stage.pilot.press("b")
        await stage.until(lambda: stage.ended and not stage.chat.talk.running)
        assert counted(stage) == taken(stage) and stage.chat.talk.transcript.began_ids == begun
        prompt = engine.calls[[name for name, _ in engine.calls].index("generate")][1]
        assert list(begun[stage.shown[1].message.segments[0].node.id]) == prompt
        await stage.pilot.press("ctrl+n")
        assert counted(stage) == 0


async def test_the_context_of_a_first_answer_that_was_stopped_is_counted(play: Play) -> None:
    engine = ScriptedEngine()
    held(engine, 5)
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 5)
        await stage.pilot.press("escape")
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: not stage.chat.talk.running)
        assert counted(stage) == taken(stage) > 5


async def test_ctrl_c_stops_an_answer_and_says_so_and_copies_what_is_selected(play: Play) -> None:
    engine = ScriptedEngine()
    held(engine, 4)
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 4)
        await stage.pilot.press("ctrl+c")
        engine.gate.set()  # type: ignore[attr-defined]
        assert not stage.chat.talk.running and "stopped" in stage.chat.hints.news
        await stage.pilot.press("tab")
        assert not stage.chat.hints.news  # it does not stick
        await stage.pilot.press("ctrl+c")
        assert "nothing is selected" in stage.chat.hints.news
        stage.chat.composer.focus()
        stage.chat.composer.take("blue sky")
        await stage.pilot.press("home", "shift+end", "ctrl+c")
        assert stage.app.clipboard == "blue sky"


async def test_a_model_that_was_loaded_again_is_said(play: Play) -> None:
    engine = ScriptedEngine()
    drawn = engine.generate

    def generate(*args: Any, **options: Any) -> Any:
        for number, event in enumerate(drawn(*args, **options)):
            if number == 3:
                yield Reloaded("no numbers in float16: loaded again in float32")
            yield event

    engine.generate = generate  # type: ignore[method-assign]
    async with play(engine) as stage:
        await stage.ask(ASK)
        await stage.until(lambda: "loaded again in float32" in stage.chat.hints.news, "the line")
        assert stage.texts[-1] == SKY


@pytest.mark.slow
async def test_words_typed_in_step_mode_stay_in_it(play: Play) -> None:
    async with play() as stage:
        chat = stage.chat
        await stage.ask(ASK)
        chat.pane.view.focus()
        await stage.pilot.press("s")
        await stage.until(lambda: chat.talk.peek is not None and not chat.talk.running)
        chat.pane.view.focus()
        chat.pane.view.move_to(TokenPlace(1, 2))
        await stage.pilot.press("enter", "slash", *" Hello sky", "enter")
        await stage.until(lambda: stage.texts[-1].endswith(" Hello sky") and not chat.talk.running)
        await stage.until(lambda: chat.talk.peek is not None)
        assert chat.talk.stepping and "step:" in chat.hints.news and stage.texts[-1] == " The sky Hello sky"
        await stage.pilot.press("escape")
        assert not chat.talk.stepping and chat.talk.conversation.leaf.finish == "cancelled"  # type: ignore[union-attr]


@pytest.mark.slow
async def test_an_export_never_overwrites_unasked_and_says_where_it_is(play: Play, tmp_path: Path) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        name = f"likely-{stage.chat.talk.conversation.id}"
        for expected in (f"{name}.md", f"{name}-2.md", f"{name}-3.md"):
            await stage.type("/export markdown")
            await stage.pilot.pause()
            said = stage.chat.hints.news or stage.picture().replace("\n", " ")
            assert (tmp_path / expected).exists() and str(tmp_path / expected) in said
            await stage.pilot.press("escape")
        (tmp_path / "mine.md").write_text("mine")
        await stage.type("/export markdown mine.md")
        await stage.until(lambda: "there already" in stage.picture())
        await stage.pilot.press("enter")
        assert (tmp_path / "mine.md").read_text() == "mine" and ASK in (tmp_path / "mine-2.md").read_text()
        await stage.type("/export mine.md")
        await stage.until(lambda: "there already" in stage.picture())
        await stage.pilot.press("down", "enter")
        assert ASK in (tmp_path / "mine.md").read_text()


@pytest.mark.parametrize("command", ["/export pipe.html", "/export markdown pipe.html", "/import pipe.html"])
async def test_a_pipe_is_refused_before_a_screen_waits_for_its_other_end(
    play: Play, tmp_path: Path, command: str
) -> None:
    os.mkfifo(tmp_path / "pipe.html")
    async with play() as stage:
        await stage.ask(ASK)
        await stage.type(command)
        assert stage.chat.hints.alarm and stage.chat.hints.news == "pipe.html is a pipe, and a file is wanted"


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("Blue Sky Physics", "Blue Sky Physics"),
        ('"Rayleigh scattering"', "Rayleigh scattering"),
        ("The sky is blue because of scattering", ""),
        ("It is blue.", ""),
        ("Light scatters here.", ""),
        ("a name of far too many words", ""),
        ("", ""),
    ],
)
def test_a_models_title_is_a_name_or_none(answer: str, name: str) -> None:
    assert titler.name_in(answer) == name


async def test_a_conversation_is_named_as_soon_as_it_begins(play: Play, tmp_path: Path) -> None:
    engine = ScriptedEngine()
    held(engine, 2)
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: len(stage.shown) == 2 and stage.shown[1].steps)
        id = stage.chat.talk.conversation.id
        store = Store(tmp_path / "home" / "sessions.db")
        titles = lambda: {each.id: each.title for each in store.sessions()}  # noqa: E731
        await stage.until(lambda: titles().get(id) == ASK, "a name on disk while it is being answered")
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: stage.ended)
        assert stage.chat.talk.conversation.title == ASK  # what the model said is no name


@pytest.mark.slow
async def test_the_form_of_a_training_gets_what_is_typed(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("f5")
        screen = stage.app.screen
        screen.set_focus(None)
        before = stage.app.clipboard
        await stage.pilot.press(*"why spchz", "space", "q")
        assert stage.app.screen is screen and stage.app.clipboard == before
        assert screen.query_one("#field-data", Input).value == "why spchz q" and screen.has_class("-form")


async def test_the_command_lines_settings_hold_in_every_chat(play: Play) -> None:
    """In the first conversation, in a new one, and over those of a conversation that is resumed."""
    start = Start(Sampling().with_value("temp", 0.3).recipe, system="Be brief.", seed=7, max_tokens=9)
    async with play(start=start) as stage:
        await stage.pilot.press("ctrl+n")
        await stage.pilot.pause()
        talk = stage.chat.talk
        assert talk.sampling.values["temp"] == 0.3
        assert (talk.conversation.system, talk.max_tokens) == ("Be brief.", 9)
        assert [talk.new_seed(), talk.new_seed()] == [7, 8]
    old = Conversation("a", recipe=Recipe(), system="Be long.")
    assert start.of(old).recipe == start.recipe and start.of(old).system == "Be brief."
    assert Start(seed=1).of(old) == old
