"""A stack of adapters by its parts: names and hashes of what is on, directions, posteriors, order of on and off."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ParameterError
from engine.inside import steering
from engine.posterior import stored
from engine.posterior.posterior import Ensemble
from engine.session import Session
from engine.sources.checkpoint import load
from engine.tune import adapters, lora, sites
from engine.tune.attached import Attached
from engine.tune.stack import Stack, digest
from metal import mx
from tests.engine import tiny

CONFIG = tiny.LLAMA | {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8}
IDS = [5, 9, 200, 31, 7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("stack")
    tiny.write_folder(at / "model", CONFIG, {n: mx.array(4 * a) for n, a in tiny.weights(CONFIG).items()})
    return at


@pytest.fixture
def session(folder: Path) -> Session:
    return Session(load(folder / "model"))


def write(session: Session, folder: Path, seed: int, modules: list[str]) -> Path:
    model = session.model
    adapter = lora.create(sites.choose(sites.sites(model), -1, modules, 2), rank=2, scale=3.0, seed=seed)
    keys = {name: mx.random.key(10 * seed + i) for i, name in enumerate(adapter.parameters())}
    adapter.set({n: p + 0.3 * mx.random.normal(p.shape, key=keys[n]) for n, p in adapter.parameters().items()})
    adapters.save(folder, adapter, model, {"kind": "lora", "model": "its base"})
    return folder


def logprobs(session: Session) -> np.ndarray:
    logits = np.asarray(session.model(mx.array([IDS]))[0].astype(mx.float32), np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def test_what_is_on_the_model_is_said_with_its_numbers(session: Session, tmp_path: Path) -> None:
    one = write(session, tmp_path / "one", 1, ["q_proj", "mlp.down_proj"])
    stack, told = Stack(session), []
    session.changed = lambda *said: told.append(said)  # type: ignore[method-assign]
    shown = stack.add(one, 0.5, "mine")
    parameters = 2 * (2 * 16 + 2 * 16 + 2 * 24 + 2 * 16)
    assert shown == Attached(
        "mine", one, 0.5, "lora", 2, 3.0, ("mlp.down_proj", "self_attn.q_proj"), parameters, "its base"
    )
    assert stack.attached == (shown,) and stack.add(str(one), 0.0).name == "one"
    files = digest(one)
    identity = hashlib.sha256(f"{files} 0.5".encode()).hexdigest()[:32]
    assert stack.identity == identity and told[-1] == (identity, (f"mine=0.5 {files[:16]}",), None)
    stack.weigh("one", -2.0)
    both = hashlib.sha256(f"{files} 0.5\n{files} -2.0".encode()).hexdigest()[:32]
    assert told[-1] == (both, (f"mine=0.5 {files[:16]}", f"one=-2 {files[:16]}"), None)
    stack.remove("mine")
    stack.remove("one")
    assert told[-1] == ("", (), None) and stack.attached == ()
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


def test_how_far_all_of_it_moves_the_next_token(session: Session, tmp_path: Path) -> None:
    base = logprobs(session)
    stack = Stack(session)
    assert stack.shift(IDS) == pytest.approx(0, abs=1e-7)
    stack.add(write(session, tmp_path / "one", 1, ["*"]))
    stack.add(write(session, tmp_path / "two", 2, ["*"]), 0.25)
    stack.add(write(session, tmp_path / "off", 3, ["*"]), 0.0)
    now = logprobs(session)
    exact = (np.exp(now) * (now - base)).sum(-1)
    found = stack.shift(IDS)
    places = len(np.asarray(steering.next_logprobs(session.model, IDS)))  # type: ignore[arg-type]
    assert found == pytest.approx(float(exact[-places:].mean()), rel=1e-3) and found > 1e-3
    assert [each.weight for each in stack.attached] == [1.0, 0.25, 0.0]
    assert np.abs(logprobs(session) - now).max() < 1e-5


def test_a_direction_is_put_on_weighed_and_taken_off(session: Session, tmp_path: Path) -> None:
    base = logprobs(session)
    vector = np.random.default_rng(0).normal(size=16).astype(np.float32)
    model: Any = session.model
    found = steering.direction(model, [IDS], [IDS[::-1]], 1)
    assert found.vector.size == vector.size
    steering.save(tmp_path / "up", found)
    stack = Stack(session)
    shown = stack.add(tmp_path / "up", 2.0)
    assert (shown.name, shown.kind, shown.rank, shown.scale, shown.modules, shown.parameters) == (
        "up", "steering", 1, 1.0, ("layers.1",), 16
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


def test_the_posterior_of_one_adapter_is_averaged_over(session: Session, tmp_path: Path) -> None:
    stack, told = Stack(session), []
    real = session.changed
    session.changed = lambda *said: told.append(said) or real(*said)  # type: ignore[method-assign, func-returns-value]
    plain = write(session, tmp_path / "plain", 1, ["q_proj"])
    assert stack.add(plain).posterior == "" and told[-1][2] is None
    with pytest.raises(ParameterError, match="that of one adapter on the model, and none has one"):
        stack.averaged(0)
    one = with_posterior(session, write(session, tmp_path / "one", 2, ["q_proj"]))
    two = with_posterior(session, write(session, tmp_path / "two", 3, ["q_proj"]))
    assert stack.add(one).posterior == "ensemble" and told[-1][2] == stack.averaged
    assert stack.averaged(0).samples == 2 and stack.averaged(2).posterior.KIND == "ensemble"
    stack.add(two)
    with pytest.raises(ParameterError, match="one and two have one each: take one off"):
        stack.averaged(0)
    stack.weigh("one", 0.0)
    assert stack.averaged(0).samples == 2
    stack.weigh("two", 0.0)
    assert told[-1][2] is None  # it is there and has no weight


def test_what_leaves_is_off_before_what_comes_is_on(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(session)
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        stack.add(write(session, tmp_path / name, seed, ["q_proj"]), 1.0 if name == "c" else 0.0)
    done: list[tuple[str, float]] = []
    real = stack._set

    def kept(entry: Any, weight: float) -> None:
        done.append((entry.shown.name, weight))
        if entry.shown.name == "b" and weight == 0.5:
            raise ParameterError("no room")
        real(entry, weight)

    monkeypatch.setattr(stack, "_set", kept)
    stack.only("a")
    assert done[-1] == ("a", 1.0) and set(done[:-1]) == {("b", 0.0), ("c", 0.0)}
    assert [each.weight for each in stack.attached] == [1.0, 0.0, 0.0]
    done.clear()
    with pytest.raises(ParameterError, match="no room"):
        stack._weigh({"b": 0.5, "a": 0.0})
    assert done == [("a", 0.0), ("b", 0.5), ("b", 0.0), ("a", 1.0)]  # as it was
    assert [each.weight for each in stack.attached] == [1.0, 0.0, 0.0]
    with pytest.raises(ParameterError, match="no adapter called z is on the model; there: a, b, c"):
        stack.only("z")


def test_whole_weights_are_no_adapter_and_a_name_is_given_once(session: Session, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "adapter_config.json").write_text('{"fine_tune_type": "full"}')
    mx.save_safetensors(str(tmp_path / "w" / "adapters.safetensors"), {"a": mx.zeros((2,))})
    stack = Stack(session)
    with pytest.raises(ParameterError, match="holds whole weights, not an adapter: load it as a model of its own"):
        stack.add(tmp_path / "w")
    one = write(session, tmp_path / "one", 1, ["q_proj"])
    stack.add(one, name="w")
    with pytest.raises(ParameterError, match="an adapter called w is on the model already"):
        stack.check_name("w")
    stack.check_name("x")
