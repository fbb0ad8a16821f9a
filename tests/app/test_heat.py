"""Colours and control characters of the plain commands."""

import io
import math

import pytest

from likely.app.words import heat
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep


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


def test_a_level_is_of_what_a_person_looks_at() -> None:
    def of(logprob: float | None, entropy: float | None, rank: int | None) -> TokenStep:
        return TokenStep(0, b"", "", logprob, None, entropy, None, rank, 1, SamplingConfig(), None, None, 0)

    nat = math.log(2)
    for bits, wanted in ((1.9, 0), (2.1, 1), (4.1, 2), (6.1, 3), (8.1, 4)):
        assert heat.heat_level(of(-bits * nat, None, None), "surprisal") == wanted
        assert heat.heat_level(of(None, bits * nat, None), "entropy") == wanted
    assert not any(heat.heat_level(of(-3 * nat, 3 * nat, 1), way, 3.5) for way in ("surprisal", "entropy"))
    ranks = (1, 2, 3, 5, 6, 20, 21, 100, 101, 999)
    assert [heat.heat_level(of(None, None, rank), "rank") for rank in ranks] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    for way in ("surprisal", "entropy", "rank", "off"):
        assert heat.heat_level(of(None, None, None), way) == 0
    assert heat.heat_level(of(-9.0, 9.0, 999), "off") == 0
    assert heat.legend("rank") == [("3+", 1), ("6+", 2), ("21+", 3), ("101+", 4)]
    assert heat.legend("surprisal", 8.5) == [("8.5+", 4)] and heat.legend("entropy", 4.0)[0] == ("4+", 2)
    assert [heat.moved_level(kl) for kl in (0.0, 0.09, 0.1, 0.3, 1.0, 3.0)] == [0, 0, 1, 2, 3, 4]


def test_bits_are_a_number_above_0() -> None:
    assert [heat.bits_of(text) for text in ("0.5", " 3 ", "1e3")] == [0.5, 3.0, 1e3]
    assert not any(map(heat.bits_of, ("0", "-1", "inf", "nan", "x", "")))


def test_colours_are_those_that_the_terminal_has() -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    for environ, mode in (
        ({}, "16"), ({"TERM": "xterm-256color"}, "256"), ({"TERM": "dumb"}, "none"), ({"NO_COLOR": "1"}, "plain"),
        ({"COLORTERM": "truecolor"}, "true"), ({"COLORTERM": "24bit"}, "true"), ({"COLORTERM": "yes"}, "16"),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb"}, "true"), ({"NO_COLOR": "", "TERM": "xterm"}, "16"),
    ):  # fmt: skip
        assert heat.colour_mode(terminal, environ) == mode, environ
    assert heat.colour_mode(io.StringIO(), {"FORCE_COLOR": "1"}) == "true"
    assert not heat.on_dark({"COLORFGBG": "0;default;7"}) and heat.on_dark({"COLORFGBG": "15;default;0"})


def test_a_line_of_error_is_not_endless() -> None:
    assert heat.sanitize_line("a\nb\tc\x1b") == "a b c␛"
    assert heat.sanitize_line("x" * 2000) == "x" * 2000
    assert heat.sanitize_line("a" * 1001 + "b" * 1000) == "a" * 1000 + " … " + "b" * 500
    assert heat.visible("\x1f\x20\x7f\x80") == "␟ ␡<0080>"


def test_a_line_has_the_room_of_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "33")
    assert heat.columns("16") == 33 and heat.columns("none") > 10**9
