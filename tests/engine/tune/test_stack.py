"""Adapters on a running model: exact switching, and nothing read under one is used under another."""

from pathlib import Path

import numpy as np
import pytest

import engine.tune.lora as lora
from engine.decode.control import RunControl
from engine.decode.events import Emitted
from engine.errors import CheckpointError, ParameterError
from engine.prefix import SEGMENT, Prefixes
from engine.session import Session
from engine.sources.checkpoint import Checkpoint, load
from engine.trace.trace import Recipe
from engine.tune import adapters, sites
from engine.tune.stack import Stack
from metal import mx
from tests.engine import tiny as files

CONFIG = files.LLAMA | {"max_position_embeddings": 512}
TEXT = [int(t) for t in np.random.default_rng(0).integers(0, 255, 150)]
GREEDY = Recipe(greedy=True)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    arrays = {name: mx.array(a) for name, a in files.weights(CONFIG).items()}
    return load(files.write_folder(tmp_path / "model", CONFIG, arrays))


def write(checkpoint: Checkpoint, folder: Path, seed: int, kind: str = "lora") -> Path:
    """An adapter directory with random factors; the model stays as it is."""
    m = checkpoint.model
    adapter = lora.create(sites.choose(sites.sites(m), -1, ["*"], m.config.layers), rank=4, scale=2.0, kind=kind)
    adapter.set(
        {
            n: p + 0.2 * mx.random.normal(p.shape, key=mx.random.key(100 * seed + i))
            for i, (n, p) in enumerate(adapter.parameters().items())
        }
    )
    adapters.save(folder, adapter, m, {"kind": kind, "model": "base"})
    return folder


def logits(session: Session) -> np.ndarray:
    """From nothing: no cache has a say."""
    return np.asarray(session.model(mx.array([TEXT]))[0])


def test_adapters_are_added_weighed_switched_and_taken_off_and_the_base_is_the_base_bit_for_bit(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    one, two = write(checkpoint, tmp_path / "one", 1), write(checkpoint, tmp_path / "two", 2)
    session = Session(checkpoint)
    base = logits(session)
    stack = Stack(session)
    shown = stack.add(one)
    assert (shown.name, shown.weight, shown.rank, shown.kind, shown.trained_on) == ("one", 1.0, 4, "lora", "base")
    alone = logits(session)
    stack.add(two, weight=0.5)
    both = logits(session)
    assert min(np.abs(a - b).max() for a, b in ((alone, base), (both, alone), (both, base))) > 1e-2
    # the same as one merged adapter with both changes
    expected = load(tmp_path / "model")
    for folder, weight in ((one, 1.0), (two, 0.5)):
        placed = adapters.place(expected.model, adapters.read(folder))
        assert isinstance(placed, lora.Adapter)
        lora.attach(placed, weight=weight)
        lora.merge(expected.model, placed)
    assert np.abs(logits(Session(expected)) - both).max() <= 1e-4
    stack.only("one")
    assert [a.weight for a in stack.attached] == [1.0, 0.0]
    assert np.array_equal(logits(session), alone)
    stack.weigh("two", 0.5)
    assert np.array_equal(logits(session), both)
    stack.weigh("one", 0)
    stack.weigh("two", 0)
    assert np.array_equal(logits(session), base) and stack.identity == ""
    stack.only("one", -0.5)
    stack.clear()
    assert np.array_equal(logits(session), base) and stack.attached == ()


def test_what_was_read_under_another_adapter_is_never_used(checkpoint: Checkpoint, tmp_path: Path) -> None:
    one = write(checkpoint, tmp_path / "one", 1)
    prefixes = Prefixes("m", folder=tmp_path / "prefixes")
    session = Session(checkpoint, prefixes)
    stack = Stack(session)

    def asked() -> tuple[np.ndarray, int]:
        """The first distribution of an answer to TEXT, and how much of the prompt was found in a cache."""
        events = list(session.generate(TEXT, RunControl(GREEDY), max_tokens=1))
        first = next(e for e in events if isinstance(e, Emitted))
        assert first.step.snapshot is not None
        return session.logits_after(TEXT), events[-1].stats.reused_tokens  # type: ignore[union-attr]

    kept = SEGMENT * (len(TEXT) // SEGMENT)
    base, reused = asked()
    assert reused == 0
    stack.add(one)
    adapted, reused = asked()
    assert reused == 0 and np.abs(adapted - base).max() > 1e-2
    assert np.abs(adapted - logits(session)[-1]).max() <= 1e-4
    stack.weigh("one", 0.5)
    half, reused = asked()
    assert reused == 0 and np.abs(half - logits(session)[-1]).max() <= 1e-4
    stack.weigh("one", 1.0)
    again, reused = asked()
    assert reused >= kept and np.abs(again - adapted).max() <= 1e-4  # its own prefix is still good
    stack.remove("one")
    back, reused = asked()
    assert reused >= kept and np.abs(back - base).max() <= 1e-4


def test_an_answer_under_way_when_the_adapter_changes_leaves_nothing_behind(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    one = write(checkpoint, tmp_path / "one", 1)
    session = Session(checkpoint, Prefixes("m"))
    stack = Stack(session)
    events = session.generate(TEXT, RunControl(GREEDY), max_tokens=4)
    next(events)  # its prompt has been read by the base, and is not kept yet
    stack.add(one)
    list(events)
    found = session.logits_after(TEXT)
    assert np.abs(found - logits(session)[-1]).max() <= 1e-4


def test_dora_stands_alone_and_is_on_or_off(checkpoint: Checkpoint, tmp_path: Path) -> None:
    one, dora = write(checkpoint, tmp_path / "one", 1), write(checkpoint, tmp_path / "dora", 2, "dora")
    session = Session(checkpoint)
    base, stack = logits(session), Stack(session)
    stack.add(one)
    alone = logits(session)
    with pytest.raises(ParameterError, match="cannot be stacked"):
        stack.add(dora)
    assert np.array_equal(logits(session), alone) and len(stack.attached) == 1
    stack.add(dora, weight=0)
    with pytest.raises(ParameterError, match="cannot be stacked"):
        stack.weigh("dora", 1)
    assert np.array_equal(logits(session), alone) and stack.attached[1].weight == 0
    stack.only("dora")
    assert np.abs(logits(session) - alone).max() > 1e-2
    with pytest.raises(ParameterError, match=r"on or off: its weight must be 0 or 1, got 0\.5"):
        stack.weigh("dora", 0.5)
    stack.only("one")
    assert np.array_equal(logits(session), alone)
    stack.clear()
    assert np.array_equal(logits(session), base)


def test_what_cannot_be_put_on_is_said_and_changes_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    one = write(checkpoint, tmp_path / "one", 1)
    session = Session(checkpoint)
    base, stack = logits(session), Stack(session)
    with pytest.raises(ParameterError, match=r"weight must be -10 to 10, got nan"):
        stack.add(one, weight=float("nan"))
    with pytest.raises(CheckpointError, match="no adapter directory"):
        stack.add(tmp_path / "nowhere")
    with pytest.raises(ParameterError, match="no adapter called x is on the model; there: none"):
        stack.weigh("x", 1)
    stored = mx.load(str(one / adapters.WEIGHTS))
    other = tmp_path / "other"
    other.mkdir()
    (other / adapters.CONFIG).write_bytes((one / adapters.CONFIG).read_bytes())
    mx.save_safetensors(str(other / adapters.WEIGHTS), {f"x.{n}": a for n, a in stored.items()})  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match=r"is for another model: x\.model\S+ .* has no place here"):
        stack.add(other)
    assert np.array_equal(logits(session), base) and stack.attached == ()
    stack.add(one)
    with pytest.raises(ParameterError, match="an adapter called one is on the model already"):
        stack.add(one)
