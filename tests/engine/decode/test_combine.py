"""Decoding from two distributions: what comes of it has the law of their combination, whatever goes over it."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.decode.combine import Contrast, Guidance, Layers
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted, Event, Forked, Pruned
from likely.engine.decode.strategies import parse
from likely.engine.errors import ParameterError
from likely.engine.session import Session
from likely.engine.trace.replay import replay, states_at
from likely.engine.trace.step import Recipe, TokenStep
from likely.engine.transforms import Temperature, TopK
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import VOCAB, ByteTokenizer, FakeCheckpoint, MarkovModel, random_table

PROMPT = list(b"ask")
OVER = ["sample", "vote 3", "beam 3", "stochastic 3", "exact 6", "power 2 4 3"]
SMALL = LLAMA | {"vocab_size": VOCAB, "num_hidden_layers": 4}


def llama(seed: int, **changes: Any) -> Any:
    config = SMALL | changes
    return models.build(config, {name: mx.array(array * 3) for name, array in weights(config, seed).items()})


def session(model: Any) -> Session:
    return Session(FakeCheckpoint(model))  # type: ignore[arg-type]


def weaker(model: Any, **fields: Any) -> Contrast:
    return Contrast("weak", loaded=SimpleNamespace(model=model), **fields)


def drawn(events: Iterator[Event]) -> list[TokenStep]:
    """The steps of all branches, in the order in which they were told."""
    return [event.step for event in events if isinstance(event, Emitted)]


def logp(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    found: np.ndarray = x - np.logaddexp.reduce(x, axis=-1, keepdims=True)
    return found


def contrast(a: np.ndarray, b: np.ndarray, strength: float = 0.5, least: float = 0.1) -> np.ndarray:
    """The formula in float64."""
    found: np.ndarray = np.where(
        a >= a.max(axis=-1, keepdims=True) + math.log(least), (1 + strength) * a - strength * b, -np.inf
    )
    return found


@pytest.mark.parametrize("text", OVER)
def test_a_contrast_is_the_model_whose_logits_are_the_formula(text: str) -> None:
    """Tables of probabilities: the combination is one more table, and every strategy finds in the two what it finds
    in that."""
    a, b = (logp(random_table(seed, 1.0)) for seed in (0, 1))
    one = session(MarkovModel(contrast(a, b)))
    two = session(MarkovModel(a))
    run: dict[str, Any] = {"seed": 3, "max_tokens": 5}
    alone = drawn(one.generate(PROMPT, RunControl(), strategy=parse(text), **run))
    both = drawn(two.generate(PROMPT, RunControl(), strategy=weaker(MarkovModel(b)).over(parse(text)), **run))
    assert [step.token for step in both] == [step.token for step in alone] and both
    assert [step.logprob for step in both] == pytest.approx([step.logprob for step in alone], abs=1e-5)


def test_guidance_is_a_formula_too() -> None:
    table = logp(random_table(4, 1.0))
    strategy = Guidance(2.5, "b", ids=(ord("b"),))
    first = drawn(session(MarkovModel(table)).generate(PROMPT, RunControl(), seed=1, max_tokens=1, strategy=strategy))
    p, q = table[ord("k")], table[ord("b")]
    assert first[0].logprob == pytest.approx(logp(q + 2.5 * (p - q))[first[0].token], abs=1e-5)
    for scale in (1.0, 3.0):  # without another prompt, and a model that knows one token alone, the two are the same
        plain = drawn(session(MarkovModel(table)).generate(PROMPT, RunControl(), seed=1, max_tokens=6))
        same = drawn(
            session(MarkovModel(table)).generate(PROMPT, RunControl(), seed=1, max_tokens=6, strategy=Guidance(scale))
        )
        assert [step.token for step in same] == [step.token for step in plain]


@pytest.mark.parametrize("text", OVER)
@pytest.mark.parametrize("kind", ["contrast", "guidance", "dola"])
def test_caches_go_back_and_part_together(kind: str, text: str) -> None:
    """Whole models with caches: each token's numbers are those of the formula over both models read anew."""
    model, weak = llama(0), llama(1, num_hidden_layers=1)
    away = (9, 8, 7, 6)
    if kind == "contrast":
        strategy: Any = weaker(weak, strength=1.0, least=0.02)
    else:
        strategy = Guidance(2.0, "away", ids=away) if kind == "guidance" else Layers(4, 0.02)
    steps = drawn_by_branch(
        session(model).generate(PROMPT, RunControl(), seed=2, max_tokens=5, strategy=strategy.over(parse(text)))
    )
    assert steps and (text.startswith("exact") or sum(map(len, steps.values())) >= 5)
    for branch in steps.values():
        text_ids = list(PROMPT)
        for step in branch:
            a = logp(np.array(model(mx.array([text_ids]))[0, -1]))
            if kind == "contrast":
                combined = contrast(a, logp(np.array(weak(mx.array([text_ids]))[0, -1])), 1.0, 0.02)
            elif kind == "guidance":
                q = logp(np.array(model(mx.array([[*away, *text_ids[len(PROMPT) :]]]))[0, -1]))
                combined = q + 2.0 * (a - q)
            else:
                combined = dola(model, text_ids, a)
            assert step.logprob == pytest.approx(logp(combined)[step.token], abs=2e-3)
            text_ids.append(step.token)


def dola(model: Any, ids: list[int], a: np.ndarray) -> np.ndarray:
    """The paper's formulas in float64, of the layers 0 and 2."""
    hidden = model.inspect(mx.array([ids])).hidden
    lower = [logp(np.array(model.lens(hidden[layer][:, -1])[0])) for layer in (0, 2)]

    def apart(b: np.ndarray) -> float:
        p, q = np.exp(a), np.exp(b)
        m = (p + q) / 2
        return float((p * np.log(p / m) + q * np.log(q / m)).sum() / 2)

    found: np.ndarray = np.where(a >= a.max() + math.log(0.02), a - max(lower, key=apart), -np.inf)
    return found


def drawn_by_branch(events: Iterator[Event]) -> dict[int, list[TokenStep]]:
    """The steps of each branch that was not given up."""
    found: dict[int, list[TokenStep]] = {}
    for event in events:
        match event:
            case Emitted(branch, step):
                found.setdefault(branch, []).append(step)
            case Forked(parent, child):
                found[child] = list(found.get(parent, ()))
            case Pruned(branch):
                found.pop(branch, None)
    return found


def test_a_replay_needs_neither_of_the_two() -> None:
    """The trace has the combined logits: with other transforms it gives what a draw from them would have been."""
    recipe = Recipe((Temperature(0.7), TopK(5)))
    steps = drawn(
        session(llama(0)).generate(PROMPT, RunControl(recipe), seed=2, max_tokens=6, strategy=weaker(llama(1)))
    )
    for n, step in enumerate(steps):
        assert step.snapshot is not None and step.logprob is not None
        states = states_at(recipe.transforms, ByteTokenizer(), PROMPT, steps[:n])  # type: ignore[arg-type]
        again = replay(step.snapshot, recipe.transforms, states, (2, step.position), greedy=False)
        share = again.middle[list(again.ids).index(step.token)]
        assert again.exact and math.log(share) == pytest.approx(step.logprob_after, abs=1e-5)


def test_what_a_combination_needs_is_asked_for() -> None:
    with pytest.raises(ParameterError, match="while weak is not loaded"):
        next(session(MarkovModel(random_table(0))).generate(PROMPT, RunControl(), strategy=Contrast("weak")))
    other = SimpleNamespace(model=None, tokenizer=SimpleNamespace(fingerprint="x"), info=SimpleNamespace(name="weak"))
    with pytest.raises(ParameterError, match="needs two models with one tokenizer"):
        Contrast("weak").bind({"weak": other}, SimpleNamespace(fingerprint="y"))
    with pytest.raises(ParameterError, match="has 4 layers, so there are none below 9"):
        drawn(session(llama(0)).generate(PROMPT, RunControl(), max_tokens=2, strategy=Layers(9)))
