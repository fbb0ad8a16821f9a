"""Adapters on a running model: exact switching, and nothing read under one is used under another."""

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import likely.engine.weights.adapters.lora as lora
from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prefix_cache import SEGMENT, Prefixes
from likely.engine.decode.session import Session
from likely.engine.inside import steering
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.train.attach.stack import Stack
from likely.engine.train.posterior import stored
from likely.engine.train.posterior.posterior import Ensemble
from likely.engine.weights.adapters import adapters, sites
from likely.engine.weights.adapters.attached import Attached
from likely.engine.weights.adapters.stored import digest
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.metal import mx
from tests.engine import tiny as files

CONFIG = files.LLAMA | {"max_position_embeddings": 512}
TEXT = [int(t) for t in np.random.default_rng(0).integers(0, 255, 150)]
IDS = [5, 9, 200, 31, 7]
GREEDY = SamplingConfig(greedy=True)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return load(files.random_folder(tmp_path / "model", CONFIG))


def write(
    checkpoint: Checkpoint, folder: Path, seed: int, kind: str = "lora", modules: tuple[str, ...] = ("*",)
) -> Path:
    """An adapter directory with random factors; the model stays as it is."""
    m = checkpoint.model
    adapter = lora.create(sites.choose(sites.sites(m), -1, modules, m.config.layers), rank=4, scale=2.0, kind=kind)
    keys = enumerate(adapter.parameters().items(), 100 * seed)
    adapter.set({n: p + 0.2 * mx.random.normal(p.shape, key=mx.random.key(i)) for i, (n, p) in keys})
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
        placed = adapters.build(expected.model, adapters.read(folder))
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
    session = Session(checkpoint, Prefixes("m", folder=tmp_path / "prefixes"))
    stack = Stack(session)

    def asked(reused: bool) -> np.ndarray:
        """The distribution after TEXT, of which a cache has all whole segments or nothing."""
        *_, done = session.generate(TEXT, RunControl(GREEDY), max_tokens=1)
        found = done.stats.reused_tokens  # type: ignore[union-attr]
        assert found >= SEGMENT * (len(TEXT) // SEGMENT) if reused else found == 0
        now = session.logits_after(TEXT)
        assert np.abs(now - logits(session)[-1]).max() <= 1e-4
        return now

    base = asked(False)
    stack.add(write(checkpoint, tmp_path / "one", 1))
    adapted = asked(False)
    assert np.abs(adapted - base).max() > 1e-2
    stack.weigh("one", 0.5)
    asked(False)
    stack.weigh("one", 1.0)
    assert np.abs(asked(True) - adapted).max() <= 1e-4  # its own prefix is still good
    stack.remove("one")
    assert np.abs(asked(True) - base).max() <= 1e-4


def test_an_answer_under_way_when_the_adapter_changes_leaves_nothing_behind(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    session = Session(checkpoint, Prefixes("m"))
    events = session.generate(TEXT, RunControl(GREEDY), max_tokens=4)
    next(events)  # its prompt has been read by the base, and is not kept yet
    Stack(session).add(write(checkpoint, tmp_path / "one", 1))
    list(events)
    assert np.abs(session.logits_after(TEXT) - logits(session)[-1]).max() <= 1e-4


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


def test_a_digest_is_of_the_files_that_are_read(tmp_path: Path) -> None:
    expected = hashlib.sha256(b"adapter_config.json" + hashlib.sha256(b"{}").digest())
    (tmp_path / "adapter_config.json").write_text("{}")
    for name in ("adapters.safetensors", "adapter_model.safetensors"):  # of both, the second alone is looked at
        (tmp_path / name).write_text(name)
        both = expected.copy()
        both.update(name.encode() + hashlib.sha256(name.encode()).digest())
        assert digest(tmp_path) == both.hexdigest()
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
    steering.save(tmp_path / "up", steering.direction(cast(Any, session.model), [IDS], [IDS[::-1]], 1))
    stack = Stack(session)
    shown = stack.add(tmp_path / "up", 2.0)
    assert shown == Attached("up", tmp_path / "up", 2.0, "steering", 1, 1.0, ("layers.1",), 64, shown.trained_on)
    assert stack.identity
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


def test_what_cannot_be_put_on_is_said_and_changes_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    one = write(checkpoint, tmp_path / "one", 1)
    session = Session(checkpoint)
    base, stack = logits(session), Stack(session)
    for name, settings, arrays in (
        ("other", (one / adapters.CONFIG).read_text(),
         {f"x.{n}": a for n, a in dict(mx.load(str(one / adapters.WEIGHTS))).items()}),
        ("full", '{"fine_tune_type": "full"}', {"a": mx.zeros((2,))}),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / adapters.CONFIG).write_text(settings)
        mx.save_safetensors(str(tmp_path / name / adapters.WEIGHTS), arrays)
    wrongs = (-10.5, 10.001, float("inf"), float("nan"))
    for weight in wrongs:
        with pytest.raises(ParameterError, match=f"weight must be -10 to 10, got {weight:g}"):
            stack.add(one, weight)
    for name, line in (
        ("nowhere", "no adapter directory"), ("other", r"is for another model: x\.model\S+ .* has no place here"),
        ("full", "holds whole weights, not an adapter: load it as a model of its own"),
    ):  # fmt: skip
        with pytest.raises((CheckpointError, ParameterError), match=line):
            stack.add(tmp_path / name)
    with pytest.raises(ParameterError, match="no adapter called x is on the model; there: none"):
        stack.weigh("x", 1)
    assert np.array_equal(logits(session), base) and stack.attached == ()
    stack.add(one)
    for again in (lambda: stack.add(one), lambda: stack.check_name("one")):
        with pytest.raises(ParameterError, match="an adapter called one is on the model already"):
            again()
    stack.check_name("x")
    for weight in wrongs:
        with pytest.raises(ParameterError, match="weight must be -10 to 10"):
            stack.weigh("one", weight)
    assert stack.attached[0].weight == 1.0
    for weight in (10.0, -10.0):
        stack.add(one, weight, "most")
        stack.remove("most")
