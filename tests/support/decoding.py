"""Sessions on models whose every probability is known: what their events say, and laws of whole texts by counting."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from itertools import permutations, product
from typing import Any

import numpy as np

import likely.models as models
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Event, Forked, Pruned, Rated
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights
from tests.fakes import EOS, VOCAB, FakeCheckpoint, MarkovModel, random_table

PROMPT = list(b"ask")


def session(model: Any, **options: Any) -> Session:
    """Of a model, or of a table of log-probabilities."""
    own = MarkovModel(model) if isinstance(model, np.ndarray) else model
    return Session(FakeCheckpoint(own), **options)  # type: ignore[arg-type]


def transformer(seed: int = 0, times: float = 1.0, **changes: Any) -> Any:
    """A tiny one of the fakes' vocabulary."""
    config = LLAMA | {"vocab_size": VOCAB} | changes
    return models.build(config, {name: mx.array(array * times) for name, array in weights(config, seed).items()})


def log_softmax(x: Any) -> np.ndarray:
    """In float64."""
    x = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore"):  # rows that nothing leads to
        logp: np.ndarray = x - np.logaddexp.reduce(x, axis=-1, keepdims=True)
    return logp


def rows(shares: Mapping[int, Mapping[int, float]]) -> np.ndarray:
    """A table by the shares of what follows a token; behind others stands nothing."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    for at, then in shares.items():
        table[at, list(then)] = np.log(list(then.values()))
    return table


def endless(seed: int, scale: float = 2.0) -> np.ndarray:
    """A random table whose texts do not end."""
    table = random_table(seed, scale)
    table[:, EOS] = -50
    return table


def few(seed: int, tokens: int = 4, scale: float = 1.5) -> np.ndarray:
    """A table in which only the first letters and the end can be drawn."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[:, 97 : 97 + tokens] = random_table(seed, scale)[:, :tokens]
    table[:, EOS] = random_table(seed + 1000, 1.0)[:, 0]
    return table


def texts(table: np.ndarray, length: int, tokens: int = 4) -> dict[tuple[int, ...], float]:
    """The log-probability of every text of at most `length` tokens: they end, or are as long as may be."""
    logp, letters, logprobs = log_softmax(table), range(97, 97 + tokens), {}
    for n in range(1, length + 1):
        for body in product(letters, repeat=n - 1):
            for last in (EOS, *letters) if n == length else (EOS,):
                ids = (*PROMPT, *body, last)
                total = float(sum(logp[ids[i], ids[i + 1]] for i in range(2, len(ids) - 1)))
                if total > -math.inf:
                    logprobs[ids[3:]] = total
    return logprobs


class Found:
    """What the events of a run say: of each branch that is left its steps, text, figures and end."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.steps: dict[int, list[TokenStep]] = {0: []}
        self.text: dict[int, str] = {0: ""}
        self.figures: dict[int, Any] = {}
        self.ends: dict[int, Done] = {}
        self.pruned: list[int] = []
        self.most = 0  # branches at a time
        for event in events:
            match event:
                case Emitted(branch, step):
                    assert branch not in self.ends and branch not in self.pruned
                    self.steps.setdefault(branch, []).append(step)
                    self.text[branch] = self.text.get(branch, "") + step.text
                case Forked(parent, child):
                    assert child not in self.steps
                    self.steps[child], self.text[child] = list(self.steps[parent]), self.text[parent]
                case Pruned(branch):
                    self.pruned.append(branch)
                    self.steps.pop(branch)
                case Rated(branch, figures):
                    self.figures[branch] = figures
                case Done(branch, _, _, text):
                    self.ends[branch] = event
                    self.text[branch] = self.text.get(branch, "") + text
            self.most = max(self.most, len(self.steps) - len(self.ends))

    @property
    def order(self) -> list[int]:
        """Those that have ended, the best first."""
        return sorted(self.ends, key=lambda b: -self.figures.get(b, {"score": 0.0})["score"])

    @property
    def tokens(self) -> dict[int, list[int]]:
        return {branch: [step.token for step in steps] for branch, steps in self.steps.items()}

    @property
    def ids(self) -> list[list[int]]:
        return [self.tokens[branch] for branch in self.order]

    @property
    def scores(self) -> list[float]:
        return [self.figures[branch]["score"] for branch in self.order]

    @property
    def reasons(self) -> dict[int, str]:
        return {branch: end.reason for branch, end in self.ends.items()}


def run(of: Any, recipe: SamplingConfig | None = None, *, prompt: list[int] = PROMPT, **more: Any) -> Found:
    """A run of a session, a model or a table to its end."""
    control = more.pop("control", None) or RunControl(recipe or SamplingConfig())
    opened = of if isinstance(of, Session) else session(of)
    return Found(opened.generate(prompt, control, **more))


def search(of: Any, strategy: Strategy, max_tokens: int, recipe: SamplingConfig | None = None, **more: Any) -> Found:
    return run(of, recipe, strategy=strategy, max_tokens=max_tokens, **more)


def at(model: Any, ids: list[int]) -> Branches:
    """A place that has read a text."""
    place = Branches(model, model.make_cache())
    for _ in place.read(ids):
        pass
    return place


def plackett_luce(p: Any, k: int) -> dict[tuple[int, ...], float]:
    """The probability of each ordered sample of k without replacement."""
    law = {}
    for order in permutations(range(len(p)), k):
        mass, chance = 1.0, 1.0
        for i in order:
            chance *= p[i] / mass
            mass -= p[i]
        law[order] = chance
    return law


def chi_square_bound(cells: int) -> float:
    """Exceeded by chance once in 10^5 (Wilson and Hilferty's approximation)."""
    df = cells - 1
    return float(df * (1 - 2 / (9 * df) + 4.265 * math.sqrt(2 / (9 * df))) ** 3)


def misfit(counts: "Counter[Any]", law: Mapping[Any, float]) -> float:
    """Chi-square of what was drawn by a law over its bound at once in 10^4; rare outcomes are one cell."""
    n, unlikely = sum(counts.values()), list[Hashable]()
    assert set(counts) <= {outcome for outcome, p in law.items() if p > 0}
    cells = []
    for outcome, p in law.items():
        if n * p < 5:
            unlikely.append(outcome)
        else:
            cells.append((n * p, counts[outcome]))
    rest = n * sum(law[outcome] for outcome in unlikely)
    cells += [(rest, sum(counts[outcome] for outcome in unlikely))] if rest >= 1 else []
    df = len(cells) - 1
    bound = df * (1 - 2 / (9 * df) + 3.719 * math.sqrt(2 / (9 * df))) ** 3
    return float(sum((count - wanted) ** 2 / wanted for wanted, count in cells) / bound)
