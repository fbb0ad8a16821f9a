"""Entropy branching: a sample that parts in two where the model does not know how to go on, for a vote of the ends.

What the paths begin with alike is drawn once, and paths part where the distribution is wide, not where chance would
have it; so they are no independent samples, and a share of them is no estimate of a probability. An experiment: nobody
has shown a gain. Knows nothing of caches; no mlx while it is loaded.
"""

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.loop.strategy import Steps
from likely.engine.decode.sampled.several import Vote
from likely.engine.sampling.transforms import draw, run
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Draw, Sampler
    from likely.engine.sampling.trace.step import TokenStep


@dataclass(frozen=True, slots=True)
class EntropyBranching(Vote):
    """Draw at most `paths` answers that part where the raw distribution has an entropy of `bits` or more.

    There the token is drawn, and for the new branch another one from what is left: two draws without replacement. Where
    there is room for fewer, the widest distributions of a step come first.
    """

    NAME: ClassVar[str] = "entropy"
    TITLE: ClassVar[str] = "branches at high entropy"
    ABOUT: ClassVar[str] = "one answer that parts where the model is unsure, and a vote"

    paths: int = 8
    bits: float = 3.0

    def __post_init__(self) -> None:
        Vote.__post_init__(self)
        within("the entropy", self.bits, "[0, 64]")

    @classmethod
    def settings(cls) -> "list[Field[Any]]":
        paths, rule, bits = Vote.settings.__func__(cls)  # type: ignore[attr-defined]
        return [paths, bits, rule]

    @property
    def words(self) -> str:
        return f"up to {self.paths} branches at {self.bits:g} bits"

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        sampler, begun = sampler.on_host(branches.ids), 1  # paths that there have been
        for depth in range(1, limit + 1):
            forced = control.take_forced()
            draws = sampler.draw(branches, forced, kernel=False)
            steps = sampler.observe(draws, branches.ids)
            wide = self._wide(steps) if forced is None and begun < self.paths else []
            rests = {row: rest for row in wide if (rest := _rest(draws[row])) is not None}
            wide = list(rests)[: self.paths - begun]
            begun += len(wide)
            yield from branches.part([*range(len(draws)), *wide])
            for row, number in zip(wide, branches.numbers[len(steps) :], strict=True):
                one, key = draws[row], (sampler.seed + number, branches.length)
                token = np.argmax(rests[row]) if one.recipe.greedy else draw(rests[row], key, np)
                draws.append(replace(one, token=int(token), key=key))
                steps.append(draws[-1].step(branches.ids[row]))
            if depth < limit:
                yield from branches.descend([step.token for step in steps])
                branches.settle([step.token for step in steps])
            kept = []
            for row, (number, step) in enumerate(zip(branches.numbers, steps, strict=True)):
                if not (yield Emitted(number, step)):
                    kept.append(row)
            if depth == limit or not kept:
                return
            branches.select(kept)
            sampler = sampler.advance(draws).select(kept).follow(control, branches.ids)

    def _wide(self, steps: "Sequence[TokenStep]") -> list[int]:
        """The rows that come into question, the widest first."""
        entropies = {row: step.entropy or 0.0 for row, step in enumerate(steps)}
        return sorted(
            (r for r, nats in entropies.items() if nats >= self.bits * math.log(2)), key=lambda r: -entropies[r]
        )


def _rest(one: "Draw") -> np.ndarray | None:
    """Logits [V] that a draw was one of, without its token; None where there was no other."""
    rest = np.array(one.after)
    if one.recipe.greedy:  # which has left the token alone
        rest, _ = run(one.recipe.transforms, np.asarray(one.logits), one.states, one.key, np)
        rest = np.array(rest)
    rest[one.token] = -np.inf
    return rest if np.isfinite(rest).any() else None
