"""The text page fills its room: surprisal by the word, bits so far, the greedy continuation; the text comes first."""

import math
from itertools import pairwise
from threading import Event
from types import SimpleNamespace
from typing import cast

import pytest
from textual.events import Click

from app.tui.chat.word_surprisals import LN2, bits_of_words, running_sum
from app.tui.views.text import TextScreen
from app.tui.widgets.word_strip import WordStrip
from engine.trace.trace import TokenStep
from tests.support.model import SKY, ScriptedEngine
from tests.support.screen import Screen
from tests.tui.conftest import Play, Stage

START = " The sky looks blue because air molecules scatter"


async def written(stage: Stage, text: str = START) -> TextScreen:
    await stage.pilot.press("f4")
    screen = stage.app.screen
    assert isinstance(screen, TextScreen)
    screen.buffer.insert(text)
    await stage.until(lambda: screen.measured == text and screen.next_logits is not None)
    return screen


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20)])
async def test_the_page_is_filled_with_what_was_measured(play: Play, size: tuple[int, int]) -> None:
    async with play(size=size) as stage:
        screen = await written(stage)
        await stage.until(lambda: screen.going_on.text.startswith(" short wavelengths of sunlight far"))
        await stage.until(lambda: "short wavelengths" in stage.picture())
        bits = sum(-step.logprob / math.log(2) for step in screen.steps if step.logprob is not None)
        picture = stage.picture()
        assert f"BITS SO FAR  {bits:.1f}  predicted 7 of 8 tokens" in picture
        assert picture.count("blue because air molecules") == 2
        most = max(screen.steps, key=lambda step: -(step.logprob or 0.0))
        assert f"most: {most.text.strip()} {-(most.logprob or 0) / math.log(2):.1f} bits" in picture
        assert "ppl" in picture and "bits/byte" in picture
        blank = [line for line in picture.splitlines() if not line.split("▏")[0].strip()]
        assert len(blank) <= size[1] // 3  # it was nine in ten
        assert [call for call, _ in stage.engine.calls] == ["score", "exact", "generate"]  # a request for what goes on


@pytest.mark.slow
async def test_the_measures_go_with_the_cursor_and_a_click_goes_to_a_word(play: Play) -> None:
    async with play() as stage:
        screen = await written(stage)
        x, y = screen.measures.strip.content_region.offset
        column = stage.picture().splitlines()[y + 6].index("blue")  # the words under the bars
        await stage.pilot._post_mouse_events([Click], None, (column, y + 6), button=1)
        await stage.until(lambda: screen.measures.strip.at == 3, "the word of the click")
        assert screen.buffer.text[screen.buffer.place :].startswith("blue") and x < column
        bits = -(screen.steps[3].logprob or 0.0) / math.log(2)
        await stage.until(lambda: f"blue {bits:.1f} bits" in stage.picture())
        assert f"{running_sum(screen.steps)[3]:.1f} before the cursor" in stage.picture()
        await stage.pilot.resize_terminal(140, 40)
        await stage.until(lambda: "surprise  2+  4+" in stage.picture().splitlines()[0])


@pytest.mark.slow
async def test_the_text_comes_before_what_is_measured_of_it(play: Play) -> None:
    async with play(size=(80, 24)) as stage:
        screen = await written(stage, SKY[:200].rpartition(" ")[0])
        assert screen.measures.display
        height = screen.measures.size.height
        screen.buffer.insert("\n" * 6)
        await stage.until(lambda: 0 < screen.measures.size.height < height, "fewer rows")
        screen.buffer.insert("\n" * 9)
        await stage.until(lambda: not screen.measures.display, "none")
        screen.buffer.text = ""
        await stage.until(lambda: not screen.measures.display and "Any text" in stage.picture())


@pytest.mark.slow
async def test_a_continuation_is_of_the_text_as_it_is(play: Play) -> None:
    engine, gate = ScriptedEngine(), Event()
    async with play(engine) as stage:
        screen = await written(stage)
        await stage.until(lambda: screen.going_on.text)
        screen.buffer.insert(" red")
        await stage.until(lambda: not screen.going_on.text and screen.going_on.after != START)
        await stage.until(lambda: screen.going_on.after == START + " red")
        screen.new_seed = lambda: 0
        engine.pace = lambda drawn: gate.wait(5)
        await stage.pilot.press("ctrl+r")  # the model has something else to do
        assert screen.run is not None and not screen.going_on.after
        gate.set()
        await stage.until(lambda: screen.run is None and screen.going_on.after == screen.buffer.text)
        await stage.pilot.press("ctrl+n")
        await stage.until(lambda: not screen.going_on.after and not screen.measures.display)


def test_words_have_the_bits_of_their_tokens() -> None:
    engine = ScriptedEngine()
    text = " The sky\n\n blue, zzé"  # é is two tokens of a byte each
    steps = engine.score(engine.tokenizer.encode(text))
    words = bits_of_words(steps)
    assert [word.text for word in words][:2] == [" The", " sky"] and "".join(word.text for word in words) == "".join(
        step.text for step in steps
    )
    assert (words[0].first, words[0].last) == (0, 1) and words[0].bits is None
    assert words[-1].last == len(steps)
    assert all(a.last == b.first and a.end == b.start for a, b in pairwise(words))
    whole = sum(word.bits for word in words if word.bits is not None)
    assert running_sum(steps)[-1] == pytest.approx(whole)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["ab ", "c", "d"], ["ab ", "cd"]),  # a space at the end of a token parts it from the next
        (["ab", "c"], ["abc"]),
        (["a", " ", "b"], ["a", " b"]),
        ([" ", "\n", "a"], [" \na"]),  # what no word came before belongs to the first
        (["", "a", "", " b"], ["a", " b"]),
    ],
)
def test_words_begin_where_a_space_is_on_either_side(texts: list[str], words: list[str]) -> None:
    steps = [cast(TokenStep, SimpleNamespace(text=text, special=False, logprob=-LN2)) for text in texts]
    found = bits_of_words(steps)
    assert [word.text for word in found] == words
    assert sum(word.bits or 0.0 for word in found) == pytest.approx(len(texts))


@pytest.mark.slow
def test_a_long_text_is_columns_of_several_words() -> None:
    words = bits_of_words(ScriptedEngine().score(ScriptedEngine().tokenizer.encode(SKY * 20)))
    strip = WordStrip()
    strip.words = words
    assert strip.rows(70, 6) == 6 and strip.rows(70, 3) == 3
    strip.words = words[:3]
    assert strip.rows(70, 11) == 7


@pytest.mark.slow
async def test_an_empty_page_is_there_after_the_window_shrinks(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("f4")
        await stage.pilot.resize_terminal(40, 12)
        await stage.until(lambda: "Any text: every token" in stage.picture() and stage.app.size.width == 40)


def test_numbers_of_another_text_do_not_stand_over_this_one(screen: Screen) -> None:
    """While a text is read nothing says a perplexity or a most surprising word, but that it is measured."""
    screen.press("f4")
    screen.type(START)
    screen.wait(2)
    assert "ppl" in screen.lines[0] and "most: scatter" in screen.text and "predicted 7 of 8 tokens" in screen.text
    screen.paste(" blue" * 60)
    assert "measuring" in screen.lines[0] and "ppl" not in screen.text
    assert "SURPRISAL  by the word  measuring" in screen.text and "BITS SO FAR  measuring" in screen.text
    screen.wait(2)
    assert "measuring" not in screen.text and "predicted 67 of 68 tokens" in screen.text and "most:" in screen.text
