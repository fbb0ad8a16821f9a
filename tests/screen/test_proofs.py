"""Live proofs on the screen: a law is drawn for as it is looked at, on and anew, and left while it is drawn for."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from likely.app.tui.views.proofs import ProofsScreen
from likely.engine.base.statistics.goodness import above
from likely.engine.measure.proofs.table import proofs, proving
from tests.support.screen import Screen


def opened(folder: Path, size: tuple[int, int] = (120, 40)) -> Iterator[Screen]:
    with Screen(folder, size=size, proof="") as screen:
        screen.wait(1)
        yield screen


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Screen]:
    yield from opened(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Screen]:
    yield from opened(tmp_path, (80, 24))


def table(screen: Screen) -> dict[str, int]:
    """What was drawn of each outcome, as it is listed."""
    found = re.findall(r"(\S+) +\d\.\d{4} +[\d,]+\.\d +([\d,]+) *$", screen.text, re.M)
    return {name: int(count.replace(",", "")) for name, count in found}


@pytest.mark.slow(2)
def test_a_law_is_drawn_for_on_and_anew(wide: Screen) -> None:
    """The numbers are those of the draws of the same seed, made beside the screen."""

    def drawn(seed: int, draws: int) -> dict[str, int]:
        proof = proofs()["sample"]
        *_, evidence = proving(proof, draws, seed=seed)
        return dict(zip(proof.claim.names, evidence.counts.tolist(), strict=True))  # type: ignore[attr-defined]

    assert "All 155 texts" in wide.text and "2,000 draws" in wide.text and "✓ draws from this law" in wide.text
    assert "entropy 5.77 bits · effective 2^H = 54 of 155" in wide.text and "at rest" in wide.text
    shown, counts = table(wide), drawn(0, 2000)
    assert len(shown) > 10 and sum(shown.values()) == 2000 and wide.lines[7].split()[-1] == str(counts["te∎"])
    assert all(shown[name] == counts[name] for name in shown if name != "more")
    wide.press("+")
    wide.wait(1)
    assert "3,000 draws" in wide.text and table(wide)["te∎"] == drawn(0, 3000)["te∎"]
    wide.press("r")
    wide.wait(1)
    assert "2,000 draws" in wide.text and "seed 1" in wide.text and table(wide)["te∎"] == drawn(1, 2000)["te∎"]
    before = wide.lines
    wide.press("v")
    assert (
        "height is p" in wide.text and wide.lines[8:18] != before[8:18] and table(wide)["te∎"] == drawn(1, 2000)["te∎"]
    )


PAGES = (
    ("p(x | rule), listed", "0.92 bits", "(KL) and 0.37 (TV)", "+5", "✓ draws from this law"),
    ("SCORE AND BOUND", "✓ proven", "greedy: se∎", "pass 8"),
    ("likeliest first", "one letter a pass", "✓ draws from this law"),
    ("within ±1.96 standard errors", "its standard error", "✓ 0 in the mean"),
    ("of the last 100 miss 0.62", "too low", "✓ covers as it says"),
    ("ERROR OF WHAT IS ALLOWED", "6 of 6 within their bounds", "✓ proven"),
)


@pytest.mark.slow(4)
def test_every_page_says_what_it_shows(wide: Screen) -> None:
    for words in PAGES:
        wide.press("right")
        wide.wait(1)
        for each in words:
            assert each in wide.text or each in wide.text.replace("\n", " "), (each, wide.text)
    wide.press("left", "left", "left", "tab")
    assert "BOUND LESS −LOG P: 0 IN THE MEAN" in wide.text
    wide.press("right", "right", "right", "right")
    wide.burst(*["tab"] * 3)
    wide.wait(1)
    assert "PAIR" in wide.text and "✓ draws from this law" in wide.text
    wide.burst(*["tab"] * 5)
    wide.wait(1)
    for each in ("p²/Σp²", "✗ not this law, as it has to be", "power) is 0.18 bits"):
        assert each in wide.text, (each, wide.text)
    wide.press("equals_sign")
    assert "χ² = Σ" in wide.text and "p 10⁻¹⁰⁰" in wide.text


@pytest.mark.slow(2)
def test_a_small_screen_has_picture_and_numbers_by_turns(small: Screen) -> None:
    assert "✓ draws from this law" in small.text and "exact  expected" not in small.text and "CHI-SQUARE" in small.text
    small.press("t")
    assert "te∎" in table(small) and "WHY THIS IS A PROOF" in small.text and "CHI-SQUARE" not in small.text
    small.press("escape")
    assert "CHI-SQUARE" in small.text
    small.press("escape")
    assert "Message" in small.text


@pytest.mark.slow(2)
def test_it_is_left_while_it_draws_and_keys_come_in_bursts(wide: Screen) -> None:
    """What was begun is there when one comes back; where there is nothing to draw, drawing on is refused."""
    wide.burst("+", "+", "f2")
    assert "Message" in wide.text
    wide.type("/proofs")
    wide.press("enter")
    wide.wait(1)
    assert "4,000 draws" in wide.text and "at rest" in wide.text
    wide.burst("tab", "tab", "shift+tab", "r", "v", "left", "right", "right", "right")
    wide.wait(1)
    assert "✓ proven" in wide.text
    wide.press("space", "+")
    assert "nothing is drawn here: a bound decides" in wide.lines[-1]
    wide.press("left", "a")
    wide.wait(1)
    assert wide.text.count("✓") == 5  # all four laws of the page, and the one that is looked at


@pytest.mark.slow(2)
def test_a_lesson_begins_with_a_law_and_has_its_numbers(tmp_path: Path) -> None:
    with Screen(tmp_path, proof="branches") as screen:
        screen.wait(1)
        view = screen.app.screen
        assert isinstance(view, ProofsScreen) and "PAIR" in screen.text
        numbers = view.numbers()
        assert numbers["law"] == "branches" and numbers["df"] == 24.0 and numbers["draws"] == 2000.0
        assert above(float(str(numbers["chi2"])), 24) == pytest.approx(numbers["p"])
        view.set_state({"law": "intervals"})
        assert view.numbers() == {}
        screen.wait(1)
        assert "INTERVALS" in screen.text and view.numbers()["df"] == 2.0
