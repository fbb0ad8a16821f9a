"""The chat of a diffusion model: its canvas, the steps that filled it, what a person changes there, and its bound."""

from pathlib import Path

from tests.support.diffuser import ScriptedDiffusion
from tests.support.model import SKY, ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def say(screen: Screen, *texts: str) -> None:
    for text in texts:
        screen.type(text)
        screen.press("enter")


def test_steps_are_walked_and_a_person_changes_them(tmp_path: Path) -> None:
    engine = ScriptedDiffusion()
    with Screen(tmp_path, engine) as screen:
        say(screen, ASK)
        first = screen.kept[0].leaf
        assert first is not None and SKY.startswith(screen.kept[0].messages()[-1].text) and first.finish == "length"
        assert "step 22/22" in screen.lines[0] and "░░░░" not in screen.text
        screen.press("tab", *["["] * 8, *["right"] * 12)
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
        screen.press("<", "p")  # round to the last
        assert "answer 3/3" in screen.text and "≤ 3.61 ± 0.07" in screen.text
        screen.press("ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, ScriptedDiffusion(), resume=id) as screen:
        assert "its steps were not kept" in screen.text
        screen.press("tab", "m")
        assert "were not kept" in screen.lines[-1]


def test_a_text_with_gaps_is_filled_as_it_is_asked_for(tmp_path: Path) -> None:
    engine = ScriptedDiffusion()
    with Screen(tmp_path, engine) as screen:
        assert "or a text with gaps" in screen.text
        say(screen, "/unmask threshold 0.9 revise 2", "The [MASK:6] of France")
        assert (engine.hows[-1].threshold, engine.hows[-1].revise) == (0.9, 2)
        assert screen.kept[0].messages()[-1].text.endswith(" of France")


def test_a_run_is_stopped_and_another_model_follows(tmp_path: Path) -> None:
    engine = ScriptedDiffusion()
    with Screen(tmp_path, engine, ScriptedEngine()) as screen:
        screen.hold(after=5)
        say(screen, ASK)
        assert "step 5/64" in screen.lines[0] and "esc Stop" in screen.lines[-1]
        screen.press("tab", "[")
        assert "step 4/64" in screen.lines[0]  # looked back while more are to come
        screen.press("escape")
        leaf = screen.kept[0].leaf
        assert leaf is not None and leaf.finish == "cancelled" and len(leaf.steps) == 64
        assert sum(step.token == engine.mask for step in leaf.steps) == 49
        screen.release()
        screen.press("escape", "escape")
        say(screen, "/model")
        screen.press("down", "enter")
        say(screen, "The [MASK:8] of France")  # is only text to this one
        assert screen.kept[0].messages()[-1].text.strip() and "TOKEN" in screen.text
        say(screen, "/model scripted-mdlm")
        assert "scripted-mdlm" in screen.lines[0]


def test_a_canvas_is_seen_at_every_size(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedDiffusion()) as screen:
        say(screen, ASK)
        screen.press("tab", "[")
        for size in ((80, 24), (60, 20), (20, 5), (120, 40)):
            screen.resize(*size)
            assert max(map(len, screen.lines)) <= size[0] and screen.running
        assert "step 21/22" in screen.lines[0]
