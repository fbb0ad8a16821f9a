"""What is said of a token and of an answer where there is little room, and a look that comes too late."""

from pathlib import Path

import numpy as np
import pytest

from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.theme import GLYPHS
from likely.app.tui.chat.candidates import Names, exact, replayed, view
from likely.engine.sampling import presets
from likely.engine.sampling.trace.observe import observe
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


@pytest.mark.parametrize("keys", [("ctrl+n",), ("tab", "left", "left", "ctrl+n")], ids=["newest", "cursor"])
def test_a_look_that_was_asked_for_while_the_token_is_gone_does_not_show(screen: Screen, keys: tuple[str, ...]) -> None:
    """The newest tokens' look is due a moment later, and so is the exact one of a token that the cursor rests on."""
    screen.say(ASK)
    screen.burst(*keys)
    screen.wait(1)
    assert "nothing drawn yet" in screen.text and "raw %" not in screen.text
    screen.say("and why red")
    screen.wait(1)
    assert "TOKEN 15/15" in screen.text


def test_a_token_of_a_search_has_the_sum_and_the_rank_of_each_candidate(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.plans = {"beam 3": "beams"}
    with Screen(tmp_path, engine) as screen:
        screen.say("/strategy beam 3", ASK)
        screen.press("tab", "ctrl+home", "down", "right", "right", "right")
        head = next(at for at, line in enumerate(screen.lines) if "Σ log₂p then rank" in line)
        rows = [line.partition("▏")[2].split() for line in screen.lines[head + 1 : head + 11]]
        steps = screen.kept[0].messages()[1].steps
        assert rows[0][:2] == ["▶", "·red"] and rows[0][-1] == "1" and all(row[-1] == "✕" for row in rows[1:])
        total = sum(step.logprob or 0.0 for step in steps[:4]) / np.log(2)
        assert float(rows[0][-2].replace("−", "-")) == pytest.approx(total, abs=0.01)
        sums, shares = ([float(row[at].replace("−", "-")) for row in rows] for at in (-2, -3))
        gaps = [total - np.log2(shares[0] / share) for share in shares]  # of one text before them all
        assert sums == pytest.approx(gaps, abs=0.1)


@pytest.mark.parametrize("values", [{"typical_p": 0.2, "temp": 1.5}, {"top_p": 0.99, "temp": 1.5}, {"min_p": 0.9}])
def test_at_least_one_token_is_kept_whatever_is_unknown(values: dict[str, float]) -> None:
    logits = np.random.default_rng(0).normal(0, 1, 50_000).astype(np.float32)
    step, names = observe(logits, 0, recipe=Sampling().preset("balanced").recipe, position=0), Names()
    wanted = presets.recipe({**presets.OFF, **values})
    found, sure = replayed(step, wanted, (), (), names, 0), exact(logits, wanted, (), names, (0, 0))
    assert found is not None and 1 <= found.kept[0] <= sure.kept[0] <= found.kept[1]
    assert found.mass[0] <= sure.mass[0] + 1e-6 and sure.mass[0] <= found.mass[1] + 1e-6
    words = view(step, found, wanted, names, title="", live=False).summary(GLYPHS)
    assert words.startswith("keeps ") and " 0 " not in words


@pytest.mark.slow
def test_a_header_keeps_tokens_and_end_longest_and_the_top_line_its_legend(screen: Screen) -> None:
    screen.say("/max 30", ASK)
    settings = ("T 0.80 · top-p 0.95 · min-p 0.05 · ", "T 0.80 · top-p 0.95 +1 · ", "T 0.80 +2 · ", "")
    notes = [f"{each}30 tok · ppl 2.3 · stopped at length" for each in settings]
    notes += ["30 tok · stopped at length", "stopped at length", ""]
    found = []
    for width in range(110, 20, -5):
        screen.resize(width, 24)
        note = next(line for line in screen.lines if line.startswith(" model")).partition("▏")[0][6:].strip()
        found.append(notes.index(note))
        top = screen.lines[0]
        assert all(words in top for words in ("2+", "4+", "6+", "8+", "bits")) == (width >= 60)
    assert found[1:] == sorted(found[1:]) and set(found) >= {0, 2, 3, 4, 5}


def test_words_are_tinted_by_their_bits_from_where_a_person_says(screen: Screen) -> None:
    screen.say(ASK)
    steps = screen.kept[0].messages()[1].steps
    for command, bounds in (("", (2, 4, 6, 8)), ("/heat 5", (5, 6, 8))):
        screen.say(*filter(None, [command]))
        for least, most in zip(bounds, (*bounds[1:], 1e9), strict=True):
            words = [step.text.strip() for step in steps if least <= -(step.logprob or 0) / np.log(2) < most]
            assert f" {least}+" in screen.lines[0]
            for word in [word for word in words if screen.text.count(word) == 1][:1]:
                assert "".join(screen.inked(screen.ink(word))).replace(" ", "") == "".join(words)
    assert "2+" not in screen.lines[0]


def test_line_ends_are_all_seen_or_none(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("tab")
    assert "⏎" not in "\n".join(screen.lines[:-1])
    screen.press("l")
    assert "\n".join(screen.lines[:-1]).count("⏎") == screen.said[1].count("\n") > 0


@pytest.mark.slow
def test_a_columns_foot_shows_whole_values_and_drops_speed_first(screen: Screen) -> None:
    screen.press("f3")
    screen.say(ASK)
    feet = []
    for width in (120, 80, 60):
        screen.resize(width, 24)
        feet.append(next(line for line in screen.lines if "ppl " in line))
    assert ["tok/s" in foot for foot in feet] == [True, False, False]
    assert all("ppl 2.7 · 15 tok" in foot and "the same" in foot and "…" not in foot for foot in feet)
