"""A conversation of 20,000 tokens: how much of it is laid out and drawn, and that nothing jumps. Counted, not timed."""

from itertools import islice
from random import Random

import pytest

from app.tui.tokens.block import PART
from app.tui.tokens.layout import TokenPlace
from app.tui.widgets.token_view import TokenView
from engine.conversation import Conversation, Fork, Node
from engine.trace.trace import Recipe, TokenStep
from tests.tui.conftest import Play, Stage

TOKENS = 20_000


def steps(random: Random) -> list[TokenStep]:
    """Tokens of some length, a few of them surprising, and a line break now and then."""
    made = []
    for position in range(TOKENS):
        text = " " + "".join(random.choices("etaoinshrdlu", k=random.randint(1, 9)))
        text += random.choices(["", ".\n", ".\n\n"], [30, 1, 1])[0]
        logprob = -6.0 if random.random() < 1 / 500 else -0.1
        made.append(
            TokenStep(
                *(300, text.encode(), text, logprob, logprob, 0.1, 0.1, 1, 5, Recipe(), None, None, position, "drawn"),
            )
        )
    return made


def conversation(answers: int) -> Conversation:
    """So many questions and answers."""
    talk, fork, stream = Conversation("long", model="scripted"), Fork(), iter(steps(Random(0)))
    for number in range(answers):
        talk = talk.add(Node(f"u{number}", fork, "user", text="Why is the sky blue?"))
        answer = Node(f"a{number}", Fork(f"u{number}"), "assistant")
        talk = talk.add(answer).extend(answer.id, tuple(islice(stream, TOKENS // answers)), "stop")
        fork = Fork(answer.id)
    return talk


def laid(view: TokenView) -> int:
    return sum(block.laid for block in view.blocks)


def lines(stage: Stage) -> list[str]:
    """The transcript's rows on the screen."""
    view = stage.chat.pane.view
    return [view.render_line(y).text[: view.layout_.width] for y in range(view.size.height)]


@pytest.mark.slow
@pytest.mark.parametrize("answers", [1, 200])
async def test_it_opens_and_scrolls_by_what_is_seen(play: Play, answers: int) -> None:
    async with play() as stage:
        view = stage.chat.pane.view
        drawn = view.strips_rendered
        stage.chat.open(conversation(answers))
        await stage.pilot.pause()
        screen = view.size.height
        assert sum(len(block.tokens) for block in view.blocks) >= TOKENS
        rough = [part for block in view.blocks for part in block.parts if part.wrap is None]
        assert laid(view) < TOKENS / 20 and rough
        assert view.strips_rendered - drawn <= 2 * screen
        assert view.following and view.scroll_offset.y == view.max_scroll_y
        assert "".join(lines(stage)[-3:]).strip()
        for _ in range(60):  # upwards past what was laid out, row by row: nothing jumps
            before, laid_before, drawn_before = lines(stage), laid(view), view.strips_rendered
            y = view.scroll_offset.y
            view.scroll_relative(y=-1, animate=False)
            await stage.pilot.pause()
            assert lines(stage)[1:] == before[:-1]
            assert laid(view) - laid_before <= 6 * PART and view.strips_rendered - drawn_before <= 2
            assert abs(view.scroll_offset.y - y) < view.layout_.height / 20
        assert laid(view) < TOKENS / 10


@pytest.mark.slow
async def test_the_bar_is_honest_and_the_top_is_the_top(play: Play) -> None:
    async with play(size=(80, 24)) as stage:
        stage.chat.open(conversation(3))
        await stage.pilot.pause()
        view = stage.chat.pane.view
        guess = view.virtual_size.height
        view.scroll_to(y=guess // 2)  # as by dragging the bar
        await stage.pilot.pause()
        assert not view.following and laid(view) < TOKENS / 10
        assert abs(view.scroll_offset.y / view.virtual_size.height - 0.5) < 0.05
        before = lines(stage)
        for y in (0, view.max_scroll_y):  # far away and back again
            view.scroll_to(y=y)
            await stage.pilot.pause()
        view.focus()
        await stage.pilot.press("ctrl+home")
        assert view.cursor == TokenPlace(0, 0) and view.scroll_offset.y == 0
        assert "you" in lines(stage)[1] and "Why is the sky" in lines(stage)[2]
        view.layout_.reveal(0, 0, 10**6)
        view.relay()
        await stage.pilot.pause()
        assert abs(view.virtual_size.height - guess) < 0.1 * guess
        everything = [view.layout_.row(spot) for y in range(view.layout_.height) if (spot := view.layout_.spot(y))]
        texts = ["" if row is None else row.text.rstrip() for row in everything]
        wanted = [line.strip() for line in before]
        assert any([t.strip() for t in texts[y : y + len(wanted)]] == wanted for y in range(len(texts)))


@pytest.mark.slow
async def test_walks_are_exact(play: Play) -> None:
    """n, N, rows and pages come to the tokens that they would come to if everything were laid out."""
    async with play(size=(80, 24)) as stage:
        talk = conversation(2)
        fork = Fork("a0", 4000)
        talk = talk.add(Node("b", fork, "assistant", joins=True)).choose(fork, None)
        stage.chat.open(talk)
        view = stage.chat.pane.view
        view.focus()
        await stage.pilot.press("N", "N", "N")
        surprising = [
            TokenPlace(b, t) for b, block in enumerate(view.blocks) for t, it in enumerate(block.tokens) if it.level > 2
        ]
        assert view.cursor == surprising[-3]
        await stage.pilot.press("n")
        assert view.cursor == surprising[-2]
        await stage.pilot.press("left_curly_bracket")
        assert view.cursor == TokenPlace(1, 4000)
        assert laid(view) < TOKENS / 10
        visited = []
        for key in ("up", "up", "pageup", "pageup", "home", "down", "pagedown", "left"):
            await stage.pilot.press(key)
            visited.append(view.cursor)
            row = view.layout_.cell_of(view.cursor)[1]  # type: ignore[arg-type]
            assert 0 <= row - view.scroll_offset.y < view.size.height
        view.layout_.reveal(0, 0, 10**6)
        view.relay()
        view.move_to(TokenPlace(1, 4000))
        for key, place in zip(
            ("up", "up", "pageup", "pageup", "home", "down", "pagedown", "left"), visited, strict=True
        ):
            await stage.pilot.press(key)
            assert view.cursor == place


@pytest.mark.slow
async def test_a_selection_holds_on_to_its_text(play: Play) -> None:
    """Scrolled away and back over rows that were estimated, the same words are selected."""
    from textual.geometry import Offset
    from textual.selection import Selection

    async with play(size=(80, 24)) as stage:
        stage.chat.open(conversation(2))
        await stage.pilot.pause()
        view = stage.chat.pane.view
        spots = [view.layout_.spot(view.scroll_offset.y + row) for row in (2, 5)]
        ends = [Offset(4, spot.number) for spot in spots if spot is not None]
        stage.chat.selections = {view: Selection(*ends)}
        text = stage.chat.get_selected_text()
        for y in (view.max_scroll_y // 3, 0, view.max_scroll_y):
            view.scroll_to(y=y)
            await stage.pilot.pause()
        assert text and stage.chat.get_selected_text() == text
        everything = view.get_selection(Selection(None, None))
        assert everything is not None and len(everything[0]) > TOKENS
