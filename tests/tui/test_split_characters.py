"""A character whose bytes are spread over several tokens: one cell, a tooltip that names them, the highest heat."""

from dataclasses import replace

import pytest

from app.tui.tokens import cells
from app.tui.tokens.block import MessageBlock, ShownToken
from app.tui.tokens.layout import TokenPlace
from app.tui.widgets.token_row import GUTTER
from engine.trace.trace import TokenStep
from tests.support.model import ScriptedEngine
from tests.tui.conftest import Play

SMILE = " The sky 🙂 looks blue"


class ByteEngine(ScriptedEngine):
    """Says a script whose unknown words are bytes; a token inside a character has no text, as with every tokenizer."""

    held = b""

    def __init__(self, script: str) -> None:
        super().__init__()
        self.scripts = (script,)

    def _texted(self, step: TokenStep, elapsed_s: float = 0.0) -> TokenStep:
        step = super()._texted(step, elapsed_s)
        if step.special:
            return step
        self.held += step.piece
        try:
            text, self.held = self.held.decode(), b""
        except UnicodeDecodeError:
            text = ""
        return replace(step, text=text)


async def test_a_tooltip_names_the_tokens_of_a_cell(play: Play) -> None:
    async with play(ByteEngine(SMILE)) as stage:
        await stage.ask("Why is the sky blue?")
        view = stage.chat.pane.view
        block = view.blocks[1]
        whole = next(i for i, token in enumerate(block.tokens) if "🙂" in token.text)
        assert block.sharers(whole) == range(whole - 3, whole + 1)
        places = {view.layout_.cell_of(TokenPlace(1, token)) for token in block.sharers(whole)}
        assert len(places) == 1  # one cell for the four
        (x, y), *_ = places
        await stage.pilot.hover(view, (x + GUTTER, y - view.scroll_offset.y))
        said = str(view.tooltip)
        assert said == "🙂 is made by 4 tokens: \\xF0  \\x9F  \\x99  \\x82"
        sky = view.layout_.cell_of(TokenPlace(1, 1))
        await stage.pilot.hover(view, (sky[0] + GUTTER, sky[1] - view.scroll_offset.y))
        assert view.tooltip is None
        await stage.pilot.hover(view, (x + GUTTER, y - view.scroll_offset.y))
        assert view.tooltip is not None
        await stage.pilot.hover(view, (view.size.width - 4, y - view.scroll_offset.y))  # right of the words
        assert view.tooltip is None


async def test_a_cell_has_the_heat_of_its_hottest_token(play: Play) -> None:
    async with play(ByteEngine(SMILE)) as stage:
        await stage.ask("Why is the sky blue?")
        view = stage.chat.pane.view
        block = view.blocks[1]
        whole = next(i for i, token in enumerate(block.tokens) if "🙂" in token.text)
        for hot in range(whole - 3, whole + 1):
            for token in block.sharers(whole):
                block.tokens[token] = block.tokens[token]._replace(level=4 if token == hot else 0)
            view.redraw()
            await stage.pilot.pause()
            fill = stage.app.look.heat[4].bgcolor
            hot_cells = [s for strip in stage.strips() for s in strip if "🙂" in s.text]
            assert hot_cells and all(s.style is not None and s.style.bgcolor == fill for s in hot_cells)


def test_which_tokens_share_a_character() -> None:
    def shared(*tokens: tuple[str, bytes]) -> list[list[int]]:
        block = MessageBlock("key", "model")
        block.fill([ShownToken(text, level, piece=piece) for level, (text, piece) in enumerate(tokens)])
        assert [block.level(i) for i in range(len(tokens))] == list(range(len(tokens)))
        return [list(block.sharers(i)) for i in range(len(tokens))]

    assert shared(("a", b""), ("", b"\xc3"), ("é", b"\xa9"), ("b", b"")) == [[0], [1], [1, 2], [3]]
    assert shared((" ", b" \xe2"), ("", b"\x80"), ("…", b"\xa6"))[2] == [0, 1, 2]  # the first holds a space too
    assert shared(("�", b"\xff"), ("�", b"\xfe"))[1] == [1]  # bytes that are no text are no character's
    assert shared(("", b"\xf0\x9f"), ("👍", b"\x91\x8d"), ("", b"\xf0\x9f"), ("🏽", b"\x8f\xbd"))[3] == [2, 3]


@pytest.mark.parametrize("text", ["a", "é", "…", "🙂", "aé", "é…", " 🙂"])
def test_bytes_are_unfinished_until_their_character_is_whole(text: str) -> None:
    piece = text.encode()
    for end in range(1, len(piece) + 1):
        try:
            piece[:end].decode()
            whole = True
        except UnicodeDecodeError:
            whole = False
        assert cells.unfinished(piece[:end]) is not whole
