"""Any text on the screen: every token measured as it is written, the words with their bits, and how it would go on."""

import math
import re
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings, strategies

from likely.app.tui.base.context import before
from likely.app.tui.chat import text_document
from likely.app.tui.chat.inspecting.word_surprisals import LN2, bits_of_words, running_sum
from likely.engine.chat.conversation import Conversation
from likely.engine.sampling.trace.step import TokenStep
from tests.pictures import assert_picture
from tests.support.model import BLUE, ScriptedEngine
from tests.support.screen import Screen

START = " The sky looks blue because air molecules scatter"


def written(screen: Screen, text: str = START) -> Screen:
    screen.press("f4")
    screen.paste(text)
    screen.wait(2)
    return screen


def measured(text: str = START) -> list[float]:
    """The bits of the tokens that were predicted, by the model itself."""
    engine = ScriptedEngine()
    steps = engine.score(engine.tokenizer.encode(text))
    return [-step.logprob / math.log(2) for step in steps if step.logprob is not None]


def test_a_page_is_filled_with_what_was_measured(screen: Screen) -> None:
    written(screen)
    bits = measured()
    assert f"BITS SO FAR  {sum(bits):.1f}  predicted {len(bits)} of {len(bits) + 1} tokens" in screen.text
    assert f"most: scatter {max(bits):.1f} bits" in screen.text
    assert f"ppl {2 ** (sum(bits) / len(bits)):.1f}" in screen.lines[0]
    assert f"{sum(bits) / len(START.removeprefix(' The')):.2f} bits/byte" in screen.lines[0]
    assert "CONTINUATION" in screen.text and "short wavelengths of sunlight far" in screen.text
    screen.press("left")
    assert f"TOKEN 8/8  ·scatter  {bits[-1]:.1f} bits" in screen.text


def test_the_measures_go_with_the_cursor_and_a_click_goes_to_a_word(screen: Screen) -> None:
    written(screen)
    screen.click("blue because")
    screen.wait(1)
    assert re.search(rf"BITS SO FAR  [\d.]+ .* {sum(measured()[:2]):.1f} before the cursor", screen.text)
    assert f"SURPRISAL  by the word  blue {measured()[2]:.1f} bits" in screen.text
    screen.click("▅▅▅▅▅▅▅")  # the bar of the last word
    assert "TOKEN 8/8  ·scatter" in screen.text


def bits(text: str) -> list[float]:
    """The bits of each word, 0 where it was not predicted."""
    engine = ScriptedEngine()
    return [word.bits or 0.0 for word in bits_of_words(engine.score(engine.tokenizer.encode(text)))]


def bars(screen: Screen, begin: str, end: str) -> list[int]:
    """The heights of what stands between two lines of the screen, in eighths of a row, cell by cell, and the rows."""
    lines = [line.partition("▏")[0] for line in screen.lines]
    head = next(at for at, line in enumerate(lines) if begin in line)
    rows = lines[head + 1 : next(at for at, line in enumerate(lines) if at > head and end in line)]
    rows = rows[: len(rows) - (not rows[-1].strip())]
    cells = [sum(" ▁▂▃▄▅▆▇█".index(row[x : x + 1] or " ") for row in rows) for x in range(max(map(len, rows)))]
    return [*cells, len(rows)]


@pytest.mark.slow
def test_a_bar_over_a_word_is_as_high_as_its_bits_and_all_words_share_columns_where_there_is_no_room(
    tmp_path: Path,
) -> None:
    with Screen(tmp_path, size=(80, 40)) as screen:
        written(screen)
        *cells, rows = bars(screen, "SURPRISAL", "The sky looks")
        assert rows == 5
        for word, value in zip(START.split(), bits(START), strict=True):
            at = f"  {START.strip()} ".index(f" {word} ") + 1
            assert cells[at : at + len(word)] == pytest.approx([max(8 * rows * value / 8, 1)] * len(word), abs=1)
        many = " blue because" * 49 + " blue"
        screen.press("ctrl+n")
        written(screen, many)
        assert "max of 2 words a column" in screen.text
        *cells, rows = bars(screen, "SURPRISAL", "BITS SO FAR")
        found = [max(bits(many)[i : i + 2]) for i in range(0, 99, 2)]
        wanted = [max(8 * rows * value / max(8.0, *found), 1) for value in found]
        assert cells[2:] == pytest.approx(wanted, abs=1)


@pytest.mark.slow
def test_words_that_surprise_are_tinted_and_what_is_typed_is_plain_until_it_is_measured(screen: Screen) -> None:
    written(screen)
    plain = screen.ink("sky")
    surprising = [word for word, value in zip(START.split(), bits(START), strict=True) if value >= 2]
    assert surprising and [w for w in START.split()[1:] if screen.ink(w) != plain] == surprising
    screen.press("home", *["right"] * 14)  # before "blue"
    screen.press("x")
    assert "looksx blue" in screen.text or "looks xblue" in screen.text
    assert all(screen.ink(word) == plain for word in ("because", "scatter"))
    screen.press("backspace")  # before it was measured
    screen.wait(2)
    assert "most: sky" not in screen.text
    assert [w for w in START.split()[1:] if screen.ink(w) != plain] == surprising


@pytest.mark.slow
def test_parts_go_as_the_text_grows_and_the_text_never(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(80, 30)) as screen:
        written(screen)
        seen = []
        for lines in range(20):
            parts = [part in screen.text for part in ("CONTINUATION", "SURPRISAL", "BITS SO FAR")]
            assert parts == sorted(parts, reverse=True) and START.strip() in screen.text, lines
            seen.append(parts[0])
            screen.press("enter")
            screen.wait(1)
        assert seen == sorted(seen, reverse=True) and (seen[0], seen[-1]) == (True, False)


def test_the_text_comes_before_what_is_measured_of_it(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(80, 24)) as screen:
        written(screen)
        screen.wait(1)
        seen = screen.text
        screen.resize(12, 5)
        screen.resize(80, 24)
        assert screen.text == seen and "SURPRISAL" in seen and "BITS SO FAR" in seen
        screen.press(*["enter"] * 15)
        screen.wait(2)
        assert "SURPRISAL" not in screen.text
        screen.press("ctrl+n")
        assert "Any text: every token" in screen.text
        screen.resize(40, 12)
        assert "Any text: every token" in screen.text


def test_a_text_goes_on_from_the_cursor_and_is_kept(screen: Screen) -> None:
    written(screen)
    screen.hold(after=3)
    screen.press("ctrl+r")
    assert "scatter short wavelengths" in screen.text and "continuing" in screen.text
    screen.press("escape")
    screen.release()
    screen.wait(2)
    assert "continuing" not in screen.text and "predicted 10 of 11 tokens" in screen.text
    (talk,) = screen.kept
    assert talk.title.startswith("The sky looks blue")
    assert "".join(node.text for node in talk.nodes.values()).startswith(START)
    screen.press("f2", "f4")
    assert "scatter short wavelengths" in screen.text
    screen.press("ctrl+n")
    assert "scatter" not in screen.text
    screen.press("ctrl+o")
    assert "The sky looks blue" in screen.text
    screen.press("enter")
    assert "scatter short wavelengths" in screen.text


def test_it_goes_on_from_the_middle_too_and_nothing_that_was_written_is_lost(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[BLUE])) as screen:
        written(screen, " The sky looks blue because red")
        screen.press(*["left"] * 4)
        screen.wait(1)
        assert "TOKEN 6/6  ·red" in screen.text
        screen.press("ctrl+r")
        screen.wait(1)
        assert "because all directions by the gases" in screen.text
        ours, drawn = screen.kept[0].nodes.values()
        assert ours.text == " The sky looks blue because red" and drawn.fork.at == len(" The sky looks blue because")
        assert "".join(step.text for step in drawn.steps) == " all directions by the gases of the atmosphere."


def test_its_sliders_are_typed_and_preset(screen: Screen) -> None:
    screen.press("f4", "ctrl+g", "=", "ctrl+u")
    screen.say("1.3")
    assert any("temperature" in line and line.rstrip().endswith("1.30") for line in screen.lines)
    screen.press("p", "enter")
    assert "SAMPLER  greedy" in screen.text


@settings(max_examples=100)
@given(strategies.lists(strategies.text("ab ", max_size=6), min_size=1, max_size=6))
def test_a_manuscript_never_loses_a_text(texts: list[str]) -> None:
    ids, talk = count(), Conversation("m", kind="text")
    for text in texts:
        talk, fork = text_document.commit(talk, text, lambda: f"n{next(ids)}")
        assert "".join(part for part in before(talk, fork).parts if isinstance(part, str)) == text


def test_a_run_that_fails_says_so_and_the_text_stays(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Screen(tmp_path, engine) as screen:
        written(screen)
        engine.fail_at = 2
        screen.press("ctrl+r")
        assert "told to fail" in screen.text and "air molecules scatter" in screen.text and screen.running


def test_numbers_of_another_text_do_not_stand_over_this_one(screen: Screen) -> None:
    """While a text is read nothing says a perplexity or a most surprising word, but that it is measured."""
    written(screen)
    assert "ppl" in screen.lines[0] and "predicted 7 of 8 tokens" in screen.text
    screen.paste(" blue" * 60)
    assert "measuring" in screen.lines[0] and "ppl" not in screen.text
    for part in ("SURPRISAL  by the word", "BITS SO FAR", "ENTROPY"):
        assert f"{part}  measuring" in screen.text
    assert "ctx" not in screen.lines[0]
    screen.wait(2)
    assert "measuring" not in screen.text and "predicted 67 of 68 tokens" in screen.text and "most:" in screen.text


def test_words_have_the_bits_of_their_tokens() -> None:
    engine = ScriptedEngine()
    text = " The sky\n\n blue, zzé"  # é is two tokens of a byte each
    steps = engine.score(engine.tokenizer.encode(text))
    words = bits_of_words(steps)
    assert "".join(word.text for word in words) == "".join(step.text for step in steps)
    assert (words[0].first, words[0].last) == (0, 1) and words[0].bits is None and words[-1].last == len(steps)
    assert all(a.last == b.first and a.end == b.start for a, b in pairwise(words))
    assert running_sum(steps)[-1] == pytest.approx(sum(word.bits for word in words if word.bits is not None))


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


def test_a_page_looks_as_in_its_picture(screen: Screen) -> None:
    assert_picture("screen/pictures/text-120x40.txt", written(screen).text + "\n")
