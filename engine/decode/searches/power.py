"""Power sampling: texts from p ** alpha over whole texts, by Metropolis-Hastings (Karan and Du, arXiv:2510.14901).

A low temperature sharpens every token by itself; this sharpens the text: a token is taken for what can follow it. A
proposal keeps a beginning, whose cache is forked, and draws the rest anew from the sharpened tokens. Knows nothing of
caches; no mlx while it is loaded.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from likely.engine.base.arrays import logprobs
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Rated, Waiting
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.decode.searches.exact import go
from likely.engine.decode.searches.search import NextTokens, SearchNode, searching
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Power(Strategy):
    """Draw a text with a probability that goes like p ** `alpha`, p being what the transforms leave.

    It grows by `block` tokens at a time; each time, `proposals` are made to draw it anew from a place in it on.
    """

    NAME: ClassVar[str] = "power"
    TITLE: ClassVar[str] = "power sampling"
    ABOUT: ClassVar[str] = "sharpens whole texts, not single tokens"
    SEARCHES: ClassVar[bool] = True
    SPANS: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0, 8), "proposals": (0, 40)}

    alpha: float = 4.0
    proposals: int = 10
    block: int = 32

    def __post_init__(self) -> None:
        within("alpha", self.alpha, "(0, 100]")
        within("the number of proposals", self.proposals, "[0, 100000]", whole=True)
        within("the block", self.block, "[1, 1000000]", whole=True)

    @property
    def words(self) -> str:
        return f"p to the power of {self.alpha:g}"

    def check(self, n: int) -> None:
        if n > 1:
            raise ParameterError(f"{self.NAME} walks from text to text: run it {n} times, with other seeds")

    def best(self, n: int) -> "Power":
        self.check(n)
        return self

    def width(self, n: int) -> int:
        return 2 * n

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        """The tokens come at the end. ParameterError for a model whose cache cannot go back."""
        sampler = searching(sampler.on_host(branches.ids))
        (number,) = branches.numbers
        while limit and (forced := control.take_forced()) is not None:
            draw, limit = NextTokens.at(branches, sampler).draw(SearchNode(0.0, 0.0, 0, forced), "forced"), limit - 1
            step, sampler = draw.step(branches.ids[0]), sampler.advance([draw])
            branches.feed([forced])
            branches.settle([forced])
            if (yield Emitted(number, step)):
                return
        random = np.random.Generator(np.random.Philox(key=[sampler.seed, number]))
        prompt = branches.fork()
        prompt.cache.freeze()  # the prompt is never written again: proposals share it
        text = Walk(prompt, prompt.length, self.alpha, [sampler])
        tried = accepted = drawn = 0
        totals: list[float] = []
        figures: dict[str, float] = {"accepted": 0.0, "effective": 1.0, "drawn": 0}
        most = 0
        while most < limit:
            most = limit if text.over else min(most + self.block, limit)
            drawn += yield from text.draw(random, most)
            for _ in range(self.proposals):
                if control.cancelled:
                    break
                other = text.cut(int(random.integers(len(text.tokens))))
                drawn += yield from other.draw(random, most)
                tried += 1
                if math.log(1.0 - random.random()) < other.merit - text.merit:
                    text, accepted = other, accepted + 1
                totals.append(math.fsum(text.p))
                rate, ess = accepted / tried, effective(totals)
                figures = {"score": totals[-1], "accepted": rate, "effective": ess, "drawn": drawn}
                yield Rated(number, figures)
            if control.cancelled:
                break
        yield Rated(number, figures | {"score": math.fsum(text.p)})
        for at, (token, before) in enumerate(zip(text.tokens, text.samplers, strict=False), text.start):
            logits = text.branches.logits_at(at - 1, at)[:, 0]  # of what was read, which is not read again
            own = text.branches.own_logits_at(at - 1, at)
            own = None if own is None else own[:, 0]
            draw = NextTokens.of(logits, before, [number], at, own=own).draw(SearchNode(0.0, 0.0, 0, token))
            if (yield Emitted(number, draw.step(text.branches.ids[0][:at]))):
                return


@dataclass(slots=True)
class Walk:
    """A text, where it stands: its tokens, their log-probabilities under p and under the sharpened tokens q that they
    were drawn from, and the sampler before each and behind the last."""

    branches: "Branches"
    start: int
    alpha: float
    samplers: "list[Sampler]"
    tokens: list[int] = field(default_factory=list)
    p: list[float] = field(default_factory=list)
    q: list[float] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether it has ended by itself."""
        vocabulary = self.samplers[0].vocabulary
        return bool(self.tokens) and vocabulary is not None and self.tokens[-1] in vocabulary.eos

    @property
    def merit(self) -> float:
        """The merit that acceptance compares, in logarithms: p ** alpha, over q, and over the number of places to
        begin anew, of which a longer text has more. What two texts have in common cancels, places not."""
        return self.alpha * math.fsum(self.p) - math.fsum(self.q) - math.log(len(self.tokens))

    def draw(self, random: "np.random.Generator", most: int) -> Generator[Waiting, None, int]:
        """Go on from q until it ends or has `most` tokens, a token a turn; how many were drawn."""
        had = len(self.tokens)
        while not self.over and len(self.tokens) < most:
            go(self.branches, self.start, self.tokens)
            next_tokens = NextTokens.at(self.branches, self.samplers[-1])
            row = logprobs(next_tokens.rows(0, 1)[0].astype(np.float64), np)
            sharp = logprobs(self.alpha * row, np)
            mass = np.cumsum(np.exp(sharp))
            token = int(np.searchsorted(mass, random.random() * mass[-1], side="right"))
            self.tokens.append(token)
            self.p.append(float(row[token]))
            self.q.append(float(sharp[token]))
            self.samplers.append(next_tokens.sampler.advance([next_tokens.draw(SearchNode(0.0, 0.0, 0, token))]))
            yield Waiting()
        return len(self.tokens) - had

    def cut(self, length: int) -> "Walk":
        """The first `length` tokens of the walk, on a fork."""
        beginning = self.tokens[:length], self.p[:length], self.q[:length]
        return Walk(self.branches.fork(), self.start, self.alpha, self.samplers[: length + 1], *beginning)


def effective(values: Sequence[float]) -> float:
    """How many independent draws a chain of values is worth: n over the sum of its autocorrelations, as far as pairs of
    them are positive (Geyer 1992). A chain that stands still is worth one."""
    x = np.array(values) - np.mean(values)
    n = len(x)
    variance = float(x @ x) / n
    if n < 2 or variance < 1e-12:
        return 1.0
    rho = [float(x[: n - k] @ x[k:]) / n / variance for k in range(n)]
    total = -1.0
    for k in range(0, n - 1, 2):
        if (pair := rho[k] + rho[k + 1]) <= 0:
            break
        total += 2 * pair
    return n / max(total, 1.0)
