"""Colours and control characters of the plain commands."""

import io

import pytest

from app import heat


@pytest.mark.parametrize(
    ("bits", "level"), [(None, 0), (0.0, 0), (0.99, 0), (1.0, 1), (2.0, 2), (4.0, 3), (6.0, 4), (8.9, 4), (9.0, 5)]
)
def test_levels(bits: float | None, level: int) -> None:
    assert heat.level(bits) == level


def test_a_pipe_gets_no_codes() -> None:
    assert heat.colour_mode(io.StringIO(), {}) == "none"
    assert heat.paint("text", 5, "none") == "text"


@pytest.mark.parametrize("mode", ["true", "256", "16", "plain"])
def test_every_mode_tells_the_surprising_from_the_expected(mode: str) -> None:
    painted = [heat.paint("x", level, mode) for level in range(6)]
    assert painted[0] == "x"
    assert painted[5] != painted[0]
    assert len(set(painted)) >= (5 if mode != "plain" else 4)


def test_a_painted_line_break_stays_outside_the_colour() -> None:
    assert "\x1b[0m\n" in heat.paint("a\nb", 4, "true")


def test_escape_sequences_are_shown_not_sent() -> None:
    shown = heat.visible("a\x1b[31mb\x07\r\x9b\u202ec\td\n")
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)
    assert shown == "a␛[31mb␇␍<009B><202E>c\td\n"
