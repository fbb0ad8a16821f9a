"""The panel, the drawer and the lines around them: what is said, what is dropped first where there is little room."""

import numpy as np
import pytest

from likely.app.tui.base.layout import TokenPlace
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.theme import GLYPHS, SHADES, _towards, shade
from likely.app.tui.chat.candidates import BANNED, Names, exact, replayed, view
from likely.app.tui.widgets.candidates import percent
from likely.app.tui.widgets.overlays import AlternativeRows
from likely.app.tui.widgets.transcript_pane import TranscriptPane
from likely.engine import presets
from likely.engine.trace.observe import observe
from tests.tui.conftest import Play, Stage
from tests.tui.test_pictures import compared

ASK = "Why is the sky blue?"


async def standing(stage: Stage, token: int = 8) -> None:
    """An answer, the cursor on one of its tokens."""
    await stage.ask(ASK)
    stage.chat.pane.view.focus()
    stage.chat.pane.view.move_to(TokenPlace(1, token))
    await stage.pilot.pause()


async def test_both_probabilities_stand_under_their_headings(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        await standing(stage)
        table, lines = stage.panel.view, stage.picture().splitlines()
        assert table is not None and any(row.removed_by for row in table.rows)
        heading = next(line for line in lines if "raw %" in line)
        ends = [heading.index(words) + len(words) for words in ("raw %", "drawn %")]
        after = 0.0
        for row in table.rows[:10]:
            figure = "cut" if row.removed_by else percent(row.after or 0.0)
            line = next(line for line in lines if row.name in line and line.rstrip().endswith(figure))
            assert line[: ends[0]].endswith(percent(row.before))
            assert line[: ends[1]].endswith(figure)
            after += 0.0 if row.removed_by else row.after or 0.0
        assert after <= 1 + 1e-9 and sum(row.before for row in table.rows) <= 1 + 1e-9
        assert any("█ drawn" in line and "│ raw" in line and "┊ cut by" in line for line in lines)
        assert any("of the raw mass" in line for line in lines)


@pytest.mark.slow
async def test_the_popup_says_what_the_panel_says(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        await standing(stage)
        table = stage.panel.view
        await stage.pilot.press("enter")
        await stage.pilot.pause()
        rows = stage.app.screen.query_one(AlternativeRows)
        assert rows.view == table
        popup = "\n".join("".join(s.text for s in line) for line in rows.lines(54, 11))
        assert table is not None and "raw %" in popup and "drawn %" in popup
        for row in table.rows[:3]:
            assert percent(row.before) in popup and percent(row.after or 0.0) in popup


@pytest.mark.parametrize("values", [{"typical_p": 0.2, "temp": 1.5}, {"top_p": 0.99, "temp": 1.5}, {"min_p": 0.9}])
def test_at_least_one_token_is_kept_whatever_is_unknown(values: dict[str, float]) -> None:
    logits = np.random.default_rng(0).normal(0, 1, 50_000).astype(np.float32)
    under = Sampling().preset("balanced").recipe
    step, names = observe(logits, 0, recipe=under, position=0), Names()
    wanted = presets.recipe({**presets.OFF, **values})
    found, sure = replayed(step, wanted, (), (), names, 0), exact(logits, wanted, (), names, (0, 0))
    assert found is not None and 1 <= found.kept[0] <= sure.kept[0] <= found.kept[1]
    assert found.mass[0] <= sure.mass[0] + 1e-6 and sure.mass[0] <= found.mass[1] + 1e-6
    words = view(step, found, wanted, names, title="", live=False).summary(GLYPHS)
    assert words.startswith("keeps ") and " 0 " not in words


async def test_the_sampler_pins_what_acts_and_folds_what_does_not(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        await standing(stage)
        assert stage.sampler.rows() == ["top_p", "min_p", "temp", "off"] and "▸ 10 more off" in stage.picture()
        assert stage.panel.view is not None
        token, name = stage.panel.view.rows[1].token, stage.panel.view.rows[1].name
        stage.chat.inspector.ban(token)
        await stage.pilot.pause()
        assert stage.sampler.rows() == ["top_p", "min_p", "temp", f"#{token}", "off"]
        assert any("banned" in line and "✕" in line and name in line for line in stage.picture().splitlines())
        banned = next(row for row in stage.panel.view.rows if row.token == token)
        assert banned.removed_by == BANNED  # it stays listed
        stage.sampler.focus()
        stage.sampler.picked = f"#{token}"
        await stage.pilot.press("0")
        assert not stage.sampler.sampling.bans


@pytest.mark.slow
async def test_what_is_off_unfolds_and_joins_when_it_is_moved(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        await standing(stage)
        stage.sampler.focus()
        await stage.pilot.press("z")
        assert "top_k" in stage.sampler.rows()
        await stage.until(lambda: "▾ 10 off" in stage.picture())
        stage.sampler.picked = "top_k"
        await stage.pilot.press("right")
        rows = stage.sampler.rows()
        assert rows.index("top_k") < rows.index("off") and stage.sampler.chosen == "top_k"
        await stage.pilot.press("z")
        assert "top_k" in stage.sampler.rows() and "typical_p" not in stage.sampler.rows()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (120, 30), (100, 30), (80, 24)])
async def test_no_part_of_the_panel_hides_another(play: Play, size: tuple[int, int]) -> None:
    """The sampler's active rows are always seen; the tree's current leaf where the tree is."""
    async with play(size=size) as stage:
        await standing(stage)
        for number in "23":
            await stage.pilot.press(number)
            await stage.until(lambda: stage.ended)
            stage.chat.pane.view.move_to(TokenPlace(1, 8))
        await stage.pilot.pause()
        picture = stage.picture()
        assert all(words in picture for words in ("top-p", "min-p", "temperature", "TOKEN"))
        if size == (120, 40):
            assert "TREE  3 leaves" in picture and "◀" in picture
        elif size[0] >= 110:
            assert "TREE  3 leaves" in picture
        else:
            await stage.pilot.press("w", "w")
            assert stage.chat.inspector.face == "sampler"  # the tree stands beside it
            await stage.pilot.pause()
            assert all(words in stage.picture() for words in ("TREE  3 leaves", "◀", "top-p", "temperature"))
            await stage.pilot.press("w")
            await stage.pilot.pause()
            assert "top-p  " not in stage.picture() and "bits" in stage.picture().splitlines()[-5]


@pytest.mark.slow
async def test_a_header_keeps_tokens_and_end_longest(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        stage.chat.talk.max_tokens = 30
        await stage.ask(ASK)
        notes = stage.chat.talk.transcript.notes(1)
        assert notes[0].startswith("T 0.80 · top-p 0.95 · min-p 0.05 · 30 tok · ppl ")
        assert notes[1].startswith("T 0.80 · top-p 0.95 +1 · 30 tok · ppl ")
        assert notes[2].startswith("T 0.80 +2 · 30 tok · ppl ") and notes[3].startswith("30 tok · ppl ")
        assert notes[-2] == "30 tok · stopped at length" and notes[-1] == "stopped at length"
        assert [len(note) for note in notes] == sorted((len(note) for note in notes), reverse=True)
        for width in (40, 60, 80):
            await stage.pilot.resize_terminal(width, 24)
            await stage.pilot.pause()
            assert any(note in stage.picture() for note in notes)


@pytest.mark.slow
async def test_line_ends_are_all_seen_or_none(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        await standing(stage)
        assert "⏎" not in "\n".join(stage.picture().splitlines()[:-1])
        await stage.pilot.press("l")
        await stage.pilot.pause()
        breaks = sum(step.text.count("\n") for step in stage.shown[1].steps)
        assert breaks and "\n".join(stage.picture().splitlines()[:-1]).count("⏎") == breaks


@pytest.mark.slow
async def test_a_person_chooses_from_which_bits_on_words_are_tinted(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        await stage.ask(ASK)
        before = [token.level for token in stage.shown[1].block.tokens]
        assert 0 < sum(map(bool, before)) < len(before) / 3  # a page of text with a few marked words
        await stage.type("/heat 5")
        await stage.pilot.pause()
        after = [token.level for token in stage.shown[1].block.tokens]
        assert sum(map(bool, after)) < sum(map(bool, before))
        assert "5+" in stage.picture().splitlines()[0] and "2+" not in stage.picture().splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
async def test_the_top_line_keeps_the_legend_and_a_text_its_measures(play: Play, width: int) -> None:
    async with play(size=(width, 24)) as stage:
        await stage.ask(ASK)
        top = stage.picture().splitlines()[0]
        assert all(words in top for words in ("2+", "4+", "6+", "8+", "bits"))
        assert ("surprise" in top) == (width == 120) and ("ctx" in top) == (width >= 80)
        await stage.pilot.press("f4")
        screen = stage.app.screen
        screen.buffer.insert(" The sky looks blue")  # type: ignore[attr-defined]
        await stage.until(lambda: "bits/byte" in stage.picture().splitlines()[0] and "ppl" in stage.picture())


def test_the_panel_has_a_key_for_line_ends_and_one_for_its_parts() -> None:
    keys = {binding.key for binding in TranscriptPane.BINDINGS}  # type: ignore[union-attr]
    assert {"l", "w"} <= keys


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
async def test_a_column_s_foot_shows_whole_values_and_drops_speed_first(play: Play, width: int) -> None:
    async with play(size=(width, 24)) as stage:
        await compared(stage)
        await stage.pilot.pause()
        for column in stage.app.screen.columns:  # type: ignore[attr-defined]
            said = str(column.query_one(".column-foot").visual)
            assert "…" not in said and "ppl " in said and len(said) <= column.size.width - 3
            assert "tok/s" not in said or f"{len(column.steps)} tok ·" in said


@pytest.mark.parametrize("power", [0.8, 1.0, 1.1])
def test_shades_go_from_the_ground_to_the_colour(power: float) -> None:
    steps = _towards({"background": "#000000", "tint": "#ff8000"}, "tint", power)
    reds = [int(str(step.bgcolor.name)[1:3], 16) for step in steps if step.bgcolor is not None]
    assert len(reds) == SHADES and reds == sorted(reds) and (reds[0], reds[-1]) == (0, 255)
    assert (reds[8] > 127) is (power < 1.0) or power == 1.0
    assert shade(steps, -1) is steps[0] and shade(steps, 2) is steps[-1] and shade(steps, 0.5) is steps[8]
