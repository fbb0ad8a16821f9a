"""Adapters on a running model: exact switching, and nothing read under one is used under another."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.engine.adapters.lora as lora
from likely.engine.adapters import adapters, sites
from likely.engine.adapters.attached import Attached
from likely.engine.adapters.stored import digest
from likely.engine.attach.stack import Stack
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted
from likely.engine.errors import CheckpointError, ParameterError
from likely.engine.inside import steering
from likely.engine.posterior import stored
from likely.engine.posterior.posterior import Ensemble
from likely.engine.prefix import SEGMENT, Prefixes
from likely.engine.session import Session
from likely.engine.sources.checkpoint import Checkpoint, load
from likely.engine.trace.step import Recipe
from likely.metal import mx
from tests.engine import tiny as files

CONFIG = files.LLAMA | {"max_position_embeddings": 512}
TEXT = [int(t) for t in np.random.default_rng(0).integers(0, 255, 150)]
IDS = [5, 9, 200, 31, 7]
GREEDY = Recipe(greedy=True)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return load(files.random_folder(tmp_path / "model", CONFIG))


def write(
    checkpoint: Checkpoint, folder: Path, seed: int, kind: str = "lora", modules: tuple[str, ...] = ("*",)
) -> Path:
    """An adapter directory with random factors; the model stays as it is."""
    m = checkpoint.model
    adapter = lora.create(sites.choose(sites.sites(m), -1, modules, m.config.layers), rank=4, scale=2.0, kind=kind)
    adapter.set(
        {
            n: p + 0.2 * mx.random.normal(p.shape, key=mx.random.key(100 * seed + i))
            for i, (n, p) in enumerate(adapter.parameters().items())
        }
    )
    adapters.save(folder, adapter, m, {"kind": kind, "model": "base"})
    return folder


def logprobs(session: Session) -> np.ndarray:
    logits = np.asarray(session.model(mx.array([IDS]))[0].astype(mx.float32), np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


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
    arrays = mx.load(str(one / adapters.WEIGHTS))
    other = tmp_path / "other"
    other.mkdir()
    (other / adapters.CONFIG).write_bytes((one / adapters.CONFIG).read_bytes())
    mx.save_safetensors(str(other / adapters.WEIGHTS), {f"x.{n}": a for n, a in arrays.items()})  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match=r"is for another model: x\.model\S+ .* has no place here"):
        stack.add(other)
    assert np.array_equal(logits(session), base) and stack.attached == ()
    stack.add(one)
    with pytest.raises(ParameterError, match="an adapter called one is on the model already"):
        stack.add(one)


def test_what_is_on_the_model_is_said_with_its_numbers(checkpoint: Checkpoint, tmp_path: Path) -> None:
    one = write(checkpoint, tmp_path / "one", 1, modules=("q_proj", "mlp.down_proj"))
    session = Session(checkpoint)
    stack = Stack(session)
    shown = stack.add(one, 0.5, "mine")
    parameters = 2 * 4 * (64 + 64 + 128 + 64)
    assert shown == Attached(
        "mine", one, 0.5, "lora", 4, 2.0, ("mlp.down_proj", "self_attn.q_proj"), parameters, "base"
    )
    assert stack.attached == (shown,) and stack.add(str(one), 0.0).name == "one"
    files = digest(one)
    identity = hashlib.sha256(f"{files} 0.5".encode()).hexdigest()[:32]
    assert stack.identity == identity
    assert session.adapted and session.adapters == (f"mine=0.5 {files[:16]}",) and session.average is None
    stack.weigh("one", -2.0)
    both = hashlib.sha256(f"{files} 0.5\n{files} -2.0".encode()).hexdigest()[:32]
    assert stack.identity == both and session.adapters == (f"mine=0.5 {files[:16]}", f"one=-2 {files[:16]}")
    stack.remove("mine")
    stack.remove("one")
    assert (session.adapted, session.adapters, stack.attached, stack.identity) == (False, (), (), "")
    for weight in (10.0, -10.0):
        stack.add(one, weight)
        stack.clear()
    for wrong in (10.001, -10.5, float("inf")):
        with pytest.raises(ParameterError, match="weight must be -10 to 10"):
            stack.add(one, wrong)
    stack.add(one)
    for wrong in (10.001, -10.5, float("inf"), float("nan")):
        with pytest.raises(ParameterError, match="weight must be -10 to 10"):
            stack.weigh("one", wrong)
    assert stack.attached[0].weight == 1.0


def test_a_digest_is_of_the_files_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapters.safetensors").write_bytes(b"w")

    def of(*parts: tuple[str, bytes]) -> str:
        found = hashlib.sha256()
        for name, data in parts:
            found.update(name.encode() + hashlib.sha256(data).digest())
        return found.hexdigest()

    config = ("adapter_config.json", b"{}")
    assert digest(tmp_path) == of(config, ("adapters.safetensors", b"w"))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"p")
    assert digest(tmp_path) == of(config, ("adapter_model.safetensors", b"p"))  # the other is not looked at
    assert digest(tmp_path / "none") == hashlib.sha256().hexdigest()


def test_how_far_all_of_it_moves_the_next_token(checkpoint: Checkpoint, tmp_path: Path) -> None:
    session = Session(checkpoint)
    base, stack = logprobs(session), Stack(session)
    assert stack.shift(IDS) == pytest.approx(0, abs=1e-7)
    stack.add(write(checkpoint, tmp_path / "one", 1))
    stack.add(write(checkpoint, tmp_path / "two", 2), 0.25)
    stack.add(write(checkpoint, tmp_path / "off", 3), 0.0)
    now = logprobs(session)
    exact = (np.exp(now) * (now - base)).sum(-1)
    found = stack.shift(IDS)
    places = len(np.asarray(steering.next_logprobs(session.model, IDS)))  # type: ignore[arg-type]
    assert found == pytest.approx(float(exact[-places:].mean()), rel=1e-3) and found > 1e-3
    assert [each.weight for each in stack.attached] == [1.0, 0.25, 0.0]
    assert np.abs(logprobs(session) - now).max() < 1e-5


def test_a_direction_is_put_on_weighed_and_taken_off(checkpoint: Checkpoint, tmp_path: Path) -> None:
    session = Session(checkpoint)
    base = logprobs(session)
    model: Any = session.model
    found = steering.direction(model, [IDS], [IDS[::-1]], 1)
    steering.save(tmp_path / "up", found)
    stack = Stack(session)
    shown = stack.add(tmp_path / "up", 2.0)
    assert (shown.name, shown.kind, shown.rank, shown.scale, shown.modules, shown.parameters) == (
        "up", "steering", 1, 1.0, ("layers.1",), 64
    )  # fmt: skip
    assert shown.weight == 2.0 and shown.folder == tmp_path / "up" and stack.identity
    twice = logprobs(session)
    assert np.abs(twice - base).max() > 1e-4
    stack.weigh("up", 1.0)
    once = logprobs(session)
    assert np.abs(once - twice).max() > 1e-5 and stack.attached[0].weight == 1.0
    stack.weigh("up", 0.0)
    assert np.array_equal(logprobs(session), base) and stack.identity == ""
    stack.weigh("up", 2.0)
    assert np.abs(logprobs(session) - twice).max() < 1e-6
    stack.clear()
    assert np.array_equal(logprobs(session), base)
    off = stack.add(tmp_path / "up", 0.0, "other")
    assert np.array_equal(logprobs(session), base) and off.name == "other"


def with_posterior(session: Session, folder: Path) -> Path:
    """Two members about the adapter that is there."""
    arrays = adapters.read(folder).arrays
    parts = {name: np.stack([np.asarray(a), np.asarray(a) * 1.5]) for name, a in arrays.items()}
    facts = stored.FitFacts("ensemble", digest(folder), session.info.weights)
    stored.write(folder, Ensemble(parts), facts)
    return folder


def test_the_posterior_of_one_adapter_is_averaged_over(checkpoint: Checkpoint, tmp_path: Path) -> None:
    session = Session(checkpoint)
    stack = Stack(session)
    plain = write(checkpoint, tmp_path / "plain", 1, modules=("q_proj",))
    assert stack.add(plain).posterior == "" and session.average is None
    with pytest.raises(ParameterError, match="that of one adapter on the model, and none has one"):
        stack.averaged(0)
    one = with_posterior(session, write(checkpoint, tmp_path / "one", 2, modules=("q_proj",)))
    two = with_posterior(session, write(checkpoint, tmp_path / "two", 3, modules=("q_proj",)))
    assert stack.add(one).posterior == "ensemble" and session.average == stack.averaged
    assert stack.averaged(0).samples == 2 and stack.averaged(2).posterior.KIND == "ensemble"
    stack.add(two)
    with pytest.raises(ParameterError, match="one and two have one each: take one off"):
        stack.averaged(0)
    stack.weigh("one", 0.0)
    assert stack.averaged(0).samples == 2
    stack.weigh("two", 0.0)
    assert session.average is None  # it is there and has no weight


def test_whole_weights_are_no_adapter_and_a_name_is_given_once(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "adapter_config.json").write_text('{"fine_tune_type": "full"}')
    mx.save_safetensors(str(tmp_path / "w" / "adapters.safetensors"), {"a": mx.zeros((2,))})
    stack = Stack(Session(checkpoint))
    with pytest.raises(ParameterError, match="holds whole weights, not an adapter: load it as a model of its own"):
        stack.add(tmp_path / "w")
    one = write(checkpoint, tmp_path / "one", 1, modules=("q_proj",))
    stack.add(one, name="w")
    with pytest.raises(ParameterError, match="an adapter called w is on the model already"):
        stack.check_name("w")
    stack.check_name("x")
