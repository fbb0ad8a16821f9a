"""Adapters on a running chat: what the screen says of them, and how far they move the model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def test_what_is_on_the_model_is_said_beside_its_name_and_its_answers(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Screen(tmp_path, engine, size=(170, 40)) as screen:
        screen.say("/adapter ~/style", ASK)
        assert engine.adapters["style"].folder == Path("~/style").expanduser()
        assert "│ scripted + style 1" in screen.lines[0] and " · style 1 · 67 tok" in screen.text
        screen.press("tab", "ctrl+home")
        screen.wait()
        measured = sum(kind == "score" for kind, _ in engine.calls)
        screen.press("escape")
        screen.say("/adapter other", "/adapter other only")
        assert "│ scripted + other 1" in screen.lines[0]  # and nothing of what weighs nothing
        screen.press("tab", "ctrl+home")
        screen.wait()
        assert sum(kind == "score" for kind, _ in engine.calls) == measured + 1  # by another model than before
        leaf = screen.kept[0].leaf
        assert leaf is not None and leaf.label.endswith("min-p 0.05 · style 1")  # of what it was drawn by


@pytest.mark.slow
def test_a_word_that_is_looked_at_is_measured_anew(tmp_path: Path) -> None:
    class Adapted(ScriptedEngine):
        def raw(self, ids: Sequence[int], favourite: int) -> np.ndarray:
            return super().raw(ids, favourite) * (1 + sum(adapter.weight for adapter in self.adapters.values()))

    with Screen(tmp_path, Adapted()) as screen:
        screen.say(ASK)
        screen.press("tab", "ctrl+home")
        screen.wait()
        heads = []
        for weight in ("0.5", "2"):
            screen.press("escape")
            screen.say(f"/adapter style {weight}")
            screen.press("tab", "ctrl+home")
            screen.wait()
            heads.append(screen.lines[2])
        before, after = (float(head.split("Why")[1].split()[0]) for head in heads)
        assert before != after


def test_sliders_weigh_switch_add_and_take_off_and_the_move_is_measured(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(60, 20)) as screen:
        screen.say(ASK)
        screen.say("/steer calm: blue ; blue sky | red @ 3", "/adapter")
        screen.wait()
        assert "calm" in screen.text and "KL to the model as it came: 1.000 bits" in screen.text
        screen.burst(*["left"] * 12)  # faster than the engine says so; a direction has two ends
        screen.wait()
        assert "-2.00" in screen.text and "as it came: 2.000 bits" in screen.text
        screen.press("space")
        screen.wait()
        assert "0.00" in screen.text and "as it came" not in screen.text
        screen.press("down")
        screen.say("no-such")
        assert "not an adapter's directory" in screen.text
        screen.press("down")
        screen.say("second")
        screen.press("down", "o")
        screen.wait()
        assert "second" in screen.text and "1.00" in screen.text and "as it came: 1.000" in screen.text
        screen.press("delete", "delete", "escape")
        assert "Message" in screen.text and "calm" not in screen.text


@pytest.mark.slow
def test_what_a_token_was_drawn_with_stays_when_the_adapter_is_taken_off(tmp_path: Path) -> None:
    class Flat(ScriptedEngine):
        def raw(self, ids: Sequence[int], favourite: int) -> np.ndarray:
            return super().raw(ids, favourite) / 10 * (1 + sum(adapter.weight for adapter in self.adapters.values()))

    def numbers(screen: Screen) -> list[str]:
        screen.press("tab", "left", "left")
        screen.wait()
        row = next(line for line in screen.lines if "▶" in line)
        screen.press("escape")
        return [word for word in row.split() if "." in word]

    with Screen(tmp_path, Flat()) as screen:
        screen.say("/adapter style", ASK)
        raw, drawn = numbers(screen)
        screen.say("/adapter style off", "/set temp 1.5 top_p 0.9 min_p 0")  # of which the step alone does not say all
        assert numbers(screen)[:2] == [raw, drawn]
        screen.say("/adapter style 1")
        assert numbers(screen)[:2] == [raw, drawn]
