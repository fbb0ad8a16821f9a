"""The sampler: its sliders by keys and mouse, while a model draws and after; its settings as typed and on disk."""

import json
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from likely.app.store.sampling_text import BAN, shown, words
from likely.app.tui.base import presets, sampling, theme
from likely.app.tui.base.sampling import Sampling, typed
from likely.app.tui.base.theme import ASCII, GLYPHS, HARMLESS, Ascii, bar, column, shade, track
from likely.app.tui.chat.start import Start
from likely.app.words import heat
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.sampling.presets import ORDERS, PARAMETERS, PRESETS
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import LogitBias, Temperature, TopK
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def value(screen: Screen, label: str) -> str:
    """What stands behind a slider."""
    return next(line for line in screen.lines if f" {label} " in line and "●" in line).split()[-1]


def to(screen: Screen, label: str) -> None:
    """Walk to a row of the sliders, the topmost being picked at most so many rows above."""
    screen.press(*["up"] * 20)
    rows = [line.partition("▏  ")[2] for line in screen.lines]
    begin = next(y for y, row in enumerate(rows) if row.startswith("SAMPLER")) + 1
    screen.press(*["down"] * next(y for y, row in enumerate(rows[begin:]) if label in row))


@pytest.mark.slow
def test_a_slider_is_stepped_typed_put_back_and_its_transform_moved(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("ctrl+g")
    assert (
        "←→ Move  0 Off  = Type  u Undo  < > Order  p Presets" in screen.lines[-1]
        and value(screen, "temperature") == "0.80"
    )
    screen.press("right", "right")
    assert value(screen, "temperature") == "0.90" and "◆ if moved: T 0.80 → 0.90" in screen.text
    assert "if moved" in screen.text and "keeps 1 of 366" in screen.text
    screen.press("shift+right")
    assert value(screen, "temperature") == "1.40"
    screen.press("0")
    assert value(screen, "temperature") == "1.00"
    screen.press("=")
    screen.press("ctrl+u")
    screen.say("2.5")
    assert value(screen, "temperature") == "2.50"
    for said, line in (("-9", "must be in (0, 100], got -9.0"), ("warm", "temperature must be a number, got warm")):
        screen.press("=", "ctrl+u")
        screen.say(said)
        assert line in screen.text and value(screen, "temperature") == "2.50"
    screen.press("<")
    assert "SAMPLER  own order" in screen.text
    screen.press("p")
    assert "greedy" in screen.text and "wild" in screen.text
    screen.press("enter")  # the first preset
    assert "SAMPLER  greedy" in screen.text
    assert screen.kept[0].recipe.greedy


def test_what_is_off_is_unfolded_set_and_folded_away(screen: Screen) -> None:
    screen.press("ctrl+g", *["down"] * 8, "enter")
    assert "▾" in screen.text.partition("SAMPLER")[2] and "top-k" in screen.text and "DRY" in screen.text
    to(screen, "top-k")
    screen.press("right")
    assert value(screen, "top-k") == "1"
    screen.press("0")
    assert value(screen, "top-k") == "off"


def test_a_banned_token_is_lifted_by_a_key(screen: Screen) -> None:
    screen.say("/ban glow", "/bias tint -2.5")
    assert "·glow" in screen.text and "·tint" in screen.text
    screen.press("ctrl+g")
    to(screen, "·glow")
    screen.press("0")
    assert "·glow" not in screen.text.partition("SAMPLER")[2].partition("TREE")[0] and "·tint" in screen.text


def test_a_slider_follows_the_mouse(screen: Screen) -> None:
    screen.press("ctrl+g")
    screen.click("━━━━━━━●──────────    0.80")  # the left end of the temperature's track
    assert value(screen, "temperature") == "greedy"


def tempered(temperature: float) -> Start:
    return Start(SamplingConfig((Temperature(temperature),)), ("Temperature",), seed=0)


@pytest.mark.slow(2)
def test_moved_in_the_middle_of_an_answer_every_token_shows_what_it_was_drawn_from(tmp_path: Path) -> None:
    """Against a softmax in float64 of the engine's raw logits, at the temperature that held for each."""
    engine = ScriptedEngine()
    with Screen(tmp_path, engine, start=tempered(0.8)) as screen:
        screen.hold(after=11)
        screen.say(ASK)
        screen.press("ctrl+g", *["left"] * 8)
        assert value(screen, "temperature") == "0.40" and "T 0.80" in screen.text
        screen.release()
        assert "T 0.80 → 0.40 · 67 tok" in screen.text
        (talk,) = screen.kept
        steps = talk.messages()[-1].steps
        held = [
            transform.temperature
            for step in steps
            for transform in step.recipe.transforms
            if isinstance(transform, Temperature)
        ]
        assert held == [0.8] * 11 + [0.4] * 56
        (prompt,) = [ids for verb, ids in engine.calls if verb == "generate"][:1]
        for at in (0, 10, 11, 66):
            raw = (
                engine.raw([*prompt, *(step.token for step in steps[:at])], steps[at].token).astype(np.float64)
                / held[at]
            )
            p = np.exp(raw - raw.max()) / np.exp(raw - raw.max()).sum()
            assert steps[at].logprob_after == pytest.approx(math.log(p[steps[at].token]), abs=1e-5)
            screen.press("escape", "tab", "ctrl+home", "down", *["right"] * at)
            assert f"TOKEN {at + 1}/67" in screen.text
            row = next(line for line in screen.lines if "▶" in line).split()
            drawn = float(row[-2 if at < 11 else -1])
            assert drawn == pytest.approx(100 * p[steps[at].token], abs=0.006)
            assert ("if moved" in screen.text) is (at < 11)
        screen.press("ctrl+g", *["right"] * 8)  # back: what was drawn by it is not moved any more
        assert value(screen, "temperature") == "0.80" and re.search(r"if moved: T 0.40 → 0.80", screen.text)


def test_a_slider_that_was_walked_while_tokens_came_is_told_by_both_ends(screen: Screen) -> None:
    screen.hold(after=12)
    screen.say(ASK)
    screen.press("ctrl+g")
    for _ in range(8):
        screen.hold(after=1)
        screen.press("left")
    screen.release()
    assert "model  T 0.80 → … → 0.40 · top-p 0.95" in screen.text


@pytest.mark.parametrize(
    "size",
    [pytest.param(size, marks=[pytest.mark.slow] * (size[0] != 100)) for size in ((160, 45), (120, 40), (100, 30))],
    ids=str,
)
def test_sliders_and_the_current_leaf_are_seen_together(tmp_path: Path, size: tuple[int, int]) -> None:
    with Screen(tmp_path, size=size) as screen:
        screen.say(ASK)
        for seed in range(12):
            screen.say(f"/seed {seed}")
        if size[0] < 110:
            screen.press("tab", "vertical_line")
            if "SAMPLER" not in screen.text:
                screen.press("vertical_line")
        assert "TREE  13 leaves" in screen.text and "SAMPLER" in screen.text and "◀" in screen.text
        assert all(word in screen.text for word in ("top-p", "min-p", "temperature", "0.80"))


def test_where_there_is_no_room_for_two_they_take_turns(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(70, 24)) as screen:
        screen.say(ASK, "/redo")
        screen.press("tab")
        seen = set()
        for _ in range(5):
            screen.press("vertical_line")
            seen.add(("TREE" in screen.text, "SAMPLER" in screen.text))
        assert {(True, False), (False, True)} <= seen and (True, True) not in seen


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("temp", "temperature must be a number"), ("temp 1 top_k", "come with their values"), ("", "got none"),
        ("warmth 1", "warmth"), ("temp x", "temperature must be a number, got x"), (" , ", "got ,"),
        ("temp -3", r"^temperature must be in \(0, 100\], got -3.0$"), ("temp 101", "temperature must be in"),
        ("temp nan", "temperature must be in"), ("temp 0.5 top_k 2.5", "top-k must be a whole number"),
        ("top_p 1.5 temp 0.5", r"top-p must be in \(0, 1\]"), ("dynatemp_exponent 99", "exponent must be in"),
    ],
)  # fmt: skip
def test_what_is_no_setting_is_refused(text: str, line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        typed(text, Sampling())


def test_settings_come_back_from_their_recipe() -> None:
    for name in PRESETS:
        for order in ORDERS.values():
            it = Sampling(order=order).preset(name)
            assert Sampling.of(it.recipe, it.names) == it
            found = Sampling.of(it.recipe)
            assert found.recipe == it.recipe and found.values == it.values
    banned = Sampling().biased(7, BAN).biased(3, 2.5)
    again = Sampling.of(banned.recipe, banned.names)
    assert dict(again.bias) == {7: BAN, 3: 2.5} and again == banned
    temp = PARAMETERS["temp"]
    own = Sampling().with_value("top_k", 7).moved(temp, -2)
    assert own.order_name == "own"
    assert Sampling.of(own.recipe, own.names) == own and Sampling.of(own.recipe).recipe == own.recipe
    assert Sampling.of(own.recipe, own.names[:-1]).recipe == own.recipe
    warm = Sampling().with_value("dynatemp_range", 0.5)
    assert Sampling.of(warm.recipe, warm.names) == warm


def test_a_transform_runs_earlier_or_later() -> None:
    it = Sampling()
    top_p, range_ = PARAMETERS["top_p"], PARAMETERS["dynatemp_range"]
    at = it.names.index("TopP")
    assert it.moved(top_p, -1).names.index("TopP") == at - 1
    assert it.moved(top_p, 2).names.index("TopP") == at + 2
    assert it.moved(top_p, 0) == it
    assert it.moved(top_p, -99).names[0] == "TopP" and it.moved(top_p, 99).names[-1] == "TopP"
    assert it.moved(range_, -1).names.index("Temperature") == it.names.index("Temperature") - 1
    assert sorted(it.moved(top_p, 3).names) == sorted(it.names)


@pytest.mark.parametrize(
    ("name", "from_", "steps", "to"),
    [
        ("temp", 0.8, 1, 0.85), ("temp", 0.8, -1, 0.75), ("temp", 0.8, 10, 1.3), ("temp", 0.0, -1, 0.0),
        ("temp", 0.81, 1, 0.85), ("top_k", 40, 2, 42), ("top_p", 0.5, -2, None),
    ],
)  # fmt: skip
def test_a_slider_moves_in_its_steps(name: str, from_: float, steps: int, to: float | None) -> None:
    found = Sampling().with_value(name, from_).stepped(name, steps).values[name]
    assert found == pytest.approx(from_ + steps * PARAMETERS[name].step if to is None else to)


def test_bans_and_biases_are_told_apart() -> None:
    it = Sampling().banned(5).biased(6, 2.0).biased(7, -99.5).banned(8)
    assert it.bans == (5, 8) and it.biases == ((6, 2.0), (7, -99.5))
    assert it.banned(5).bans == (8,)  # allowed again
    assert it.biased(5, 1.0).bans == (8,) and it.biased(5, 1.0).biases[-1] == (5, 1.0)
    assert it.banned(6).bans == (5, 8, 6) and it.lift(7).biases == ((6, 2.0),)
    assert it.lift(1) == it
    assert words(it.recipe).endswith(" · 2 banned · 2 biased")
    assert words(it.lift(6).lift(7).recipe).endswith("· 2 banned") and words(SamplingConfig()) == "T 1.00"
    assert words(Sampling().unshaped().biased(1, 1.0).recipe) == "1 biased"
    assert words(SamplingConfig(transforms=(LogitBias({1: BAN, 2: 3.0}),))) == "1 banned · 1 biased"
    assert words(SamplingConfig(greedy=True)) == "greedy"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("temp", 0.0, "greedy"), ("temp", 1.0, "1.00"), ("temp", 0.8, "0.80"), ("top_k", 0, "off"),
        ("top_k", 40, "40"), ("top_p", 1.0, "off"), ("top_p", 0.95, "0.95"), ("min_p", 0.0, "off"),
    ],
)  # fmt: skip
def test_values_are_printed_beside_their_sliders(name: str, value: float, said: str) -> None:
    assert shown(PARAMETERS[name], value) == said


@pytest.mark.slow
def test_what_the_makers_of_a_model_recommend_is_a_preset_where_they_do(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    engine.facts = replace(engine.facts, sampling={"temp": 0.6, "top_k": 20})
    with Screen(tmp_path, engine, ScriptedEngine("other")) as screen:
        screen.say(ASK)
        screen.press("ctrl+g", "p")
        (row,) = (line for line in screen.lines if "recommended" in line)
        assert "temperature 0.6, top-k 20, by the files of scripted" in row
        screen.press(*["down"] * len(PRESETS), "enter")
        assert "SAMPLER  recommended" in screen.text and value(screen, "top-k") == "20"
        assert screen.kept[0].recipe == SamplingConfig((TopK(20), Temperature(0.6)))
        screen.press("escape")
        screen.say("/model other")
        assert "SAMPLER  recommended" not in screen.text
        screen.say("/preset recommended")
        assert "other comes without recommended values" in screen.text


def test_presets_are_kept_with_those_that_cannot_be_read(tmp_path: Path) -> None:
    home, other = tmp_path, {"values": {"warmth": 1.0}, "order": []}
    (home / presets.FILE).write_text(json.dumps({"broken": other, "short": {"values": {}}}))
    mine = Sampling().with_value("top_k", 7).moved(PARAMETERS["temp"], -1)
    presets.keep(home, "mine", mine)
    assert presets.own(home) == {"mine": mine}
    assert set(json.loads((home / presets.FILE).read_text())) == {"broken", "short", "mine"}
    assert presets.names(home, None) == [*PRESETS, "mine"]
    assert presets.chosen(home, "preset mine", Sampling().banned(3), None) == Sampling(
        mine.values, mine.order, {3: BAN}
    )
    assert presets.chosen(home, "preset wild", mine, None) == mine.preset("wild")
    assert (
        presets.chosen(
            home, "order llama.cpp" if "llama.cpp" in ORDERS else f"order {next(iter(ORDERS))}", mine, None
        ).values
        == mine.values
    )
    for choice, line in (
        ("preset none", "there is no preset none: .*mine"),
        ("order none", f"there is no order none: {next(iter(ORDERS))}"),
        ("order mine", "no order"),
        ("preset " + list(ORDERS)[-1], "no preset"),
    ):
        with pytest.raises(ParameterError, match=line):
            presets.chosen(home, choice, mine, None)
    (home / presets.FILE).write_text("{")
    assert presets.own(home) == {}
    (home / presets.FILE).unlink()
    (home / presets.FILE).mkdir()
    with pytest.raises(DataError):
        presets.keep(home, "mine", mine)


def style_of(style: Style) -> str:
    attributes = [name for name in ("bold", "dim", "italic", "underline", "reverse", "strike") if getattr(style, name)]
    off = [f"not {name}" for name in ("bold", "reverse", "underline") if getattr(style, name) is False]
    colour, ground = (None if each is None else each.name for each in (style.color, style.bgcolor))
    return " ".join(filter(None, (colour, ground and f"on {ground}", *attributes, *off))) or "plain"


def test_a_theme_that_lacks_colours_has_the_terminals() -> None:
    look = theme.look({}, "true")
    assert style_of(look.text) == "default" and style_of(look.row) == "default bold"
    assert len(look.tints) == len(look.tiles) == theme.SHADES
    assert {style_of(each) for each in look.tints} == {"on #000000"}
    assert look.heat == theme.look({}, "true", True).heat != theme.look({}, "true", False).heat


def test_grounds_go_from_the_background_to_the_hue() -> None:
    look = theme.look({"background": "#000000", "tint": "#ffffff", "tile": "#ff0000"}, "true")
    whites = [each.bgcolor.triplet for each in look.tints if each.bgcolor is not None]
    values = [each.red for each in whites if each is not None]
    assert (values[0], values[-1]) == (0, 255) and values == sorted(values) and len(set(values)) == 17
    assert abs(values[8] - 255 * 0.5**1.1) <= 1
    reds = [each.bgcolor.triplet for each in look.tiles if each.bgcolor is not None]
    assert reds[8] is not None and abs(reds[8].red - 255 * 0.5**0.8) <= 1 and reds[8].green == 0


@pytest.mark.parametrize(
    ("share", "at"), [(-1.0, 0), (0.0, 0), (0.1, 0), (0.3, 1), (0.5, 2), (0.9, 4), (1.0, 4), (7.0, 4)]
)
def test_a_share_has_its_shade(share: float, at: int) -> None:
    steps = [Style(color=f"color({number})") for number in range(5)]
    assert shade(steps, share) == steps[at]


@pytest.mark.parametrize(
    ("share", "size", "drawn"),
    [
        (0.0, 4, "    "), (0.001, 4, "▏   "), (0.25, 4, "█   "), (0.3, 4, "█▎  "), (0.5, 4, "██  "),
        (0.99, 4, "████"), (1.0, 4, "████"), (2.0, 4, "████"), (-1.0, 4, "    "), (0.97, 4, "███▉"), (0.5, 1, "▌"),
        (0.06, 1, "▏"), (0.07, 2, "▏ "), (0.1, 2, "▎ "),
    ],
)  # fmt: skip
def test_bars_are_drawn_in_eighths_of_a_cell(share: float, size: int, drawn: str) -> None:
    assert bar(share, size, GLYPHS) == drawn


@pytest.mark.parametrize(
    ("share", "rows", "drawn"),
    [
        (0.0, 2, "▁ "), (0.5, 1, "▄"), (1.0, 1, "█"), (2.0, 1, "█"), (0.5, 2, "█ "), (0.75, 2, "█▄"), (1.0, 2, "██"),
        (0.56, 2, "█▁"), (-1.0, 1, "▁"),
    ],
)  # fmt: skip
def test_columns_are_drawn_from_the_lowest_row_up(share: float, rows: int, drawn: str) -> None:
    assert "".join(column(share, row, rows, GLYPHS) for row in range(rows)) == drawn


@pytest.mark.parametrize(
    ("share", "drawn"),
    [
        (0.0, "●────"), (0.1, "●────"), (0.25, "━●───"), (0.5, "━━●──"), (0.9, "━━━━●"), (1.0, "━━━━●"),
        (9.0, "━━━━●"), (-9.0, "●────"),
    ],
)  # fmt: skip
def test_a_slider_has_its_knob_at_its_share(share: float, drawn: str) -> None:
    look = theme.look(
        {"bar": "#111111", "accent": "#222222", "foreground": "#333333", "faint": "#444444", "track": "#555555"}, "true"
    )
    for on in (False, True):
        for picked in (False, True):
            parts = track(share, 5, look, GLYPHS, on=on, picked=picked)
            assert "".join(part.text for part in parts) == drawn
            knob = (look.accent if picked else look.text) if on else look.faint
            assert [part.style for part in parts] == [look.bar if on else look.track, knob, look.track]


def test_every_picture_has_a_stand_in_of_its_width() -> None:
    assert all(len(chr(picture)) == len(stand_in) == 1 and stand_in.isascii() for picture, stand_in in ASCII.items())
    for each in fields(GLYPHS):
        assert getattr(GLYPHS, each.name).translate(ASCII).isascii(), each.name
    assert "⠀⠁⠈⠂⠐⠄⠠⡀⢀⠅⣿".translate(ASCII) == " " + "'" * 4 + "....::"
    plain, pictured = Segment("abc", Style(bold=True)), Segment("▶ é│", Style(dim=True))
    found = Ascii().apply([plain, pictured], Color.parse("#000000"))
    assert found[0] is plain and (found[1].text, found[1].style) == ("> é|", pictured.style)


def test_what_would_move_a_terminal_is_dropped() -> None:
    ground = Color.parse("#000000")
    safe = [Segment("abc\n"), Segment("é")]
    assert HARMLESS.apply(safe, ground) is safe
    found = HARMLESS.apply([Segment("a\x1bb\x07", Style(bold=True)), Segment("c")], ground)
    assert [(each.text, each.style) for each in found] == [("ab", Style(bold=True)), ("c", None)]


def test_levels_of_heat_as_styles() -> None:
    for colours in ("true", "256", "16", "plain"):
        for tint in heat.RAMPS[colours, True]:
            style = theme.tinted(tint)
            assert bool(style.underline) == tint.underline and bool(style.bold) == tint.bold
            assert (style.color is None) == (not tint.ink) and (style.bgcolor is None) == (not tint.fill)
            assert bool(style.reverse) == tint.reverse
    assert sampling.BAN == -100.0
