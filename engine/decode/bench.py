"""How fast a model runs on this machine: prefill, decode by context, batch, load and memory, alone or beside another.

Contestants take turns, one short run each, so that a stall of the machine falls on all alike; medians and quartiles
over rounds. Nothing here prints.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.base.machine import hardware
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Event
from likely.engine.decode.loop.sampler import Sampler
from likely.engine.decode.sampled.sample import Sample
from likely.engine.sampling.trace.step import SamplingConfig
from likely.metal import mx
from likely.models.native_path.native import NativeModel

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.weights.sources.checkpoint import Checkpoint

CONTEXTS = (64, 256, 1024)  # tokens before the decoded ones
PREFILL = 512
BATCH = 8
BARS = " ▏▎▍▌▋▊▉█"


class Contestant(Protocol):
    """Protocol of what can be measured: a session of ours, or mlx-lm's."""

    @property
    def name(self) -> str: ...

    def decode(self, ids: Sequence[int], tokens: int) -> tuple[float, list[float]]:
        """Seconds until the first token after `ids` is there, and of each of the further ones."""
        ...

    def batch(self, ids: Sequence[int], branches: int, tokens: int) -> float:
        """Seconds for so many answers of so many tokens to one prompt."""
        ...


@dataclass(frozen=True, slots=True)
class EngineContestant:
    """Ours: as the chat decodes, with everything that is collected for every token.

    `eager`: each step as Python builds it, where the session has it compiled.
    """

    session: "Session"
    eager: bool = False

    @property
    def name(self) -> str:
        return "eager" if self.eager else "likely"

    def _draw(self, ids: Sequence[int], branches: int, tokens: int, recipe: SamplingConfig) -> Iterator[Event]:
        """So many tokens in each of so many branches of a text that is read for it."""
        model = self.session.pool.model
        group = Branches(model, model.make_cache(), step=None if self.eager else self.session.pool.step.hidden)
        for _ in group.read(ids):
            pass
        group.select([0] * branches)
        sampler = Sampler.start(recipe, group.ids, vocabulary=self.session.tokenizer)
        return Sample().steps(group, sampler, RunControl(recipe), limit=tokens)

    def decode(self, ids: Sequence[int], tokens: int) -> tuple[float, list[float]]:
        began = time.perf_counter()
        times = [time.perf_counter() for _ in self._draw(ids, 1, tokens, SamplingConfig(greedy=True))]
        return times[0] - began, [b - a for a, b in pairwise(times)]

    def batch(self, ids: Sequence[int], branches: int, tokens: int) -> float:
        began = time.perf_counter()
        for _ in self._draw(ids, branches, tokens, SamplingConfig()):
            pass
        return time.perf_counter() - began


@dataclass(frozen=True)
class Rate:
    """A speed over repeated runs; `share` of what the memory bandwidth allows, where that bounds it."""

    name: str
    unit: str
    contestant: str
    median: float
    lower: float  # the quartile that is slower
    spread: float  # the quartiles' distance over the median
    share: float | None = None

    @staticmethod
    def of(
        name: str, unit: str, contestant: str, amount: float, seconds: Sequence[float], bound: float | None = None
    ) -> "Rate":
        """From the seconds that `amount` units took; `bound` is the largest possible speed."""
        low, median, high = (amount / float(np.quantile(seconds, q)) for q in (0.75, 0.5, 0.25))
        return Rate(
            name, unit, contestant, median, low, (high - low) / median, None if bound is None else median / bound
        )


@dataclass(frozen=True)
class Growth:
    """How a token's time grows with the context: a line through the medians, by least squares."""

    slope_us: float  # microseconds that each token of context adds
    bound_us: float  # what the memory bandwidth needs for the bytes that it adds
    r2: float  # the share of the variance that the line explains

    @staticmethod
    def of(token_ms: dict[int, float], held: dict[int, int], bandwidth: float) -> "Growth | None":
        """From milliseconds a token and bytes of cache by context, and GB/s; None for fewer than 3 contexts."""
        contexts = sorted(token_ms)
        if len(contexts) < 3:
            return None
        x, y = np.array(contexts, float), np.array([token_ms[c] for c in contexts])
        slope, start = np.polyfit(x, y, 1)
        rest = float(np.sum((y - start - slope * x) ** 2) / max(np.sum((y - y.mean()) ** 2), 1e-12))
        bytes_each = (held[contexts[-1]] - held[contexts[0]]) / (contexts[-1] - contexts[0])
        return Growth(1e3 * float(slope), bytes_each / bandwidth / 1e3, 1 - rest)


@dataclass(frozen=True)
class Bench:
    """All that was measured. Sizes in bytes."""

    model: str
    machine: dict[str, Any]
    bandwidth: float  # GB/s of a one-row product
    rates: list[Rate]
    weights_nbytes: int
    cache_nbytes: dict[int, int]  # by context
    peak_nbytes: int  # of the process
    load_s: float | None = None
    token_ms: dict[str, dict[int, float]] = field(default_factory=dict)  # contestant -> context -> median
    growth: dict[str, Growth | None] = field(default_factory=dict)  # by contestant

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def ratio(self, name: str) -> float | None:
        """Ours over the next contestant's median speed; None where nobody else was measured."""
        medians = [rate.median for rate in self.rates if rate.name == name]
        return medians[0] / medians[1] if len(medians) > 1 else None


def run(
    session: "Session",
    peer: Contestant | None = None,
    *,
    rounds: int = 5,
    tokens: int = 32,
    contexts: Sequence[int] = CONTEXTS,
    branches: int = BATCH,
    prefill: int = PREFILL,
    load_s: float | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Bench:
    """Measure `session`, and `peer` in turns with it; where its steps are compiled, also as if they were not.

    ParameterError where the model is too short for a context.
    """
    longest = max(*contexts, prefill) + tokens
    if longest > session.context:
        raise ParameterError(
            f"{session.info.name} has {session.context} positions and this needs {longest}: give shorter contexts"
        )
    if rounds < 2 or tokens < 2:
        raise ParameterError(f"at least 2 rounds of 2 tokens are needed for a spread, got {rounds} of {tokens}")
    contestants: list[Contestant] = [EngineContestant(session), *([peer] if peer is not None else [])]
    contestants += [EngineContestant(session, eager=True)] if session.pool.step.on else []
    weights = session.pool.weights_nbytes
    held = {context: cache_nbytes(session, context) for context in contexts}
    first: dict[str, list[float]] = {}
    steps_s: dict[tuple[str, int], list[float]] = {}
    batch: dict[str, list[float]] = {}
    for done, (stage, contestant, context) in enumerate(turns := list(_turns(contestants, contexts, rounds))):
        progress("measuring", done, len(turns))
        warm = done < len(contestants) * (len(contexts) + 2)  # the first round
        if stage == "decode":
            _, times = contestant.decode(_prompt(session, context), tokens)
            steps_s.setdefault((contestant.name, context), []).extend([] if warm else times)
        elif stage == "prefill":
            seconds, _ = contestant.decode(_prompt(session, prefill), 1)
            first.setdefault(contestant.name, []).extend([] if warm else [seconds])
        else:
            seconds = contestant.batch(_prompt(session, contexts[0]), branches, tokens)
            batch.setdefault(contestant.name, []).extend([] if warm else [seconds])
    peak = hardware.peak_memory()  # before the half gigabyte that the bandwidth is measured on
    bandwidth = hardware.bandwidth()
    names = [contestant.name for contestant in contestants]
    rates = [Rate.of(f"prefill {prefill}", "tokens/s", name, prefill, first[name]) for name in names]
    for context in contexts:
        bound = bandwidth * 1e9 / (weights + held[context])
        rates += [Rate.of(f"decode at {context}", "tokens/s", n, 1, steps_s[n, context], bound) for n in names]
    rates += [
        Rate.of(f"{branches} answers at {contexts[0]}", "tokens/s", n, branches * tokens, batch[n]) for n in names
    ]
    token_ms = {n: {c: 1e3 * float(np.median(steps_s[n, c])) for c in contexts} for n in names}
    growth = {name: Growth.of(by_context, held, bandwidth) for name, by_context in token_ms.items()}
    facts = asdict(hardware.inspect())
    return Bench(session.info.name, facts, bandwidth, rates, weights, held, peak, load_s, token_ms, growth)


def plot(token_ms: dict[int, float], width: int = 40) -> list[str]:
    """Bars of milliseconds a token against context: a straight line is what bandwidth gives."""
    most = max(token_ms.values())
    lines = []
    for context, ms in token_ms.items():
        eighths = round(ms / most * width * 8)
        bar = "█" * (eighths // 8) + BARS[eighths % 8].strip()
        lines.append(f"{context:>7} {bar:<{width}} {ms:8.2f} ms")
    return lines


def _turns(
    contestants: Sequence[Contestant], contexts: Sequence[int], rounds: int
) -> Iterator[tuple[str, Contestant, int]]:
    """Every measurement of every round, the contestants next to each other; one round more, which warms up."""
    for _ in range(rounds + 1):
        for stage, context in [("prefill", 0), *(("decode", c) for c in contexts), ("batch", 0)]:
            for contestant in contestants:
                yield stage, contestant, context


def _prompt(session: "Session", length: int) -> list[int]:
    """Tokens that no cache has seen together; what they are does not matter for the speed."""
    size = min(session.tokenizer.vocab_size, int(session.model.config.vocab_size))
    return [int(token) for token in np.random.default_rng(length).integers(0, size, length)]


def cache_nbytes(session: "Session", context: int) -> int:
    """Bytes that a step reads of the cache after `context` tokens: rows in use, not room set aside."""
    config = session.model.config
    rows = sum(min(context, window) if window else context for window in config.windows)
    drawn = session.pool.model
    size = drawn.row_bytes if isinstance(drawn, NativeModel) else drawn.dtype.size
    return int(2 * rows * config.kv_heads * config.head_size * size)


def timed(load: Callable[[], "Checkpoint"]) -> tuple["Checkpoint", float]:
    """A checkpoint, and the seconds until all of its weights are in memory."""
    began = time.perf_counter()
    checkpoint = load()
    mx.eval(list(checkpoint.model.arrays.values()))
    return checkpoint, time.perf_counter() - began
