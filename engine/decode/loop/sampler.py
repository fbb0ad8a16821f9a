"""`Sampler`: the recipe by which tokens are drawn now, and what its transforms remember of each branch.

With Metal a token is drawn in one pass over the logits (`engine.decode.kernel_draw`). What that cannot do the
transforms do: queued on a GPU, so that nothing waits, and on a CPU in numpy on a view of the logits, ten times faster
than there in mlx. Knows nothing of models and of where the branches stand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.numerics import require_finite
from likely.engine.decode.loop.control import RunControl
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.row import RowStatistics, kept_of, measured, measured_rows, scanned
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import (
    Array,
    Key,
    Namespace,
    States,
    Vocabulary,
    advance,
    change,
    draw,
    edited_ids,
    run,
    start,
)
from likely.engine.sampling.transforms.pipeline import draw_rows, hard
from likely.metal import kernel as kernels
from likely.metal import mx
from likely.metal.packed.statistics import ScannedRow

if TYPE_CHECKING:
    from likely.engine.decode.loop import kernel_sampler
    from likely.engine.decode.loop.branches import Branches

RECENT = 64  # ids kept in every snapshot, so that a penalty switched on later is replayed exactly


def namespace() -> Namespace:
    """Where transforms run: numpy on a CPU, mlx on a GPU."""
    return np if mx.default_device() == mx.cpu else mx


def _on_host(logits: Array) -> np.ndarray:
    """Logits as float32 where numpy reads them: a view, where that is what they are."""
    return np.asarray(logits.astype(mx.float32) if isinstance(logits, mx.array) else logits)


@dataclass(frozen=True, slots=True)
class Draw:
    """A token on its way: what it was drawn from, evaluated or not."""

    token: Any  # int, or a scalar array in flight
    logits: Array  # [V] raw; float32 where transforms have read them
    after: Array | None  # [V]
    removed_by: Array | None  # int8 [V]
    recipe: SamplingConfig
    states: States  # before the token
    key: Key
    origin: str
    kernel: "kernel_sampler.Pass | None" = None  # what drew it, in place of `after` and `removed_by`
    seen: ScannedRow | None = None  # the logits, where they were scanned
    left: ScannedRow | None = None  # `after`, where that was
    own: Array | None = None  # [V] the model's own logits, where `logits` are a combination with others

    @property
    def arrays(self) -> list[Array]:
        """Arrays still to be evaluated."""
        own = [] if self.own is None else [self.own]
        if self.kernel is None:
            return [self.token, self.logits, self.after, self.removed_by, *own]
        looked = self.kernel.observed
        return [self.token, *self.kernel.arrays, *(looked or [self.logits]), *own]

    @property
    def known(self) -> bool:
        """Whether nothing is waited for."""
        return self.kernel is None and not isinstance(self.token, mx.array)

    @property
    def spilled(self) -> bool:
        """Whether the kernel could not draw it; waits for the token."""
        return self.kernel is not None and int(self.token) < 0

    @property
    def edited_ids(self) -> list[int]:
        """The ids whose logits the transforms changed one by one."""
        return edited_ids(self.recipe.transforms, self.states).tolist() if self.recipe.transforms else []

    def step(self, ids: Sequence[int]) -> TokenStep:
        """The numbers of the token that follows `ids`, without its text; waits for it."""
        return Sampler.observe([self], [ids])[0]

    def observed(self, row: RowStatistics, position: int) -> TokenStep:
        """The numbers of the token, by the statistics of its logits."""
        token, more = int(self.token), dict[str, Any]()
        if self.kernel is not None:
            more = {"kernel": self.kernel.stats(self.recipe, row, lambda: _on_host(self.logits))}
        elif self.after is not self.logits:  # something was transformed
            more = {"after": np.asarray(self.after), "left": self.left, "removed_by": np.asarray(self.removed_by)}
        step = observe(row, token, **more, recipe=self.recipe, position=position, origin=self.origin)
        if self.own is not None:
            own = measured(_on_host(self.own), token)
            step = replace(
                step,
                logprob=own.logit - own.snapshot.lse,
                entropy=own.entropy,
                rank=own.rank,
                logprob_combined=step.logprob,
            )
        if "removed_by" not in more or not (bound := hard(self.recipe.transforms)):
            return step
        gone = np.logical_or.reduce([more["removed_by"] == place for place in bound])  # which stand before all others
        allowed = kept_of(_on_host(self.logits)[~gone])
        return replace(step, logprob_allowed=min(allowed[1] - row.snapshot.lse, 0.0))


@dataclass(frozen=True, slots=True)
class Sampler:
    """How the next token of each branch is drawn: every change gives another sampler, so that one can go back.

    Branch number b draws the token at position i with the key (seed + b, i).
    """

    recipe: SamplingConfig
    seed: int
    states: tuple[States, ...]  # of each branch
    vocabulary: Vocabulary | None
    xp: Namespace

    @classmethod
    def start(
        cls,
        recipe: SamplingConfig,
        texts: Sequence[Sequence[int]],
        *,
        seed: int = 0,
        vocabulary: Vocabulary | None = None,
        xp: Namespace | None = None,
    ) -> "Sampler":
        """A sampler for branches that stand behind `texts`; `xp` is where transforms run, `namespace()` by default."""
        xp = namespace() if xp is None else xp
        states = tuple(start(recipe.transforms, vocabulary, text, xp) for text in texts)
        return cls(recipe, seed, states, vocabulary, xp)

    def on_host(self, texts: Sequence[Sequence[int]]) -> "Sampler":
        """One that draws in numpy, for who has to see every token."""
        if self.xp is np:
            return self
        return Sampler.start(self.recipe, texts, seed=self.seed, vocabulary=self.vocabulary, xp=np)

    def draw(
        self,
        branches: "Branches",
        forced: int | None = None,
        *,
        kernel: bool = True,
        flying: Sequence[Array] = (),
    ) -> list[Draw]:
        """A token for each branch, or the one that is forced on all, not yet evaluated; see `Draw.spilled`.

        `kernel` says whether the vocabulary kernel may be asked. `flying` tokens are those that the branches were fed
        and cannot name yet.
        """
        draws = self._drawn(branches, forced, kernel=kernel, flying=flying)
        own = branches.own_logits()
        return draws if own is None else [replace(d, own=row) for d, row in zip(draws, own, strict=True)]

    def _drawn(self, branches: "Branches", forced: int | None, *, kernel: bool, flying: Sequence[Array]) -> list[Draw]:
        keys = [(self.seed + number, branches.length) for number in branches.numbers]
        asked = forced is None and kernel and kernels.available()
        if asked and (drawn := self._by_kernel(branches, branches.logits(), keys, flying)):
            return drawn
        if self.xp is np:
            return self._draw_on_host(_on_host(branches.raw_logits()), keys, forced, self.states)
        rows = branches.logits().astype(mx.float32)
        return [self._choose(rows[i], key, forced, self.states[i]) for i, key in enumerate(keys)]

    def _by_kernel(
        self, branches: "Branches", logits: Array, keys: Sequence[Key], flying: Sequence[Array]
    ) -> list[Draw] | None:
        from likely.engine.decode.loop import kernel_row, kernel_sampler

        how = kernel_sampler.plan(self.recipe, logits.shape[-1], logits.dtype)
        if how is None:
            return None
        apart = None
        if branches.length == len(branches.ids[0]) + bool(flying):  # else who looks has to know more than is known
            apart = partial(kernel_row.apart, flying=flying, texts=branches.ids, recent=RECENT)
        return [
            Draw(by.token, logits[by.row], None, None, self.recipe, states, key, "drawn", by)
            for by, states, key in zip(kernel_sampler.draw(logits, how, keys, apart), self.states, keys, strict=True)
        ]

    @staticmethod
    def observe(draws: Sequence[Draw], texts: Sequence[Sequence[int]]) -> list[TokenStep]:
        """The numbers of the tokens that follow the texts, without theirs; waits for them. A host looks at all their
        logits in one call."""
        rows = [None if d.kernel is None else d.kernel.statistics(d.logits.shape[-1], int(d.token)) for d in draws]
        left = [i for i, row in enumerate(rows) if row is None]
        if left:
            given = [draws[i].seen or _on_host(draws[i].logits) for i in left]
            known = [[*draws[i].edited_ids, *texts[i][-RECENT:]] for i in left]
            found = measured_rows(given, [int(draws[i].token) for i in left], known)
            for i, row in zip(left, found, strict=True):
                rows[i] = row
        return [d.observed(row, len(ids)) for d, row, ids in zip(draws, rows, texts, strict=True) if row is not None]

    def redraw(self, draws: Sequence[Draw]) -> list[Draw]:
        """The draws [B], with another by the transforms in place of each that spilled: the kernel could not draw it."""
        return [replace(self._choose(d.logits, d.key, None, d.states), own=d.own) if d.spilled else d for d in draws]

    def queue(self, draws: Sequence[Draw]) -> None:
        """Let the device begin with what these wait for."""
        mx.async_eval([array for d in draws for array in d.arrays])

    def choose(self, logits: Array, position: int, forced: int | None = None) -> Draw:
        """A token drawn from raw logits [V] by a sampler of one branch, or the one that is forced."""
        return self._choose(logits, (self.seed, position), forced, self.states[0])

    def advance(self, draws: Sequence[Draw]) -> "Sampler":
        """The sampler of the tokens behind these, which are known."""
        return self._advanced(draws, [int(d.token) for d in draws])

    def ahead(self, draws: Sequence[Draw], control: RunControl) -> "Sampler | None":
        """The sampler of the tokens behind these, which are in flight; None where that has to wait for them."""
        flying = all(isinstance(d.token, mx.array) for d in draws) and control.drawn_by == self.recipe
        if not flying or any(t.sync for t in self.recipe.transforms):
            return None
        return self._advanced(draws, [d.token for d in draws])

    def follow(self, control: RunControl, texts: Sequence[Sequence[int]]) -> "Sampler":
        """The sampler by the control's recipe, for branches that stand behind `texts`."""
        latest = control.drawn_by
        if latest.transforms == self.recipe.transforms:
            return self if latest is self.recipe else replace(self, recipe=latest)
        states = tuple(
            change(latest.transforms, self.recipe.transforms, state, self.vocabulary, text, self.xp)
            for state, text in zip(self.states, texts, strict=True)
        )
        return replace(self, recipe=latest, states=states)

    def select(self, rows: Sequence[int]) -> "Sampler":
        """The sampler of these branches, as `Branches.select` keeps them."""
        return replace(self, states=tuple(self.states[row] for row in rows))

    def _advanced(self, draws: Sequence[Draw], tokens: Sequence[Any]) -> "Sampler":
        transforms = self.recipe.transforms
        if not transforms and len(draws) == len(self.states):
            return self
        states = (advance(transforms, d.states, t, d.after, self.xp) for d, t in zip(draws, tokens, strict=True))
        return replace(self, states=tuple(states))

    def _choose(self, logits: Array, key: Key, forced: int | None, states: States) -> Draw:
        if self.xp is np:
            return self._draw_on_host(_on_host(logits)[None], [key], forced, [states])[0]
        row, recipe = logits.astype(mx.float32), self.recipe
        after, removed_by = run(recipe.transforms, row, states, key, mx, greedy=recipe.greedy)
        token: Any = forced
        if forced is None:
            token = mx.argmax(after) if recipe.greedy else draw(after, key, mx)
        origin = "drawn" if forced is None else "forced"
        return Draw(mx.array(token), row, after, removed_by, recipe, states, key, origin)

    def _draw_on_host(
        self, logits: np.ndarray, keys: Sequence[Key], forced: int | None, states: Sequence[States]
    ) -> list[Draw]:
        """A token of each row of float32 logits [B, V], by numpy and the library that scans logits; NotFinite."""
        recipe, origin, rows = self.recipe, "drawn" if forced is None else "forced", list(logits)
        seen = scanned(logits)
        if seen is None:
            for row in rows:
                require_finite(row)
        if not recipe.transforms and not recipe.greedy:
            made: list[tuple[np.ndarray, np.ndarray | None]] = [(row, None) for row in rows]
        else:
            made = [
                run(recipe.transforms, row, state, key, np, greedy=recipe.greedy)
                for row, key, state in zip(rows, keys, states, strict=True)
            ]
        left, tokens = None, [forced or 0] * len(rows)
        if forced is None and recipe.greedy:
            tokens = [int(np.argmax(after)) for after, _ in made]
        elif forced is None and seen is not None:
            left = [one for after, _ in made for one in scanned(after[None]) or ()] if recipe.transforms else seen
            tokens = draw_rows(left, keys)
        elif forced is None:
            tokens = [int(draw(after, key, np)) for (after, _), key in zip(made, keys, strict=True)]
        return [
            Draw(
                tokens[i],
                row,
                *made[i],
                recipe,
                states[i],
                keys[i],
                origin,
                seen=None if seen is None else seen[i],
                left=None if left is None else left[i],
            )
            for i, row in enumerate(rows)
        ]
