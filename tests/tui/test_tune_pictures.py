"""The tune screen as text at three sizes and in every colour mode, beside pictures that were looked at."""

from collections.abc import Awaitable, Callable

import pytest

from app.tui.tokens.layout import TokenPlace
from app.tui.views.tune import TuneScreen
from app.tui.widgets.heat_view import HeatView
from engine.errors import DataError
from engine.tune.config import configure
from tests.support.trainer import ScriptedTrainer
from tests.tui.conftest import COLOURS, Play, Stage, assert_screen
from tests.tui.test_tune import Held, reach, screen, state, to_the_run

SIZES = {"120x40": (120, 40), "80x24": (80, 24), "60x24": (60, 24)}
ROWS = configure({"data": "rows.jsonl", "steps": 80})
STOP = 52


async def loss(stage: Stage) -> None:
    """In the middle of a run; what moved was measured after its last step."""
    it = screen(stage)
    it.watching.look()
    await stage.until(lambda: not it.watching.pending)


async def what_moved(stage: Stage) -> None:
    await loss(stage)
    await stage.pilot.press("w")
    await stage.until(lambda: not screen(stage).watching.pending)


async def a_place(stage: Stage) -> None:
    await what_moved(stage)
    heat = screen(stage).query_one("#text", HeatView)
    heat.focus()
    heat.move_to(TokenPlace(0, 12))


async def answers(stage: Stage) -> None:
    await loss(stage)
    screen(stage).try_out("Why is the sky blue?")
    await stage.until(lambda: len(screen(stage).watching.answers.drawn) == 1)
    screen(stage).action_repeat(True)
    await stage.until(lambda: len(screen(stage).watching.answers.drawn) == 2)


async def stopped(stage: Stage) -> None:
    await loss(stage)
    await stage.pilot.press("s")
    await state(stage, "ended")
    await stage.until(lambda: not screen(stage).watching.pending)


async def closer(stage: Stage) -> None:
    await loss(stage)
    await stage.pilot.press("z")


SCENES: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "loss": loss, "moved": what_moved, "place": a_place, "answers": answers, "stopped": stopped, "closer": closer,
}  # fmt: skip


async def paused(play: Play, scene: str, painted: str, name: str, **how: object) -> str:
    """A run that waits after its 52nd step, in a scene, beside its picture."""
    trainer = ScriptedTrainer()
    held = Held(trainer, STOP - 1)
    async with play(trainer=trainer, tune=ROWS, **how) as stage:
        await stage.until(lambda: isinstance(stage.app.screen, TuneScreen))
        await to_the_run(stage)
        await reach(stage, STOP - 1)
        await stage.pilot.press("space")
        held.go(STOP - 1)
        await state(stage, "paused")
        await SCENES[scene](stage)
        await assert_screen(stage, name, getattr(stage, painted))
        return str(getattr(stage, painted)())


EVERYDAY = {("loss", "120x40"), ("loss", "80x24")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "size"),
    [
        pytest.param(scene, size, marks=() if (scene, size) in EVERYDAY else pytest.mark.slow)
        for scene in SCENES
        for size in SIZES
    ],
)
async def test_scenes(play: Play, scene: str, size: str) -> None:
    await paused(play, scene, "picture", f"tune-{scene}-{size}.txt", size=SIZES[size])


@pytest.mark.slow
@pytest.mark.parametrize("mode", COLOURS)
async def test_colours(play: Play, mode: str) -> None:
    await paused(play, "loss", "painted", f"tune-{mode}.ans", size=(100, 30), environ=COLOURS[mode])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["light", "ascii"])
async def test_looks(play: Play, name: str) -> None:
    environ = {"light": {"LIKELY_THEME": "light"}, "ascii": {"LIKELY_ASCII": "1"}}[name]
    painted = "painted" if name == "light" else "filtered"
    shown = await paused(play, "answers", painted, f"tune-{name}.txt", size=(120, 40), environ=environ)
    assert name == "light" or shown.isascii()


@pytest.mark.slow
@pytest.mark.parametrize(
    "size", ["80x24", *(pytest.param(size, marks=pytest.mark.slow) for size in ("120x40", "60x24"))]
)
async def test_form(play: Play, size: str) -> None:
    trainer = ScriptedTrainer()
    trainer.refuse = DataError("rows.jsonl:3:7: a comma or the end of the object expected, got a colon")
    async with play(trainer=trainer, size=SIZES[size]) as stage:
        await stage.pilot.press("f5", *"rows.jsonl", "enter")
        await stage.until(lambda: stage.app.training is None and screen(stage).has_class("-form"))
        await assert_screen(stage, f"tune-form-{size}.txt", stage.picture)


@pytest.mark.slow
async def test_a_failure(play: Play) -> None:
    trainer = ScriptedTrainer(fail={STOP: DataError("cannot write adapter/state.safetensors: No space left on device")})
    async with play(trainer=trainer, tune=ROWS, size=(80, 24)) as stage:
        await stage.until(lambda: isinstance(stage.app.screen, TuneScreen))
        await to_the_run(stage)
        await state(stage, "failed")
        await assert_screen(stage, "tune-failed-80x24.txt", stage.picture)
