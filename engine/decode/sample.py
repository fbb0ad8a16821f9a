"""`Sample`: ancestral sampling, one forward pass a token. With a greedy recipe, the most likely token instead.

The next step is queued before the current one is looked at, so that collecting what the model said happens in the
shadow of the computation. On a GPU the transforms and the draw are queued too, and nothing waits; on a CPU they run in
numpy on a view of the logits, ten times faster than there in mlx, after which only the token has to be fed.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.decode.control import Control
from engine.decode.cursor import Cursor
from engine.observe import observe
from engine.trace import Recipe, Step
from engine.transforms import Array, Namespace, States, Vocabulary, advance, change, draw, run, start, touched
from metal import mx

RECENT = 64  # ids kept in every snapshot, so that a penalty switched on later is replayed exactly


def namespace() -> Namespace:
    """Where transforms run: numpy on a CPU, mlx on a GPU."""
    return np if mx.default_device() == mx.cpu else mx


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token on its way: what it was drawn from, evaluated or not."""

    token: Any  # int, or a scalar array in flight
    logits: Array  # [V] raw
    after: Array  # [V]
    cut: Array  # int8 [V]
    recipe: Recipe
    states: States  # before the token
    origin: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Draw each token from the model's distribution after the transforms of the control's recipe."""

    def steps(
        self, cursor: Cursor, control: Control, *, seed: int, limit: int, vocabulary: Vocabulary | None = None
    ) -> Generator[Step, None, None]:
        """At most `limit` steps, without their text; closing the iterator leaves the cursor at the last one given."""
        xp = namespace()
        recipe = control.recipe
        states = start(recipe.transforms, vocabulary, cursor.ids, xp)
        logits = cursor.logits()
        drawn = choose(logits, control.take_forced(), recipe, states, (seed, len(cursor.ids)), xp)
        try:
            for n in range(1, limit + 1):
                position, following = len(cursor.ids), None
                if n < limit:
                    cursor.feed(mx.array(drawn.token).reshape(1))
                    logits = cursor.logits()
                    ahead = xp is mx and control.recipe == recipe and not any(t.sync for t in recipe.transforms)
                    if ahead:
                        states = advance(recipe.transforms, drawn.states, drawn.token, drawn.after, xp)
                        following = choose(logits, control.take_forced(), recipe, states, (seed, position + 1), xp)
                        mx.async_eval(following.token, following.logits, following.after, following.cut)
                    else:
                        mx.async_eval(logits)
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
                    following = choose(logits, control.take_forced(), recipe, states, (seed, position + 1), xp)
                drawn = following
        finally:
            cursor.rewind(len(cursor.ids))


def choose(
    logits: mx.array, forced: int | None, recipe: Recipe, states: States, key: tuple[int, int], xp: Namespace
) -> Drawn:
    """A token drawn from raw logits [V] by a recipe, or the one that is forced."""
    row = np.asarray(logits) if xp is np else logits
    after, cut = run(recipe.transforms, row, states, key, xp, greedy=recipe.greedy)
    if forced is not None:
        token, origin = forced, "forced"
    else:
        token, origin = xp.argmax(after) if recipe.greedy else draw(after, key, xp), "drawn"
    return Drawn(int(token) if xp is np else mx.array(token), row, after, cut, recipe, states, origin)


def look(drawn: Drawn, position: int, recent: Sequence[int]) -> Step:
    """The numbers of a drawn token; waits for it."""
    return observe(
        np.asarray(drawn.logits),
        int(drawn.token),
        after=np.asarray(drawn.after),
        cut=np.asarray(drawn.cut),
        recipe=drawn.recipe,
        touched=np.append(touched(drawn.recipe.transforms, drawn.states), recent),
        position=position,
        origin=drawn.origin,
    )
