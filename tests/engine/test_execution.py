"""Every path of the table on a packed model: it is the one taken, and gives the graph's; and compiled steps."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli.commands import doctor
from likely.engine.base import arrays
from likely.engine.base.errors import CheckpointError, ConfigError, DataError
from likely.engine.base.machine.execution import GRAPH, NATIVE, PATHS
from likely.engine.decode.drafts.prompt_lookup import Drafting, NGram
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.prefix_cache import Prefixes
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import parse
from likely.engine.inside import steering
from likely.engine.inside.attribution import attribution
from likely.engine.inside.lens import lens
from likely.engine.inside.patching import ablate
from likely.engine.inside.subject import subject, transformer
from likely.engine.measure.evaluate.scoring import activation_rounding
from likely.engine.measure.evaluate.scoring.features import mean_hidden
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Constraint, MinP, RepetitionPenalty, Temperature
from likely.engine.train.attach.stack import Stack
from likely.engine.train.control import Saved, Stepped, Validated
from likely.engine.train.losses import fusion
from likely.engine.train.run import trainer
from likely.engine.weights.adapters import adapters, lora
from likely.engine.weights.adapters.config import configure
from likely.engine.weights.quantize import Settings, quantize
from likely.engine.weights.sources.checkpoint import Partition, load
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import mx
from likely.metal.packed import LEVELS
from likely.metal.packed import load as load_library
from likely.metal.simulator import TracedFunction
from likely.models.native_path.compiled import CompiledStep
from likely.models.native_path.native import NativeModel
from likely.models.transformer import Transformer
from tests.engine.attach.test_stack import with_posterior, write
from tests.engine.test_native import CONFIG, GREEDY, TEXT, needs_rounding
from tests.engine.tiny import weights, write_gguf
from tests.engine.tune.tiny import samples
from tests.fakes import FakeCheckpoint
from tests.metal.test_packed import ROUNDS
from tests.metal.test_whole_models import counted
from tests.models.test_compiled import built
from tests.support.everyday import everyday

pytestmark = pytest.mark.linux
REPEATING = TEXT[:30] * 3
Use = Callable[[Session, Path], Any]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("m") / "m.gguf", "llama", CONFIG, weights(CONFIG), "Q8_0")


def tokens(session: Session, ids: list[int] = REPEATING, n: int = 1, control: RunControl = GREEDY, **how: Any) -> Any:
    found: dict[int, list[int]] = {}
    for event in session.generate(ids, control, n=n, max_tokens=12, **how):
        if isinstance(event, Emitted):
            found.setdefault(event.branch, []).append(event.step.token)
    assert any(found.values())
    return found


def answers(session: Session, folder: Path) -> Any:
    return tokens(session), session.logits_after(REPEATING)


def measures(session: Session, folder: Path) -> Any:
    steps = session.score(TEXT, start=1)
    return np.array([step.logprob for step in steps]), session.logits_after(TEXT)


def searches(session: Session, folder: Path) -> Any:
    hot = RunControl(SamplingConfig())
    ways = ("beam 4", "diverse 4 2", "stochastic 3", "power 2")
    return [tokens(session, n=3, control=hot), *(tokens(session, strategy=parse(w), control=hot, seed=4) for w in ways)]


def guesses(session: Session, folder: Path) -> Any:
    plain = tokens(session)
    assert tokens(session, strategy=NGram(4)) == plain
    drafted = Drafting("itself", session.checkpoint)
    assert tokens(session, strategy=drafted) == plain
    return plain


def bound(session: Session, folder: Path) -> Any:
    constraint = Constraint("regex", "[a-f]{3,9}", start=len(REPEATING))
    return tokens(session, control=RunControl(SamplingConfig((constraint,), greedy=True)))


def kept(session: Session, folder: Path) -> Any:
    found = []
    for _ in range(2):
        again = Session(session.checkpoint, Prefixes("m", folder=folder / "prefixes"))
        found.append(tokens(again, TEXT))
    assert found[0] == found[1]
    return found


def turns(session: Session, folder: Path) -> Any:
    sessions = session, Session(session.checkpoint.twin())
    runs = [s.generate(ids, GREEDY, max_tokens=8) for s, ids in zip(sessions, (TEXT[:40], TEXT[40:70]), strict=True)]
    found: list[list[int]] = [[], []]
    for _ in range(30):
        for run, own in zip(runs, found, strict=True):
            event = next(run, None)
            if isinstance(event, Emitted):
                own.append(event.step.token)
    assert all(map(len, found))
    return found


def adapted(session: Session, folder: Path) -> Any:
    plain = load(session.info.path, precision=Precision(mx.float32, packed=False))
    toward = steering.direction(cast(Any, plain.model), [TEXT[:9]], [TEXT[9:20]], 1)
    steering.save(folder / "direction", toward)
    stack, found = Stack(session), [session.logits_after(TEXT)]
    for what in (write(plain, folder / "style", 1), folder / "direction"):
        stack.add(what)
        found += [session.logits_after(TEXT), tokens(session)]
        assert np.abs(found[-2] - found[0]).max() > 1e-2
        stack.clear()
    np.testing.assert_array_equal(session.logits_after(TEXT), found[0])
    return found


def by_layer(session: Session, folder: Path) -> Any:
    seen = subject(session, TEXT[:40], rows=30)
    contrasted = tokens(session, strategy=parse("dola 2"))
    silent = ablate(seen, 1, 2)
    assert abs(silent.effect) > 1e-3
    return list(lens(seen).kl), [silent.logit, silent.effect], mean_hidden(session, TEXT[:40], 1), contrasted


def uncertain(session: Session, folder: Path) -> Any:
    plain = load(session.info.path, precision=Precision(mx.float32, packed=False))
    Stack(session).add(with_posterior(session, write(plain, folder / "style", 1, modules=("q_proj",))))
    assert session.average is not None
    return session.average(2)(mx.array([TEXT[:40]]))


def packed_keys(session: Session, folder: Path) -> Any:
    quantised = Session(session.checkpoint, bits=8, group_size=32)
    return tokens(quantised, TEXT), quantised.logits_after(TEXT)


def windowed(session: Session, folder: Path) -> Any:
    return tokens(Session(session.checkpoint, window=32, sinks=4), TEXT)


def looked_at(session: Session, folder: Path) -> Any:
    seen = subject(session, TEXT[:40])
    assert transformer(session) is seen.model
    return attribution(seen).sum


def tuned(session: Session, folder: Path, **options: Any) -> Any:
    """Losses of three steps and of validation; the last step is taken anew from a checkpoint, to the same bytes."""
    how = {"batch": 3, "length": 32, "rate": 1e-2, "steps": 3, "kl": 0.1, "save_every": 2, "init": "pissa"} | options
    data, out = trainer.Set(samples(12), samples(4, seed=1), fingerprint="rows"), folder / "run"
    events: list[Any] = []
    for resume in (False, True):
        run = trainer.prepare(session.model, configure(how), data, out, resume=resume)
        for event in trainer.train(run):
            if isinstance(event, Saved) and event.step == 2:
                shutil.copytree(out, folder / "kept")
            events.append(event)
        lora.detach(cast(lora.Adapter, run.trained))
        kept = (out / adapters.WEIGHTS).read_bytes()
        out = folder / "kept"
    assert (folder / "run" / adapters.WEIGHTS).read_bytes() == kept
    return [event.loss for event in events if isinstance(event, Stepped | Validated)]


def tuned_otherwise(session: Session, folder: Path) -> Any:
    return tuned(session, folder, dropout=0.1), tuned(session, folder / "dora", kind="dora", init="zero")


def fused(session: Session, folder: Path) -> Any:
    plain = load(session.info.path, precision=Precision(mx.float32, packed=False))
    stored = adapters.read(write(plain, folder / "style", 1))
    fusion.fuse_to(folder / "fused", session.checkpoint, stored, [TEXT[:20]])
    return load(folder / "fused", precision=Precision(mx.float32, packed=False)).model(mx.array([TEXT[:20]]))


def quantised(session: Session, folder: Path) -> Any:
    quantize(
        session.info, folder / "small", Settings(bits=4, group_size=32), text="It rained, and nobody minded. " * 40
    )
    return load(folder / "small", precision=Precision(mx.float32, packed=False)).model(mx.array([TEXT[:20]]))


class OneRank:
    """Ranks of one process: what it has is the whole."""

    rank, size, group = 0, 1, mx.distributed.init()

    def broadcast(self, values: Any) -> Any:
        return values


def shared(session: Session, folder: Path) -> Any:
    parted = load(session.info.path, parting=Partition(cast(Any, OneRank()), "pipeline"))
    assert not parted.precision.native and parted.tokenizer.vocab_size == session.tokenizer.vocab_size
    return np.array(parted.model(mx.array([TEXT[:20]])))


USES: dict[str, Use] = dict(
    zip(
        (path.use for path in PATHS),
        (answers, measures, searches, guesses, bound, kept, turns, adapted, by_layer, uncertain, packed_keys, windowed,
         looked_at, tuned, tuned_otherwise, fused, quantised, shared),
        strict=True,
    )
)  # fmt: skip
APART = {"likely quantize", "several processes (mlx.launch)"}  # these have no model that is loaded already


def same(got: Any, want: Any) -> None:
    """Tokens alike; numbers as near as activations of 16 bits are."""
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for key in want:
            same(got[key], want[key])
    elif isinstance(want, tuple | list) and want and not isinstance(want[0], int | float):
        for one, other in zip(got, want, strict=True):
            same(one, other)
    elif isinstance(want, list) and isinstance(want[0], int):
        assert got == want
    else:
        got, want = np.array(got, np.float64), np.array(want, np.float64)
        assert np.abs(got - want).max() <= 2e-3 * max(1.0, np.abs(want).max())


@pytest.mark.parametrize("row", everyday(PATHS, 3), ids=lambda row: row.use)
def test_it_takes_the_path_that_is_said_and_gives_what_the_graph_gives(row: Any, path: Path, tmp_path: Path) -> None:
    fast, graph = load(path), load(path, precision=Precision(mx.float32, packed=False))
    model = fast.model
    assert isinstance(model, NativeModel)
    found = []
    for name, one in (("fast", fast), ("graph", graph)):
        (tmp_path / name).mkdir()
        found.append(USES[row.use](Session(one), tmp_path / name))
    same(*found)
    assert row.path in (NATIVE, GRAPH)
    if row.use not in APART:
        assert model.expanded == (row.path == GRAPH)


def test_the_rounding_of_activations_is_measured_against_the_graph(path: Path) -> None:
    """None where all of the bits are multiplied; of 16 bits what the decision says. Keys are halves everywhere."""
    library = load_library()
    assert library is not None
    text = "It rained, and nobody minded. " * 9
    found, full = activation_rounding.measure(load(path), text)
    assert (found.bits, found.tokens) == (16, 200) and 0 <= found.kl <= found.largest < 1e-5 and not found.flips
    assert (full.bits, full.tokens) == (24, 200) and full.largest < 1e-10 and full.off <= full.most_off < 1e-5
    library.handle.likely_packed_init(LEVELS.index("plain"))
    try:
        plain, same = activation_rounding.measure(load(path), text)
    finally:
        library.handle.likely_packed_init(len(LEVELS) - 1)
    assert same.largest < 1e-10 < found.largest and plain.kl > 0
    assert library.kernels not in ROUNDS or (plain.kl < found.kl and full.off < found.off / 9)
    with pytest.raises(DataError, match="runs through the graph"):
        activation_rounding.measure(load(path, precision=Precision(mx.float32, packed=False)))


@needs_rounding
def test_activations_of_8_bits_are_the_same_for_drawing_and_scoring(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file's packed products alone, and said to be worse; who cannot have them is told so by name."""
    four = write_gguf(tmp_path / "four.gguf", "llama", CONFIG, weights(CONFIG), "Q4_1")
    rounded = load(four, activation_bits=8)
    exact, text = load(four), "It rained, and nobody minded. " * 9
    found = activation_rounding.measure(exact, text)
    assert [one.bits for one in found] == [16, 24, 8] and 0 <= 100 * found[0].kl < found[2].kl < 0.1
    session = Session(rounded)
    steps = [event.step for event in session.generate(REPEATING, GREEDY, max_tokens=6) if isinstance(event, Emitted)]
    ids = mx.array([[*REPEATING, *(step.token for step in steps)]])
    for model, is_same in ((rounded.model, True), (exact.model, False)):
        logits = np.array(model(ids)[0, len(REPEATING) - 1 : -1], np.float64)
        scores = arrays.logprobs(logits, np)[range(6), [step.token for step in steps]]
        assert np.allclose(scores, [step.logprob for step in steps], rtol=0, atol=1e-6) == is_same
    with pytest.raises(ConfigError, match="8-bit activations are for weights of 4 and 5 bits"):
        load(path, activation_bits=8)
    with pytest.raises(CheckpointError, match="runs by the graph"):
        load(four, precision=Precision(mx.float32, packed=False), activation_bits=8)
    monkeypatch.setenv("LIKELY_PACKED", "plain")
    load_library.cache_clear()
    try:
        with pytest.raises(ConfigError, match="8-bit activations are for processors with AVX2 or AVX-512's VNNI"):
            load(four, activation_bits=8)
    finally:
        monkeypatch.delenv("LIKELY_PACKED")
        load_library.cache_clear()
        load_library()


@pytest.mark.slow(5)
def test_doctor_says_what_takes_which_path_and_what_rounding_costs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the one model on this machine."""
    for name, value in (("LIKELY_HOME", "home"), ("HF_HOME", "hub"), ("HOME", "none")):
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("LIKELY_MODELS", str(path.parent))
    said = json.loads(CliRunner().invoke(doctor.command, ["--json"]).output)
    assert [row["use"] for row in said["paths"]] == [row.use for row in PATHS] and "KL" in said["rounding"]
    shown = CliRunner().invoke(doctor.command, []).output
    assert all(row.use in shown and row.why in shown for row in PATHS) and "float32 activations (" in shown
    assert "of 200" in shown
    monkeypatch.setenv("LIKELY_PACKED", "off")
    shown = CliRunner().invoke(doctor.command, []).output
    assert "off: LIKELY_PACKED=off" in shown and PATHS[0].use not in shown


PROMPT = [(7 * i) % 200 for i in range(250)]
RECIPES = [
    SamplingConfig(greedy=True),
    SamplingConfig((RepetitionPenalty(1.2), Temperature(1.5))),
    SamplingConfig((MinP(0.1),)),
]


def session(model: Transformer, *, compiled: bool) -> Session:
    made = Session(FakeCheckpoint(model))  # type: ignore[arg-type]
    if compiled:
        made.pool.step = CompiledStep(model, TracedFunction)
    return made


def drawn(session: Session, recipe: SamplingConfig, branches: int = 0, tokens: int = 12) -> dict[int, list[int]]:
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
def test_the_tokens_are_the_same(model: Transformer, recipe: SamplingConfig, branches: int) -> None:
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
