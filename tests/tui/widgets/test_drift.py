"""The panel of what a training has moved, on a screen of its own."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from app.tui.chat.candidates import CandidateTable, Names
from app.tui.tokens.block import MessageBlock, ShownToken
from app.tui.tokens.layout import TokenPlace
from app.tui.training.probes import Probes, ProbeView
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.drift import MovedPanel
from app.tui.widgets.heat_view import HeatView
from app.tui.widgets.probe_heading import ProbeHeading
from app.tui.widgets.token_view import TokenView
from app.tui.widgets.top_shifts import TopShifts
from tests.tui.widgets.alone import Alone

NAMES = Names((b"a",))
TABLE = CandidateTable("NEXT", "", "", (), 0, (0, 0), (0.0, 0.0), "", True, True)
VIEW = ProbeView("prompt 1/1", "The", 3, False, TABLE)


def block(words: int) -> MessageBlock:
    found = MessageBlock("b", "text")
    found.fill([ShownToken(f"word{i}\n\n", 0) for i in range(words)])
    return found


class Watched:
    """The probes, as far as the panel asks them."""

    def __init__(self) -> None:
        self.names, self.along = NAMES, cast(Any, None)
        self.blocks, self.asked = 0, list[Any]()
        self.view = VIEW

    def block(self) -> MessageBlock | None:
        self.blocks += 1
        return block(20) if self.along is not None else None

    def outlook(self, in_text: TokenPlace | None, in_answer: TokenPlace | None) -> ProbeView:
        self.asked.append((in_text, in_answer))
        return self.view


async def test_the_place_that_is_looked_at_and_the_text_with_its_heat() -> None:
    it, watched = MovedPanel(), Watched()
    async with Alone(it, css="TokenView { height: 4; } Vertical { height: 10; }").run_test(size=(60, 30)) as pilot:
        bars, shifts, heading = it.query_one(Candidates), it.query_one(TopShifts), it.query_one(ProbeHeading)
        assert it.id == "moved" and it.has_class("side") and not bars.can_focus and it.text.top

        def show(in_answer: TokenPlace | None = None) -> None:
            it.show(cast(Probes, watched), in_answer)

        for _ in range(3):  # until it has been there for a while
            await pilot.pause()
        show()
        assert watched.asked.pop() == (None, None) and watched.blocks == 0 and not it.text.blocks
        assert bars.view is TABLE and heading.outlook is VIEW and shifts.difference is None
        watched.along = SimpleNamespace(difference=SimpleNamespace(risen=(), fallen=()))
        show(TokenPlace(1, 2))
        assert watched.asked.pop() == (None, TokenPlace(1, 2)) and watched.blocks == 1
        first = it.text.blocks
        assert len(first) == 1 and len(first[0].tokens) == 20
        assert shifts.difference is watched.along.difference and shifts.names is NAMES
        await pilot.pause()
        assert it.text.scroll_offset.y == 0 and not it.text.following and it.text.max_scroll_y > 9
        it.text.move_to(TokenPlace(0, 2))
        watched.view = replace(VIEW, view=None)
        show()
        assert watched.asked.pop() == (TokenPlace(0, 2), None) and watched.blocks == 1 and bars.view is None
        watched.along = SimpleNamespace(difference=SimpleNamespace(risen=(), fallen=()))
        show()
        assert watched.blocks == 2


async def test_a_text_is_read_from_its_beginning_or_followed() -> None:
    read, followed, walked = HeatView(id="read", top=True), HeatView(id="followed"), HeatView(id="walked", top=True)
    css = "TokenView { height: 4; display: none; } .there { display: block; }"
    async with Alone(read, followed, walked, css=css).run_test(size=(60, 30)) as pilot:
        for it in (read, followed, walked):
            it.show([block(20)])
        walked.move_to(TokenPlace(0, 18))
        for it in (read, followed, walked):
            it.add_class("there")
        for _ in range(3):
            await pilot.pause()
        assert read.scroll_offset.y == 0 and followed.scroll_offset.y > 30
        assert walked.scroll_offset.y > 0


def test_its_keys_are_those_that_walk() -> None:
    actions = {binding.action for binding in HeatView.BINDINGS}  # type: ignore[union-attr]
    every = {binding.action for binding in TokenView.BINDINGS}  # type: ignore[union-attr]
    assert every - actions == {"choose", "surprise(1)", "surprise(-1)"}
    assert actions >= {"token(1)", "row(-1)", "latest", "first", "page(1)"}
