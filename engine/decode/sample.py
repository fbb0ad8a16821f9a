"""`Sample`: ancestral sampling, one forward pass a token. With a greedy recipe, the most likely token instead.

The next step is queued before the current one is looked at, so that collecting what the model said happens in the
shadow of the computation. With Metal a token is drawn in one pass over the logits (`engine.decode.kernel_draw`); what
that cannot do the transforms do, queued too on a GPU, so that nothing waits, and on a CPU in numpy on a view of the
logits, ten times faster than there in mlx, after which only the token has to be fed.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.decode import kernel_draw
from engine.decode.control import RunControl
from engine.decode.cursor import Cursor
from engine.trace.observe import observe
from engine.trace.trace import Recipe, TokenStep
from engine.transforms import Array, Key, Namespace, States, Vocabulary, advance, change, draw, edited_ids, run, start
from metal import mx
from metal.vocab import DrawPlan

RECENT = 64  # ids kept in every snapshot, so that a penalty switched on later is replayed exactly
WARY = 8  # tokens drawn the longer way after one that the kernel could not draw


def namespace() -> Namespace:
    """Where transforms run: numpy on a CPU, mlx on a GPU."""
    return np if mx.default_device() == mx.cpu else mx


@dataclass(frozen=True, slots=True)
class Draw:
    """A token on its way: what it was drawn from, evaluated or not."""

    token: Any  # int, or a scalar array in flight
    logits: Array  # [V] raw, float32
    after: Array | None  # [V]
    removed_by: Array | None  # int8 [V]
    recipe: Recipe
    states: States  # before the token
    origin: str
    kernel: kernel_draw.Pass | None = None  # what drew it, in place of `after` and `removed_by`

    @property
    def arrays(self) -> list[Array]:
        """What is still to be evaluated."""
        of = [self.after, self.removed_by] if self.kernel is None else self.kernel.arrays
        return [self.token, self.logits, *of]

    @property
    def spilled(self) -> bool:
        """Whether the kernel could not draw it; waits for the token."""
        return self.kernel is not None and int(self.token) < 0


@dataclass(frozen=True, slots=True)
class Sample:
    """Draw each token from the model's distribution after the transforms of the control's recipe."""

    def steps(
        self, cursor: Cursor, control: RunControl, *, seed: int, limit: int, vocabulary: Vocabulary | None = None
    ) -> Generator[TokenStep, None, None]:
        """At most `limit` steps, without their text; closing the iterator leaves the cursor at the last one given."""
        xp = namespace()
        recipe, wary = control.recipe, 0
        states = start(recipe.transforms, vocabulary, cursor.ids, xp)
        logits = cursor.logits()

        def take(position: int) -> Draw:
            """The token at `position`, from the logits."""
            key, forced = (seed, position), control.take_forced()
            if forced is None and not wary and (how := kernel_draw.plan(recipe, logits.shape[-1])) is not None:
                return by_kernel(logits[None], how, recipe, [states], [key])[0]
            return choose(logits, forced, recipe, states, key, xp)

        def queue(drawn: Draw, position: int) -> Draw | None:
            """Feed the token, and draw the one after it where that needs nothing of the host."""
            nonlocal logits, states
            cursor.feed(mx.array(drawn.token).reshape(1))
            logits = cursor.logits()
            ahead = isinstance(drawn.token, mx.array) and control.recipe == recipe
            if not ahead or any(t.sync for t in recipe.transforms):
                mx.async_eval(logits)
                return None
            states = advance(recipe.transforms, drawn.states, drawn.token, drawn.after, xp)
            following = take(position + 1)
            mx.async_eval(*following.arrays)
            return following

        drawn = take(len(cursor.ids))
        try:
            for n in range(1, limit + 1):
                position = len(cursor.ids)
                following = queue(drawn, position) if n < limit else None
                wary = max(0, wary - 1)
                if drawn.spilled:
                    if following is not None and following.origin == "forced":
                        control.put_back(int(following.token))
                    cursor.rewind(position)
                    wary = WARY
                    drawn = choose(drawn.logits, None, recipe, drawn.states, (seed, position), xp)
                    following = queue(drawn, position) if n < limit else None
                step = look(drawn, position, cursor.ids[-RECENT:])
                if n < limit:
                    cursor.settle(step.token)
                yield step
                if n == limit:
                    return
                if following is None:
                    states = advance(recipe.transforms, drawn.states, step.token, drawn.after, xp)
                    latest = control.recipe
                    if latest.transforms != recipe.transforms:
                        states = change(latest.transforms, recipe.transforms, states, vocabulary, cursor.ids, xp)
                    recipe = latest
                    following = take(position + 1)
                drawn = following
        finally:
            cursor.rewind(len(cursor.ids))


def by_kernel(
    logits: mx.array, how: DrawPlan, recipe: Recipe, states: Sequence[States], keys: Sequence[Key]
) -> list[Draw]:
    """Tokens drawn from raw logits [N, V] in one pass, not yet evaluated; see `DrawPlan.spilled`."""
    raw = logits.astype(mx.float32)
    return [
        Draw(by.token, raw[by.row], None, None, recipe, state, "drawn", by)
        for by, state in zip(kernel_draw.draw(logits, how, keys), states, strict=True)
    ]


def choose(logits: Array, forced: int | None, recipe: Recipe, states: States, key: Key, xp: Namespace) -> Draw:
    """A token drawn from raw logits [V] by a recipe, or the one that is forced."""
    row = logits.astype(mx.float32) if isinstance(logits, mx.array) else logits
    row = np.asarray(row) if xp is np else row
    after, removed_by = run(recipe.transforms, row, states, key, xp, greedy=recipe.greedy)
    if forced is not None:
        token, origin = forced, "forced"
    else:
        token, origin = xp.argmax(after) if recipe.greedy else draw(after, key, xp), "drawn"
    return Draw(int(token) if xp is np else mx.array(token), row, after, removed_by, recipe, states, origin)


def look(drawn: Draw, position: int, recent: Sequence[int]) -> TokenStep:
    """The numbers of a drawn token; waits for it."""
    if drawn.kernel is None:
        said: dict[str, Any] = {"after": np.asarray(drawn.after), "removed_by": np.asarray(drawn.removed_by)}
    else:
        said = {"found": drawn.kernel.found(drawn.recipe)}
    return observe(
        np.asarray(drawn.logits),
        int(drawn.token),
        **said,
        recipe=drawn.recipe,
        edited_ids=np.append(edited_ids(drawn.recipe.transforms, drawn.states), recent),
        position=position,
        origin=drawn.origin,
    )
