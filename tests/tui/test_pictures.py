"""Every screen as text at three sizes, and the chat in every colour mode, beside pictures that were looked at."""

from collections.abc import Awaitable, Callable
from threading import Event

import pytest

from app.tui.tokens.layout import TokenPlace
from tests.support.model import ANSWER, ScriptedEngine
from tests.tui.conftest import COLOURS, Play, Stage, assert_screen

SIZES = {"120x40": (120, 40), "80x24": (80, 24), "60x20": (60, 20)}
ASK = "Why is the sky blue?"


async def empty(stage: Stage) -> None:
    """Before anything was said."""


async def chat(stage: Stage) -> None:
    await stage.ask(ASK)
    stage.chat.pane.view.focus()
    stage.chat.pane.view.move_to(TokenPlace(1, 8))
    await stage.pilot.pause()


async def tree(stage: Stage) -> None:
    await chat(stage)
    await stage.pilot.press("2")
    await stage.until(lambda: stage.ended)
    stage.chat.pane.view.move_to(TokenPlace(1, 12))
    await stage.pilot.press("4")
    await stage.until(lambda: stage.ended)
    await stage.ask("Hello , what about sunsets")


async def alternatives(stage: Stage) -> None:
    await chat(stage)
    await stage.pilot.press("enter")
    await stage.pilot.pause()


async def sliders(stage: Stage) -> None:
    """Moved in the middle of the answer, which goes on otherwise, and a token looked at that was drawn before."""
    go_on = Event()
    stage.engine.pace = lambda drawn: None if drawn < 20 else [go_on.wait(5)].clear()
    await stage.type(ASK)
    await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 20)
    await stage.pilot.press("ctrl+g")
    await stage.pilot.pause()
    await stage.pilot.press(*["left"] * 8)
    go_on.set()
    await stage.until(lambda: stage.ended)
    stage.chat.pane.view.move_to(TokenPlace(1, 8))
    await stage.pilot.pause()


async def markdown(stage: Stage) -> None:
    await stage.ask(ASK)
    view = stage.chat.pane.view
    view.focus()
    hidden = next(i for i, token in enumerate(view.blocks[1].tokens) if "**" in token.text)
    view.move_to(TokenPlace(1, hidden))
    await stage.pilot.pause()


async def sessions(stage: Stage) -> None:
    await stage.ask(ASK)
    stage.chat.save()
    keeper, done = stage.app.keeper, []
    assert keeper is not None
    keeper.do(lambda _: done.append(True))
    await stage.until(lambda: done)
    await stage.pilot.press("ctrl+o")
    await stage.pilot.press(*"sky")
    await stage.pilot.pause()


async def models(stage: Stage) -> None:
    stage.app.choose_model()
    await stage.until(lambda: getattr(stage.app.screen, "offers", ()))


async def keys(stage: Stage) -> None:
    await stage.pilot.press("f1")


async def compared(stage: Stage) -> None:
    await stage.pilot.press("f3")
    screen = stage.app.screen
    for number, column in enumerate(screen.columns):  # type: ignore[attr-defined]
        column.talk.new_seed = lambda number=number: number % 2
    screen.prompt.take(ASK)  # type: ignore[attr-defined]
    await stage.pilot.press("enter")
    await stage.until(lambda: all(c.talk.transcript.shown and not c.talk.running for c in screen.columns))  # type: ignore[attr-defined]


async def set_up(stage: Stage) -> None:
    await compared(stage)
    await stage.pilot.press("tab", "c")


async def found(stage: Stage) -> None:
    await stage.ask(ASK)
    stage.chat.talk.new_seed = lambda: 1
    await stage.pilot.press("ctrl+r")
    await stage.until(lambda: stage.ended and len(stage.chat.talk.conversation.nodes) == 3)
    await stage.pilot.press("ctrl+f", *"light")


async def offer(stage: Stage) -> None:
    await stage.until(lambda: getattr(stage.app.screen, "offers", ()))


async def text(stage: Stage) -> None:
    await stage.pilot.press("f4")
    screen = stage.app.screen
    screen.buffer.insert(" The sky looks blue because air molecules scatter")  # type: ignore[attr-defined]
    await stage.until(lambda: screen.next_logits is not None and screen.steps)  # type: ignore[attr-defined]


SCENES: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "empty": empty, "chat": chat, "tree": tree, "alternatives": alternatives, "sliders": sliders,
    "markdown": markdown, "sessions": sessions, "models": models, "keys": keys, "compare": compared, "set-up": set_up,
    "find": found, "offer": offer, "text": text,
}  # fmt: skip


@pytest.mark.parametrize("size", ["120x40", "80x24", pytest.param("60x20", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scene", SCENES)
async def test_screens(play: Play, scene: str, size: str) -> None:
    engines = [ScriptedEngine(scripts=[ANSWER])] if scene == "markdown" else []
    first = scene == "offer"
    async with play(*engines, size=SIZES[size], empty=first, loaded=not first) as stage:
        await SCENES[scene](stage)
        await assert_screen(stage, f"{scene}-{size}.txt", stage.picture)


@pytest.mark.parametrize("mode", COLOURS)
async def test_colours(play: Play, mode: str) -> None:
    async with play(size=(80, 24), environ=COLOURS[mode]) as stage:
        await chat(stage)
        await assert_screen(stage, f"colours-{mode}.ans", stage.painted)
        painted = stage.painted()
        if mode == "none":
            assert "\x1b[" in painted and ";4" in painted.replace("[4", ";4")  # levels are told apart by attributes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["light", "ascii"])
async def test_looks(play: Play, name: str) -> None:
    environ = {"light": {"LIKELY_THEME": "light"}, "ascii": {"LIKELY_ASCII": "1"}}[name]
    async with play(size=(120, 40), environ=environ) as stage:
        await tree(stage)
        picture = stage.painted if name == "light" else stage.filtered
        await assert_screen(stage, f"chat-{name}.{'ans' if name == 'light' else 'txt'}", picture)
        if name == "ascii":
            assert picture().isascii()


@pytest.mark.slow
async def test_twenty_by_five(play: Play) -> None:
    async with play(size=(20, 5)) as stage:
        await stage.ask(ASK)
        await assert_screen(stage, "chat-20x5.txt", stage.picture)
