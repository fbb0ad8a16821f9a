"""Adapters on a running chat: by command, by slider, and what the screen says of them."""

from pathlib import Path

from app.model_provider import LoadedModel
from app.tui.dialogs.adapters import Adapters, AdapterSliders
from app.tui.tokens.layout import TokenPlace
from app.tui.widgets.bars import TopBar
from engine.decode.control import RunControl
from engine.decode.events import Emitted
from engine.sources.checkpoint import load
from engine.trace.trace import Recipe
from metal import mx
from tests.engine import tiny
from tests.engine.tune.test_stack import CONFIG, TEXT, write
from tests.tui.conftest import Play, Stage


def weights(stage: Stage) -> dict[str, float]:
    return {adapter.name: adapter.weight for adapter in stage.app.engine.attached}


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
