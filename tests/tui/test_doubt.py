"""Uncertainty of a token on the screen, where an adapter on the model has a posterior."""

import pytest

from app.tui.tokens.layout import TokenPlace
from tests.tui.conftest import Play

SIZES = {(120, 40): "aleatoric +", (80, 24): "aleatoric +", (60, 20): "epistemic"}


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_a_token_shows_its_entropy_in_two_parts_and_each_bar_its_spread(
    play: Play, size: tuple[int, int]
) -> None:
    async with play(size=size) as stage:
        await stage.type("/adapter few-rows")
        await stage.until(lambda: stage.app.engine.attached)
        await stage.ask("Why is the sky blue?")
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(1, 8))
        inspector = stage.chat.inspector
        await stage.until(lambda: (now := inspector.table()) is not None and now.doubt is not None)
        await stage.until(lambda: "±" in stage.picture(), "on the glance")
        table = inspector.table()
        assert table is not None and table.doubt is not None and table.doubt.samples == 8
        assert all(row.spread == pytest.approx(0.04 + 0.01 * (row.token % 9)) for row in table.rows)
        inspector.turn("token")
        await stage.until(lambda: "±11.0" in stage.picture(), "beside the bars")
        inspector.turn("entropy")
        await stage.until(lambda: SIZES[size] in stage.picture())
        first = table.doubt.epistemic
        stage.chat.pane.view.move_to(TokenPlace(1, 12))
        await stage.until(
            lambda: (now := inspector.table()) is not None and now.doubt is not None and now.doubt.epistemic > first
        )
        await stage.type("/adapter few-rows off")
        await stage.until(lambda: "epistemic" not in stage.picture())
