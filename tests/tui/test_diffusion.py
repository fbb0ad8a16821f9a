"""The chat of a diffusion model on the screen: its canvas, the steps, a person's choices, what is kept; two columns."""

from threading import Event

import pytest

from app.tui.views.compare import CompareScreen
from app.tui.widgets.diffusion_pane import DiffusionPane
from engine.transforms import DRY
from tests.support.diffuser import ScriptedDiffusion
from tests.support.model import SKY, ScriptedEngine
from tests.tui.conftest import COLOURS, Play, Stage, assert_screen
from tests.tui.test_pictures import SIZES

ASK = "Why is the sky blue?"


def pane(stage: Stage) -> DiffusionPane:
    return stage.chat.diffusion


async def answered(stage: Stage) -> DiffusionPane:
    """An answer of 64 positions in 22 steps, looked at after the 14th."""
    await stage.ask(ASK)
    pane(stage).focus()
    await stage.pilot.press(*["left_square_bracket"] * 8, *["right"] * 12)
    await stage.pilot.pause()
    return pane(stage)


@pytest.mark.slow
async def test_steps_are_walked_and_a_person_changes_them(play: Play) -> None:
    async with play(ScriptedDiffusion(), ScriptedEngine()) as stage:
        talk = stage.chat.talk
        shown = await answered(stage)
        canvas = shown.canvas
        assert canvas is not None and (shown.at, shown.cursor - canvas.laid.first) == (14, 12)
        first = talk.conversation.leaf
        assert first is not None and SKY.startswith(stage.texts[1]) and first.finish == "length"
        assert canvas.revised[0].step == 14 and "revised now, was ·glow" in stage.picture()

        await stage.pilot.press("enter", "down", "enter")  # the second candidate, at step 14
        await stage.until(lambda: stage.ended and talk.conversation.leaf is not first, "another answer")
        leaf = talk.conversation.leaf
        assert leaf is not None and leaf.fork == first.fork and leaf.id != first.id
        assert [step.token for step in first.steps] != [step.token for step in leaf.steps]
        assert leaf.steps[12].origin == "forced" and leaf.steps[12].piece == b" seem"
        assert shown.canvas is talk.denoisings[leaf.id] and shown.canvas.offset == 14
        assert shown.canvas.ids(13) == canvas.ids(13) and shown.cursor == canvas.laid.first + 12

        await stage.pilot.press("m")
        await stage.until(lambda: stage.ended and len(talk.conversation.nodes) == 4, "the mask filled anew")
        assert stage.engine.calls[-1][1].count(stage.engine.facts.mask) == 1  # type: ignore[arg-type]
        await stage.pilot.press("less_than_sign", "less_than_sign")
        await stage.until(
            lambda: talk.conversation.leaf is first and "answer 1/3" in stage.picture(), "the first answer"
        )
        assert shown.canvas is canvas
        await stage.pilot.press("less_than_sign")  # round to the last
        await stage.until(lambda: "answer 3/3" in stage.picture())
        await stage.pilot.press("p")
        await stage.until(lambda: "≤ 3.61 ± 0.07" in stage.picture(), "the bound")

        await stage.type("/set dry_multiplier 0.8")
        await stage.until(lambda: "DRY needs tokens in the order of the text" in stage.chat.hints.news)
        assert not any(isinstance(transform, DRY) for transform in talk.recipe.transforms)
        await stage.type("/unmask threshold 0.9 revise 2")
        await stage.ask("The [MASK:6] of France")
        assert stage.engine.hows[-1].threshold == 0.9 and stage.texts[-1].endswith(" of France")  # type: ignore[attr-defined]
        assert stage.chat.composer.placeholder.startswith("Message, or a text with gaps")

        id = talk.conversation.id
        stage.chat.save()
        done: list[bool] = []
        assert stage.app.keeper is not None and stage.app.store is not None
        stage.app.keeper.do(lambda _: done.append(True))
        await stage.until(lambda: done)
        texts = stage.texts
        stage.chat.fresh()
        stage.chat.open(stage.app.store.load(id))
        await stage.until(lambda: "its steps were not kept" in stage.picture(), "what was kept")
        assert stage.texts == texts and "The" in stage.picture()
        await stage.pilot.press("m")  # the composer has the focus: it is written there
        pane(stage).focus()
        await stage.pilot.press("m")
        await stage.until(lambda: "were not kept" in stage.chat.hints.news)


@pytest.mark.slow
async def test_a_run_is_stopped_left_and_followed_by_another_model(play: Play) -> None:
    held, engine = Event(), ScriptedDiffusion()
    engine.pace = lambda number: held.wait(20) if number == 5 else None
    async with play(engine, ScriptedEngine()) as stage:
        talk = stage.chat.talk
        await stage.type(ASK)
        await stage.until(lambda: pane(stage).canvas is not None and pane(stage).at == 5, "five steps")
        pane(stage).focus()
        await stage.pilot.press("left_square_bracket")
        assert pane(stage).at == 4 and talk.running  # looked back while more are to come
        await stage.pilot.press("escape")
        held.set()
        leaf = talk.conversation.leaf
        assert leaf is not None and leaf.finish == "cancelled" and len(leaf.steps) == 64
        assert sum(step.token == engine.mask for step in leaf.steps) == 49
        stage.app.switch_model("scripted")
        await stage.until(lambda: not talk.diffuses, "the other model")
        await stage.ask("The [MASK:8] of France")  # is only text to this one
        assert stage.texts[-1].strip() and not stage.chat.screen.has_class("-diffusion")
        stage.app.switch_model("scripted-mdlm")
        await stage.until(lambda: talk.diffuses, "the first model again")
        assert pane(stage).canvas is None and "░" not in stage.picture().partition("undecided")[0]  # it has no masks


@pytest.mark.slow
async def test_two_factorisations_side_by_side(play: Play) -> None:
    async with play(ScriptedEngine(), ScriptedDiffusion()) as stage:
        await stage.pilot.press("f3")
        screen = stage.app.screen
        assert isinstance(screen, CompareScreen)
        screen.columns[1].model = "scripted-mdlm"
        for column in screen.columns:
            column.talk.new_seed = lambda: 0
        screen.prompt.take(ASK)
        await stage.pilot.press("enter")
        await stage.until(lambda: "≤ 3.61 bits/tok · 22 steps" in stage.picture(), "the bound of a canvas")
        assert "bits/tok · 67 steps" in stage.picture()
        assert screen.kept is not None and len(screen.kept.nodes) == 1 + len(screen.columns)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["120x40", "80x24", pytest.param("60x20", marks=pytest.mark.slow)])
async def test_pictures(play: Play, size: str) -> None:
    async with play(ScriptedDiffusion(), size=SIZES[size]) as stage:
        await answered(stage)
        await assert_screen(stage, f"diffusion-{size}.txt", stage.picture)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["16", "none", "light"])
async def test_colours(play: Play, mode: str) -> None:
    environ = COLOURS.get(mode, {"LIKELY_THEME": "light"})
    async with play(ScriptedDiffusion(), size=(80, 24), environ=environ) as stage:
        await answered(stage)
        await assert_screen(stage, f"diffusion-{mode}.ans", stage.painted)
