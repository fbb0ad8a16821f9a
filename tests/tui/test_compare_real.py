"""Two real models side by side: SmolLM2 as it came, and a copy of it in mlx's four bits."""

from pathlib import Path

import pytest
from textual.widgets import Input, OptionList

from likely.app.local import local_models
from likely.app.tui.app import LikelyApp
from likely.app.tui.views.compare import CompareScreen
from likely.engine.quantize.plan import Settings
from likely.engine.quantize.run import quantize
from likely.engine.sources.model_info import ModelInfo
from tests.tui.conftest import Stage

pytestmark = [pytest.mark.real, pytest.mark.slow]

TOKENS = 12


async def choose(stage: Stage, words: str) -> None:
    """Pick from the list that is open what begins with some words."""
    rows = stage.app.screen.query_one(OptionList)
    prompts = [str(rows.get_option_at_index(index).prompt).strip() for index in range(rows.option_count)]
    rows.highlighted = next(index for index, prompt in enumerate(prompts) if prompt.startswith(words))
    await stage.pilot.press("enter")


async def test_two_models_answer_side_by_side(smollm2: ModelInfo, tmp_path: Path) -> None:
    folder = tmp_path / "in-four-bits"
    quantize(smollm2, folder, Settings(bits=4), text="The sea is wide. " * 120)
    app = LikelyApp(local_models, tmp_path / "home", model="smollm2")
    async with app.run_test(size=(80, 24)) as pilot:
        stage = Stage(app, pilot, None, None, 0.05, 1200)  # type: ignore[arg-type]
        await stage.until(lambda: app.session is not None and app.engine.current is not None, "a model")
        await pilot.press("f3")
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        one, other = screen.columns  # 40 cells each
        one.talk.max_tokens = other.talk.max_tokens = TOKENS
        other.view.focus()
        await pilot.press("c")
        await choose(stage, "greedy")
        await pilot.press("c")
        await choose(stage, "another model")
        await stage.until(lambda: app.screen.query(Input), "a field for a path")
        app.screen.query_one(Input).focus()
        app.screen.query_one(Input).value = str(folder)
        await pilot.press("enter")
        await stage.until(lambda: other.talk.facts is not None and other.talk.facts.name == str(folder), "the copy")
        screen.prompt.take("What is the capital of France?")
        screen.prompt.focus()
        await pilot.press("enter")
        await stage.until(
            lambda: all(len(c.steps) >= 8 and not c.talk.running for c in (one, other)), "an answer in both columns"
        )
        assert one.talk.facts is not None and one.talk.facts.name == "smollm2"
        read, read_too = (list(c.talk.transcript.began_ids.values()) for c in (one, other))
        assert read and read == read_too  # the same prompt, token by token
        assert "Paris" in one.talk.transcript.shown[-1].message.text
        a, b = one.steps[0], other.steps[0]
        assert a.snapshot is not None and b.snapshot is not None and a.entropy is not None and b.entropy is not None
        assert abs(a.entropy - b.entropy) > 1e-3  # four bits are not what it was
        lines = stage.picture().splitlines()
        head = next(line for line in lines if "greedy" in line)
        assert head[:40].strip().startswith("smollm2 · greedy") and "in-four-bits · greedy" in head[40:]
        foot = next(line for line in lines if "tok" in line and "ppl" in line)
        assert "ppl" in foot[:40] and "ppl" in foot[40:] and ("differs at" in foot[40:] or "the same" in foot[40:])
        assert f"{len(one.steps)} tok" in foot[:40] and f"{len(other.steps)} tok" in foot[40:]
    assert app.return_code in (0, None)
