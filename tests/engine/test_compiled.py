"""Sessions whose steps are compiled: the same tokens, one trace a capacity, and none that outlives its weights."""

import pytest

from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted
from likely.engine.session import Session
from likely.engine.trace.step import Recipe
from likely.engine.transforms import MinP, RepetitionPenalty, Temperature
from likely.metal import mx
from likely.metal.simulator import TracedFunction
from likely.models.compiled import CompiledStep
from likely.models.transformer import Transformer
from tests.fakes import FakeCheckpoint
from tests.metal.test_whole_models import counted
from tests.models.test_compiled import built

PROMPT = [(7 * i) % 200 for i in range(250)]
RECIPES = [Recipe(greedy=True), Recipe((RepetitionPenalty(1.2), Temperature(1.5))), Recipe((MinP(0.1),))]


def session(model: Transformer, *, compiled: bool) -> Session:
    made = Session(FakeCheckpoint(model))  # type: ignore[arg-type]
    if compiled:
        made.pool.step = CompiledStep(model, TracedFunction)
    return made


def drawn(session: Session, recipe: Recipe, branches: int = 0, tokens: int = 12) -> dict[int, list[int]]:
    control, found = RunControl(recipe), dict[int, list[int]]()
    options = {"seed": 3, "max_tokens": tokens}
    for event in session.generate(PROMPT, control, n=branches or 1, **options):  # type: ignore[arg-type]
        if isinstance(event, Emitted):
            found.setdefault(event.branch, []).append(event.step.token)
    return found


@pytest.fixture(scope="module")
def model() -> Transformer:
    return built("qwen3, normed heads", vocab_size=250)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("branches", [0, 3])
def test_the_tokens_are_the_same(model: Transformer, recipe: Recipe, branches: int) -> None:
    live = session(model, compiled=True)
    assert drawn(live, recipe, branches) == drawn(session(model, compiled=False), recipe, branches)
    assert live.pool.step.traces == (1 if branches else 2)  # all rows of a branch are new; else 250 are there, 256 fit


def test_with_kernels_a_token_is_traced_and_drawn_by_them(model: Transformer) -> None:
    expected = drawn(session(model, compiled=False), RECIPES[0], tokens=4)
    with counted() as launches:
        assert drawn(session(model, compiled=True), RECIPES[0], tokens=4) == expected
    assert launches["decode"] and launches["qkv_prepare"] and launches["scan"] == 4


def test_no_trace_outlives_its_weights() -> None:
    model = built("llama", vocab_size=250)
    live = session(model, compiled=True)
    before = drawn(live, RECIPES[0])
    model.norm.weight = model.norm.weight * mx.where(mx.arange(64) % 2 == 0, 3.0, -1.0)
    live.changed("another adapter")
    after = drawn(live, RECIPES[0])
    assert after == drawn(session(model, compiled=False), RECIPES[0]) != before
