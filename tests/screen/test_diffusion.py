"""The chat of a diffusion model: its canvas, the steps that filled it, what a person changes there, and its bound."""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from likely.app.words import heat
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.loop.control import RunControl
from likely.engine.sampling.trace.unmasking import DenoisingStep, Disagreement
from tests.support.diffuser import ScriptedDiffusion
from tests.support.everyday import everyday
from tests.support.model import SKY, ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"
LN2 = math.log(2)


def passes(engine: ScriptedDiffusion) -> tuple[int, list[DenoisingStep]]:
    """The passes of the answer that was filled last, and where it begins: asked of the model once more."""
    ids = [ids for verb, ids in engine.calls if verb == "fill"][-1]
    first = ids.index(engine.mask)
    return first, list(engine.fill(ids, first, engine.hows[-1], RunControl(), seed=0))


def position(screen: Screen) -> int:
    return int(screen.text.split("POSITION ")[1].split()[0])


def candidates(screen: Screen) -> list[tuple[str, float]]:
    """Those of the panel: name and percentage."""
    head = next(at for at, line in enumerate(screen.lines) if "POSITION" in line)
    rows = [line.split("▏")[-1] if line.count("▏") == 1 else line.partition("▏")[2] for line in screen.lines]
    found = [row.replace("▶", " ").replace("┊", " ").split() for row in rows[head + 1 : head + 7]]
    return [(words[0], float(words[-1].rstrip("%"))) for words in found if words and words[-1].endswith("%")]


def looked(screen: Screen) -> list[str]:
    """What is seen of two answers at some of their steps and positions, but for the speed."""
    seen = []
    screen.press("escape", "tab", "{", *["left"] * 64)
    for keys in (["]"] * 9, ["right"] * 12, ["]"] * 5, ["down"], ["}"], [">", "["], ["up"], ["<"]):
        screen.press(*keys)
        seen.append("\n".join(screen.lines[1:-4]))
    return seen


@pytest.mark.slow
def test_steps_are_walked_and_a_person_changes_them(tmp_path: Path) -> None:
    engine = ScriptedDiffusion()
    with Screen(tmp_path, engine) as screen:
        screen.say("/unmask revise 1", ASK)
        first = screen.kept[0].leaf
        assert first is not None and SKY.startswith(screen.kept[0].messages()[-1].text) and first.finish == "length"
        assert "step 22/22" in screen.lines[0] and "░░░░" not in screen.text
        screen.burst("tab", *["["] * 8, *["right"] * 12)
        assert "step 14/22" in screen.lines[0] and "POSITION 12  open" in screen.text
        assert "revised now, was ·glow" in screen.text or "·glow → ·short" in screen.text
        assert "░░░░" in screen.text and "sunlight ▒▒▒" in screen.text
        screen.press("]", "[")
        assert "step 14/22" in screen.lines[0]
        screen.press("enter", "down", "enter")  # the second candidate, at step 14
        talk = screen.kept[0]
        leaf = talk.leaf
        assert leaf is not None and leaf.id != first.id and leaf.fork == first.fork and "answer 2/2" in screen.text
        assert (leaf.steps[12].origin, leaf.steps[12].piece) == ("forced", b" seem")
        assert "chosen by you" in screen.text
        screen.press("m")
        assert "answer 3/3" in screen.text
        assert [ids for verb, ids in engine.calls if verb == "fill"][-1].count(engine.mask) == 1
        screen.press("<", "<")
        assert "answer 1/3" in screen.text and screen.kept[0].leaf.id == first.id  # type: ignore[union-attr]
        screen.press("<")  # round to the last
        seen = looked(screen)
        assert "answer 3/3" in screen.text
        screen.press("}", "p")
        assert "≤ 3.61 ± 0.07" in screen.text
        screen.press("escape", "escape")
        screen.say(f"/export jsonl {tmp_path / 'copy.jsonl'}")
        screen.press("ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, engine, resume=id) as screen:  # as it was left
        assert looked(screen) == seen
    with Screen(tmp_path / "other", engine) as screen:  # where nothing was kept, from the file
        screen.say(f"/import {tmp_path / 'copy.jsonl'}")
        assert looked(screen) == seen
        screen.press("m")
        assert "answer 4/4" in screen.text


@pytest.mark.slow
def test_a_column_of_a_comparison_has_its_steps_in_the_chat(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedDiffusion()) as screen:
        screen.say("/unmask revise 1")
        screen.press("f3")
        screen.say(ASK)
        screen.press("tab", "a", "tab", "[")
        assert "step 21/22" in screen.lines[0]
        (id,) = [talk.id for talk in screen.kept if talk.kind == "compare"]
    with Screen(tmp_path, ScriptedDiffusion(), resume=id) as screen:
        assert screen.text.count("22 steps · 0.2 s") == 3


def test_a_text_with_gaps_is_filled_as_it_is_asked_for(tmp_path: Path) -> None:
    engine = ScriptedDiffusion()
    with Screen(tmp_path, engine) as screen:
        assert "or a text with gaps" in screen.text
        screen.say("/unmask threshold 0.9 revise 2", "The [MASK:6] of France")
        assert (engine.hows[-1].threshold, engine.hows[-1].revise) == (0.9, 2)
        assert screen.kept[0].messages()[-1].text.endswith(" of France")


def test_a_run_is_stopped_and_another_model_follows(tmp_path: Path) -> None:
    engine = ScriptedDiffusion()
    with Screen(tmp_path, engine, ScriptedEngine()) as screen:
        screen.hold(after=5)
        screen.say(ASK)
        assert "step 5/64" in screen.lines[0] and "esc Stop" in screen.lines[-1]
        screen.press("tab", "[")
        assert "step 4/64" in screen.lines[0]  # looked back while more are to come
        screen.press("escape")
        leaf = screen.kept[0].leaf
        assert leaf is not None and leaf.finish == "cancelled" and len(leaf.steps) == 64
        assert sum(step.token == engine.mask for step in leaf.steps) == 49
        screen.release()
        screen.press("escape", "escape")
        screen.say("/model")
        screen.press("down", "enter")
        screen.say("The [MASK:8] of France")  # is only text to this one
        assert screen.kept[0].messages()[-1].text.strip() and "TOKEN" in screen.text
        screen.say("/model scripted-mdlm")
        assert "scripted-mdlm" in screen.lines[0]


def test_what_is_seen_of_a_step_is_what_the_model_said_there(tmp_path: Path) -> None:
    engine = ScriptedDiffusion()
    with Screen(tmp_path, engine) as screen:
        screen.say(ASK)
        first, steps = passes(engine)
        screen.burst("tab", *["["] * 8, *["right"] * 12)  # step 14, position 12
        (here,) = [mask for mask in steps[13].open if mask.position == first + 12]
        names = [engine.tokenizer.pieces[token].decode().replace(" ", "·") for token in here.ids[:6]]
        shares = [100 * math.exp(logprob) for logprob in here.logprobs[:6]]
        assert candidates(screen) == [(name, pytest.approx(p, abs=0.06)) for name, p in zip(names, shares, strict=True)]
        (line,) = [line for line in screen.lines if "POSITION" in line]
        assert line.endswith(f"open {here.entropy / LN2:26.1f} bits") or f"{here.entropy / LN2:.1f} bits" in line
        left = {mask.position: mask.entropy for mask in steps[13].open}
        assert f"{64 - len(left)} of 64 decided" in screen.text
        (line,) = [line for line in screen.lines if "open entropy" in line]
        assert f"{sum(left.values()) / LN2:.1f} bits" in line and line.endswith("1 taken back")
        # a mask is as dark as a word of its entropy, as the legend says
        words = screen.text.split("░░░ molecules")[0].split("The sky")[1]
        bits = left[first + len(engine.tokenizer.encode(" The sky" + words.rstrip()))] / LN2
        least = max(each for each in (0.0, *heat.BITS) if each <= bits)
        assert screen.ink("░░░ molecules") == screen.ink(f"░░ {least:g} ")
        # a word that was taken back at this step is marked, and its mark is explained
        assert screen.ink("short") == screen.ink("revised now, was ·glow")
        screen.press("[")
        assert "glow" in screen.text and "revised at this step" in screen.text
        screen.press("]", "]")
        assert screen.ink("short") != screen.ink("revised at this step")


@pytest.mark.slow
def test_steps_are_played_by_the_clock_and_pointed_at(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedDiffusion()) as screen:
        screen.say(ASK)
        at = lambda: int(screen.lines[0].split("step ")[1].split("/")[0])  # noqa: E731
        screen.press("tab", "}")
        assert at() == 22
        screen.press("{", "[")
        assert at() == 0 and "waits for the first step" in screen.text and "0 of 64 decided" in screen.text
        screen.press("space")
        screen.wait(1)
        playing = at()
        assert 3 < playing < 9
        screen.press("space")  # held
        held = at()
        screen.wait(3)
        assert at() == held
        screen.press("space")
        screen.wait(10)
        assert at() == 22
        screen.press("space")  # of the newest: from the first
        assert at() < 3
        screen.press("escape")
        screen.wait(3)
        assert at() < 3
        screen.click("8                  15")  # under the slider
        assert at() == 8
        screen.press("{")
        places = []
        for _ in range(22):
            screen.press("]")
            places.append(next(line.index("●") for line in screen.lines if "●" in line))
        assert places == sorted(set(places)) and places[0] == 10  # a cell of its own, behind the numbers


@pytest.mark.slow
def test_positions_are_walked_between_the_ends_and_rows_between_words(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedDiffusion()) as screen:
        screen.say(ASK)
        screen.press("tab", "left")
        assert position(screen) == 0 and "▶ ·The " in screen.text
        cursor = screen.ink("The sky looks")
        assert screen.inked(cursor) == ["The"]
        screen.press("down")
        assert screen.inked(cursor) == ["sunlight"] and "▶ ·sunlight" in screen.text
        screen.press("up", "up")
        assert screen.inked(cursor) == ["The"]
        screen.burst(*["right"] * 70)
        assert position(screen) == 63 and "▶ ·sensitive" in screen.text
        screen.click("Rayleigh")
        assert "▶ ·Rayleigh" in screen.text and screen.inked(cursor) == ["·Rayleigh".replace("·", "")]
        screen.resize(60, 20)  # what has no room is scrolled to the cursor
        for key in ("{", "}"):
            screen.press(key)
            assert len(screen.inked(cursor)) == 1


@pytest.mark.slow
def test_a_candidate_is_pointed_at_and_then_put_there(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedDiffusion()) as screen:
        screen.say(ASK)
        screen.burst("tab", *["["] * 8, *["right"] * 12)
        name, _ = candidates(screen)[2]
        screen.click(f"{name} ")
        assert f"▶ {name}" in screen.text and "⏎ puts it here" in screen.text
        screen.press("down", "up", "escape")
        assert "⏎ puts it here" not in screen.text
        screen.burst("enter", *["down"] * 20)
        assert "▶" in screen.text  # the last of all candidates, not more
        screen.burst(*["up"] * 20, "escape")
        screen.click(f"{name} ")
        screen.click(f"{name} ")
        assert "chosen by you" in screen.text and f"▶ {name}" in screen.text and "answer 2/2" in screen.text
        assert screen.kept[0].leaf.steps[12].piece.decode() == name.replace("·", " ")  # type: ignore[union-attr]


def test_what_cannot_be_done_to_a_canvas_is_said(tmp_path: Path) -> None:
    class Unbounded(ScriptedDiffusion):
        def bounding(self, ids: Sequence[int], free: Sequence[int]) -> Generator[int, None, Estimate]:
            yield 8
            raise MemoryError("no memory")

    with Screen(tmp_path, Unbounded()) as screen:

        def said(*keys: str) -> str:
            screen.press(*keys)
            return screen.lines[-1]

        assert "the bound is of an answer: say something first" in said("tab", "p")
        screen.press("escape")
        screen.say(ASK)
        assert "there is no other answer here: ^r draws one" in said("tab", ">")
        assert "that stands there already" in said("enter", "enter")
        assert "the bound is of a whole answer: masks are left at this step" in said("escape", "[", "p")
        assert "there are no candidates here" in said("{", "enter")
        assert "it is a mask already" in said("m")
        assert "no memory" in said("}", "p") and len(screen.kept[0].nodes) == 2


@pytest.mark.parametrize(
    ("order", "rule"),
    everyday([
        ("by confidence", "decide i of largest max p_i"), ("by entropy", "decide i where H(p_i) is least"),
        ("by random", "decide i at random"), ("by ancestral", "decide i by the schedule's chance"),
        ("threshold 0.875", "decide i where max p_i > 0.88"),
    ], 4),
)  # fmt: skip
def test_the_rule_of_the_order_stands_in_the_formula(tmp_path: Path, order: str, rule: str) -> None:
    with Screen(tmp_path, ScriptedDiffusion(), size=(150, 40)) as screen:
        screen.say(f"/unmask {order}", ASK)
        screen.press("tab", "[")
        (line,) = [line for line in screen.lines if "p_i = p(x_i | decided, mask)" in line]
        assert rule in line and "tokenizer → model → decoder → metric" in line
        (head,) = [line for line in screen.lines if "POSITION" in line]
        assert head.split()[-2] in line.split("H = ")[1]


def test_a_cache_that_is_measured_says_how_far_it_is_off(tmp_path: Path) -> None:
    class Cached(ScriptedDiffusion):
        def fill(self, *args: Any, **how: Any) -> Iterator[DenoisingStep]:
            for step in super().fill(*args, **how):
                off = None if step.step == 1 else Disagreement(8, step.step, 2 * LN2)
                yield replace(step, disagreement=off)

    with Screen(tmp_path, Cached()) as screen:
        screen.say("/unmask block 8 cache dual check on", ASK)
        screen.press("tab", "{", "]")
        assert "cache differs" in screen.text and "not measured yet" in screen.text
        screen.press("]", "]")
        (line,) = [line for line in screen.lines if "cache differs" in line]
        assert "5 of 16" in line and "KL 0.250 bits" in line  # of two passes


@pytest.mark.slow
def test_parts_of_a_canvas_go_one_by_one_where_there_is_no_room(tmp_path: Path) -> None:
    parts = "AFTER 21 STEPS", "BEFORE", "ORDER"
    with Screen(tmp_path, ScriptedDiffusion()) as screen:
        screen.say(ASK)
        screen.press("tab", "[")
        seen = []
        for height in range(40, 9, -2):
            screen.resize(120, height)
            seen.append(sum(part in screen.text for part in parts))
            assert all(part in screen.text for part in parts[: seen[-1]]), height  # the last goes first
            assert height < 14 or ("POSITION" in screen.text and len(candidates(screen)) >= 1)
        assert seen == sorted(seen, reverse=True) and {seen[0], seen[-1]} == {3, 0}
        for size in ((80, 24), (60, 20), (20, 5), (120, 40)):
            screen.resize(*size)
            assert max(map(len, screen.lines)) <= size[0] and screen.running
        assert "step 21/22" in screen.lines[0] and "Nothing is written left to right" in screen.text
        screen.resize(109, 40)
        assert "The surest words come first." in screen.text and "left to right:" not in screen.text
