"""The formula of what is on the screen, in every view: the map of p, and the values that are shown there."""

import math

import pytest
from textual.widgets import Static

from app.tui.dialogs.formula import FormulaSheet
from app.tui.formula import MAPS, Formula
from app.tui.tokens.layout import TokenPlace
from app.tui.view import View
from app.tui.views import VIEWS
from engine.tune.config import configure
from tests.support.glass import Glass
from tests.tui.conftest import Play, Stage
from tests.tui.test_pictures import compared
from tests.tui.tuning import opened, reach, screen, to_the_run

ASK = "Why is the sky blue?"
SMALL = (60, 20)


def words(found: Formula | None) -> str:
    assert found is not None
    return "".join(text for text, _ in found.parts)


async def shown(stage: Stage, key: str = "equals_sign") -> Formula:
    """Press the key and read the sheet: all of the line is on the screen. Closed again by the same key."""
    view = stage.app.screen
    await stage.pilot.press(key)
    sheet = stage.app.screen
    assert isinstance(sheet, FormulaSheet), stage.picture()
    text = " ".join(str(static.render()) for static in sheet.query(Static))
    assert (
        words(sheet.formula).replace("   ", "\n") in text
        and " → ".join(MAPS) in text
        and MAPS[sheet.formula.map] in text
    )
    for static in sheet.query(Static):
        assert stage.app.screen.region.contains_region(static.region) and static.region.height
    await stage.pilot.press(key)
    assert stage.app.screen is view
    return sheet.formula


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_one(name: str) -> None:
    kind = VIEWS[name].load()
    assert kind.formula is not View.formula
    ids = {getattr(binding, "id", "") for binding in kind.BINDINGS}
    assert f"{name}.formula" in ids


@pytest.mark.slow
async def test_of_a_token_its_draw_and_the_prompt(play: Play) -> None:
    async with play(size=SMALL) as stage:
        await stage.ask(ASK)
        found = await shown(stage, "f9")
        assert found.map == "tokenizer" and f"n = {stage.chat.talk.context_tokens():,} of" in words(found)
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(1, 8))
        step = stage.shown[1].steps[8]
        assert step.logprob is not None and step.entropy is not None
        found = await shown(stage)
        assert found.map == "model" and f"= {100 * math.exp(step.logprob):.2f} %" in words(found)
        assert f"−log₂ p = {-step.logprob / math.log(2):.2f} bits" in words(found)
        assert f"H(p) = {step.entropy / math.log(2):.2f} bits" in words(found)
        await stage.pilot.press("ctrl+g")
        found = await shown(stage, "f9")
        table = stage.chat.inspector.table()
        row = next(row for row in table.rows if row.chosen) if table is not None else None
        assert row is not None and row.after is not None
        assert found.map == "decoder" and f"= {100 * row.after:.2f} %   p({row.name}) = {100 * row.before:.2f} %" in (
            words(found)
        )


@pytest.mark.slow
async def test_of_a_text(play: Play) -> None:
    async with play(size=SMALL) as stage:
        await stage.pilot.press("f4", "f9")
        assert "no number here yet" in stage.app.screen.hints.news  # type: ignore[attr-defined]
        view = stage.app.screen
        view.buffer.insert(" The sky looks blue")  # type: ignore[attr-defined]
        await stage.until(lambda: view.steps)  # type: ignore[attr-defined]
        found = await shown(stage, "f9")
        steps = [step.logprob for step in view.steps if step.logprob is not None]  # type: ignore[attr-defined]
        assert found.map == "metric" and f"2^−{-sum(steps) / math.log(2):.1f}" in words(found)
        assert f"ppl = p^(−1/n) = {math.exp(-sum(steps) / len(steps)):.2f}" in words(found)
        await stage.pilot.press("left", "left")
        assert (await shown(stage, "f9")).map == "model"


@pytest.mark.slow
async def test_of_columns(play: Play) -> None:
    async with play(size=SMALL) as stage:
        await compared(stage)
        assert (await shown(stage)).map == "model"
        stage.app.screen.prompt.focus()  # type: ignore[attr-defined]
        await stage.pilot.pause()
        found = await shown(stage, "f9")
        assert found.map == "metric"
        for column in stage.app.screen.columns:  # type: ignore[attr-defined]
            bits = [-step.logprob / math.log(2) for step in column.steps if step.logprob is not None]
            assert f"{sum(bits) / len(bits):.2f} bits" in words(found)


@pytest.mark.slow
async def test_of_a_loss(play: Play) -> None:
    async with play(tune=configure({"data": "rows.jsonl", "steps": 20}), size=SMALL) as stage:
        await to_the_run(stage)
        await reach(stage, 20)
        last = screen(stage).course.last
        assert last is not None
        found = await shown(stage, "f9")
        assert found.map == "metric" and f"= {last.loss / math.log(2):.3f} bits" in words(found)
        assert f"perplexity 2^L = {math.exp(last.smooth):.2f}" in words(found)


@pytest.mark.slow
async def test_of_the_inside(play: Play) -> None:
    async with play(Glass(), size=SMALL) as stage:
        view = await opened(stage)
        assert "KL(p₄ ‖ p₃) = 1.44 bits" in words(await shown(stage))
        view.action_show("tokens")
        assert stage.app.screen is view
        await stage.until(lambda: view.formula() is not None)
        assert (await shown(stage)).map == "tokenizer"
