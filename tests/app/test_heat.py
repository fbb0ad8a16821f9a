"""Colours and control characters of the plain commands."""

import io
import math

import pytest

from app import heat


@pytest.mark.parametrize(
    ("bits", "level"), [(None, 0), (0.0, 0), (1.99, 0), (2.0, 1), (3.9, 1), (4.0, 2), (6.0, 3), (7.9, 3), (8.0, 4)]
)
def test_levels(bits: float | None, level: int) -> None:
    assert heat.level(bits) == level


def test_a_person_chooses_from_where_on_words_are_tinted() -> None:
    assert [heat.level(bits, 5.0) for bits in (4.9, 5.0, 6.0, 9.0)] == [0, 2, 3, 4]
    assert [heat.level(bits, 1.0) for bits in (0.9, 1.0, 2.0)] == [0, 1, 1]
    assert heat.legend("surprisal") == [("2+", 1), ("4+", 2), ("6+", 3), ("8+", 4)]
    assert heat.legend("surprisal", 5.0) == [("5+", 2), ("6+", 3), ("8+", 4)]
    assert heat.legend("surprisal", 0.5)[0] == ("0.5+", 1) and heat.legend("off") == []
    for least in (0.5, 2.0, 3.0, 6.0, 20.0):
        for words, level in heat.legend("surprisal", least):
            assert heat.level(float(words[:-1]), least) == level


GROUNDS = {True: ("#101214", "#e3e5e8"), False: ("#fcfcfa", "#1b1f23")}  # of the two themes, with their text


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def shade(colour: str) -> str:
    """A colour of a ramp as `#rrggbb`; 256 colours are a cube of six steps and a row of greys."""
    if colour.startswith("#"):
        return colour
    number = int(colour) - 16
    assert 0 <= number < 216, "the greys and the terminal's own colours are not known"
    steps = (0, 95, 135, 175, 215, 255)
    return "#" + "".join(f"{steps[number // 6**power % 6]:02x}" for power in (2, 1, 0))


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("mode", ["true", "256"])
def test_every_tint_can_be_read(mode: str, dark: bool) -> None:
    ground = GROUNDS[dark][0]
    for tint in heat.RAMPS[mode, dark][1:]:
        found = contrast(shade(tint.ink), shade(tint.fill) if tint.fill else ground)
        assert found >= 4.5, (mode, dark, tint, found)


@pytest.mark.parametrize("dark", [True, False])
def test_the_tints_stand_out_more_and_more_without_their_hue(dark: bool) -> None:
    """In grey: each level is told from the next by its shape, or by its fill's distance from the ground."""
    ground, ramp = GROUNDS[dark][0], heat.RAMPS["true", dark]
    shapes = [(round(contrast(tint.fill or ground, ground), 1), tint.underline) for tint in ramp]
    assert shapes[0] == shapes[1] == (1.0, False) and shapes[2] == (1.0, True)  # the first differs in colour alone
    assert 1.0 < shapes[3][0] < shapes[4][0]
    assert luminance(heat.RAMPS["true", dark][1].ink) != luminance(GROUNDS[dark][1])


def lch(colour: str) -> tuple[float, float]:
    """Chroma and hue, in degrees, of an sRGB colour in OKLab (Ottosson 2020)."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    x = 1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short
    y = 0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short
    return math.hypot(x, y), math.degrees(math.atan2(y, x)) % 360


@pytest.mark.parametrize("dark", [True, False])
def test_the_tints_are_of_one_hue(dark: bool) -> None:
    assert lch("#ff0000") == pytest.approx((0.2577, 29.2), rel=0.01)  # as published
    tints = heat.RAMPS["true", dark][1:]
    found = [lch(colour) for tint in tints for colour in (tint.ink, tint.fill) if colour]
    hues = [hue for chroma, hue in found if chroma > 0.03]  # the others are a white
    assert len(hues) >= 5 and max(hues) - min(hues) < 35


def test_a_pipe_gets_no_codes() -> None:
    assert heat.colour_mode(io.StringIO(), {}) == "none"
    assert heat.paint("text", 5, "none") == "text"


@pytest.mark.parametrize("mode", ["true", "256", "16", "plain"])
def test_every_mode_tells_the_surprising_from_the_expected(mode: str) -> None:
    for dark in (True, False):
        painted = [heat.paint("x", level, mode, dark) for level in range(5)]
        assert painted[0] == "x"
        assert len(set(painted)) == (5 if mode in ("true", "256") else 4)  # 2 to 4 bits: a colour, where there are some


def test_only_the_word_is_painted() -> None:
    assert "\x1b[0m\n" in heat.paint("a\nb", 4, "true")
    painted = heat.paint("  forty \n", 3, "true", True)
    assert painted == "  \x1b[38;2;255;196;119;48;2;59;41;16mforty\x1b[0m \n"
    assert heat.paint(" \n\t", 4, "true") == " \n\t"


def test_the_ground_is_known_or_taken_for_dark() -> None:
    assert heat.on_dark({}) and heat.on_dark({"COLORFGBG": "15;0"}) and heat.on_dark({"LIKELY_THEME": "dark"})
    assert not heat.on_dark({"COLORFGBG": "0;15"}) and not heat.on_dark({"LIKELY_THEME": "light"})


def test_escape_sequences_are_shown_not_sent() -> None:
    shown = heat.visible("a\x1b[31mb\x07\r\x9b\u202ec\td\n")
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)
    assert shown == "a␛[31mb␇␍<009B><202E>c\td\n"
