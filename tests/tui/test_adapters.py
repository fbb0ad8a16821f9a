"""Adapters on a running chat: by command, by slider, and what the screen says of them."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from likely.app import looks
from likely.app import requests as r
from likely.app.jobs import ModelJobs
from likely.app.model_provider import LoadedModel
from likely.app.tui.base.layout import TokenPlace
from likely.app.tui.dialogs.adapters import Adapters, AdapterSliders
from likely.app.tui.widgets.bars import TopBar
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted
from likely.engine.errors import ParameterError
from likely.engine.prompt import Prompt
from likely.engine.sources.checkpoint import Checkpoint, load
from likely.engine.trace.step import Recipe
from likely.metal import mx
from tests.engine import tiny
from tests.engine.tune.test_stack import CONFIG, TEXT, write
from tests.tui.conftest import Play, Stage


def weights(stage: Stage) -> dict[str, float]:
    return {adapter.name: adapter.weight for adapter in stage.app.engine.attached}


@pytest.mark.slow
async def test_commands_put_on_weigh_switch_and_take_off(play: Play) -> None:
    async with play() as stage:
        await stage.type("/adapter ~/style")
        await stage.until(lambda: weights(stage) == {"style": 1.0})
        assert stage.engine.adapters["style"].folder == Path("~/style").expanduser()
        assert stage.chat.query_one(TopBar).model == "scripted + style 1"
        await stage.type("/adapter other 0.5")
        await stage.until(lambda: weights(stage) == {"style": 1.0, "other": 0.5})
        await stage.type("/adapter style -0.25")
        await stage.until(lambda: weights(stage)["style"] == -0.25)
        await stage.type("/adapter other only")
        await stage.until(lambda: weights(stage) == {"style": 0.0, "other": 1.0})
        assert stage.chat.query_one(TopBar).model == "scripted + other 1"
        await stage.type("/adapter other off")
        await stage.until(lambda: weights(stage) == {"style": 0.0})
        await stage.type("/adapter nothing-there")
        await stage.until(lambda: "not an adapter's directory" in stage.chat.hints.news)
        assert weights(stage) == {"style": 0.0}


@pytest.mark.slow
async def test_sliders(play: Play) -> None:
    async with play() as stage:
        await stage.type("/adapter style")
        await stage.until(lambda: weights(stage))
        await stage.ask("Why is the sky blue?")
        assert stage.chat.talk.conversation.leaf.label.endswith("min-p 0.05 · style 1")  # type: ignore[union-attr]
        assert "style 1 · 67 tok" in stage.picture()
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(0, 0))
        await stage.until(lambda: stage.chat.talk.transcript.scores, "a measured prompt")
        await stage.type("/adapter")
        screen = stage.app.screen
        assert isinstance(screen, Adapters)
        await stage.pilot.press("left", "left", "left")  # faster than the engine says so
        await stage.until(lambda: weights(stage) == {"style": 0.7})
        assert not stage.chat.talk.transcript.scores
        assert "style" in stage.picture() and "0.70" in stage.picture()
        await stage.pilot.press("space")
        await stage.until(lambda: weights(stage) == {"style": 0.0})
        await stage.pilot.press("down", *"no-such", "enter")
        await stage.until(lambda: "not an adapter's directory" in stage.picture())
        await stage.pilot.press("down", *"second", "enter")
        await stage.until(lambda: len(weights(stage)) == 2)
        await stage.pilot.press("down", "o")
        await stage.until(lambda: weights(stage) == {"style": 0.0, "second": 1.0})
        await stage.pilot.press("delete")
        await stage.until(lambda: list(weights(stage)) == ["style"])
        assert screen.query_one(AdapterSliders).picked == 0
        await stage.pilot.press("escape")
        assert stage.app.screen is stage.chat


@pytest.mark.slow
async def test_a_direction_is_made_weighed_both_ways_and_its_kl_is_shown(play: Play) -> None:
    async with play(size=(60, 20)) as stage:
        await stage.ask("Why is the sky blue?")
        for wrong in ("calm", "calm: a", "calm: a | ", ": a | b | c"):
            await stage.type(f"/steer {wrong}")
            assert "/steer NAME: toward" in stage.chat.hints.news and not stage.app.engine.attached
        await stage.type("/steer calm: blue ; blue sky | red @ 3")
        await stage.until(lambda: weights(stage) == {"calm": 1.0})
        made = stage.app.engine.attached[0]
        assert made.kind == "steering" and str(made.folder) == "[1, 2] [1] 3"
        await stage.type("/adapter")
        await stage.until(lambda: "KL to the model as it came: 1.000 bits" in stage.picture())
        await stage.pilot.press(*["left"] * 12)
        await stage.until(lambda: weights(stage) == {"calm": -2.0})
        await stage.until(lambda: "as it came: 2.000 bits" in stage.picture())
        await stage.pilot.press("space")
        await stage.until(lambda: weights(stage) == {"calm": 0.0} and "as it came" not in stage.picture())
        await stage.pilot.press("delete")
        await stage.until(lambda: not stage.app.engine.attached)


def test_a_direction_is_kept_and_put_on_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    arrays = {name: mx.array(a) for name, a in tiny.weights(CONFIG).items()}
    jobs = ModelJobs(_Shop(load(tiny.write_folder(tmp_path / "model", CONFIG, arrays))))  # type: ignore[arg-type]
    (loaded,) = jobs.execute(r.Load("tiny"), lambda _: None)
    to, off = Prompt(parts=("ab",)), Prompt(parts=("ba",))
    (changed,) = jobs.execute(r.Steer("tiny", "calm", (to,), (off,)), lambda _: None)
    assert isinstance(loaded, r.Loaded) and isinstance(changed, r.AdaptersChanged)
    assert (changed.attached[0].kind, changed.attached[0].folder) == ("steering", tmp_path / "home/directions/calm")
    (moved,) = jobs.execute(r.Inside("tiny", to, looks.ShiftLook()), lambda _: None)
    assert moved.kl > 0
    for name, words in (("calm", "on the model already"), ("../x", "letters, digits")):
        with pytest.raises(ParameterError, match=words):
            list(jobs.execute(r.Steer("tiny", name, (to,), (off,)), lambda _: None))
    list(jobs.execute(r.Adapt("tiny", "remove", "calm"), lambda _: None))
    (moved,) = jobs.execute(r.Inside("tiny", to, looks.ShiftLook()), lambda _: None)
    assert moved.kl == 0
    with pytest.raises(ParameterError, match=r"is kept already: /adapter .*calm"):
        list(jobs.execute(r.Steer("tiny", "calm", (to,), (off,)), lambda _: None))


class _Shop:
    """One model."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def opening(self, model: str, progress: object) -> Generator[Any, None, LoadedModel]:
        yield from ()
        return LoadedModel(model, self.checkpoint)


def test_the_next_token_of_a_run_is_the_adapted_models(tmp_path: Path) -> None:
    arrays = {name: mx.array(a) for name, a in tiny.weights(CONFIG).items()}
    checkpoint = load(tiny.write_folder(tmp_path / "model", CONFIG, arrays))
    folder = str(write(checkpoint, tmp_path / "style", 1))

    def drawn(change_at: int | None) -> list[int]:
        lab, tokens = LoadedModel("tiny", checkpoint), []
        for event in lab.generate(TEXT, RunControl(Recipe(greedy=True)), max_tokens=12):
            if isinstance(event, Emitted):
                tokens.append(event.step.token)
                if len(tokens) == change_at:
                    assert [a.name for a in lab.adapt("add", folder, 1.0)] == ["style"]
        if change_at is not None:
            assert lab.adapt("remove", "style", 1.0) == ()
        return tokens

    plain, changed = drawn(None), drawn(4)
    assert plain[:4] == changed[:4] and plain != changed
    assert drawn(None) == plain
