"""`BatchCursor`: several continuations of one text, read side by side; what they share is held once.

The text that all of them begin with is a frozen prefix of the cache, so N branches cost N times what they drew and not
N times the prompt. A search walks with the same object: `feed` goes one token down in every branch, `select` keeps,
copies or drops branches. `draws` samples all of them. Nothing here knows of text or stopping.
"""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from engine.decode import kernel_draw
from engine.decode.control import RunControl
from engine.decode.sample import RECENT, Draw, by_kernel, choose, look, namespace
from engine.trace.trace import Recipe, TokenStep
from engine.transforms import Key, Namespace, States, Vocabulary, advance, change, start
from metal import mx

if TYPE_CHECKING:
    from engine.decode.cursor import Cursor


class BatchCursor:
    """B places in the tree below one `Cursor`, all at the same depth.

    `ids[b]` are the tokens of branch b, the shared text included. Like a cursor's they may be one token behind what was
    fed, until `settle` names it.
    """

    def __init__(self, root: "Cursor", branches: int) -> None:
        self.model, self.step = root.model, root.step
        self.cache = root.cache.fork()
        self.cache.freeze()
        self.ids = [list(root.ids) for _ in range(branches)]
        self._hidden = mx.repeat(root.hidden(root.length - 1, root.length), branches, axis=0)  # [B, C]

    def logits(self) -> mx.array:
        """The raw logits [B, V] of each branch's next token, as the model computes them, not yet evaluated."""
        return self.model.head(self._hidden)

    def feed(self, tokens: mx.array) -> None:
        """Go to the children `tokens` [B]; nothing is waited for."""
        self._hidden = self.step(tokens[:, None], self.cache)[:, 0]

    def settle(self, tokens: Sequence[int]) -> None:
        """Name the tokens that `feed` took."""
        for ids, token in zip(self.ids, tokens, strict=True):
            ids.append(token)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these branches, in this order; one that is named twice goes on as two."""
        if list(rows) == list(range(len(self.ids))):
            return
        self.cache.select(rows)
        self.ids = [list(self.ids[row]) for row in rows]
        self._hidden = self._hidden[mx.array(list(rows), dtype=mx.int32)]


def draws(
    cursor: BatchCursor,
    control: RunControl,
    *,
    seeds: Sequence[int],
    limit: int,
    vocabulary: Vocabulary | None = None,
) -> Generator[list[TokenStep], Sequence[int] | None, None]:
    """The next step of every branch, at most `limit` times; `send` the branches that go on, else all do.

    Branch b is drawn as `Sample` draws with seeds[b]. Tokens that the control forces are forced on all.
    """
    xp, seeds = namespace(), list(seeds)
    recipe = control.recipe
    states = [start(recipe.transforms, vocabulary, ids, xp) for ids in cursor.ids]
    logits = cursor.logits()
    for n in range(1, limit + 1):
        position = len(cursor.ids[0])
        keys = [(seed, position) for seed in seeds]
        drawn = _drawn(logits, control.take_forced(), recipe, states, keys, xp)
        tokens = [int(d.token) for d in drawn]
        if n < limit:
            cursor.feed(mx.array(tokens, dtype=mx.int32))
            logits = cursor.logits()
            mx.async_eval(logits)
        recent = [ids[-RECENT:] for ids in cursor.ids]
        steps = [look(d, position, ids) for d, ids in zip(drawn, recent, strict=True)]
        cursor.settle(tokens)
        rows = yield steps
        if n == limit:
            return
        if rows is not None and len(rows) < len(seeds):
            if not rows:
                return
            cursor.select(rows)
            logits = logits[mx.array(list(rows), dtype=mx.int32)]
            drawn, seeds = [drawn[row] for row in rows], [seeds[row] for row in rows]
        states = [
            advance(recipe.transforms, d.states, ids[-1], d.after, xp) for d, ids in zip(drawn, cursor.ids, strict=True)
        ]
        latest = control.recipe
        if latest.transforms != recipe.transforms:
            states = [
                change(latest.transforms, recipe.transforms, state, vocabulary, ids, xp)
                for state, ids in zip(states, cursor.ids, strict=True)
            ]
        recipe = latest


def _drawn(
    logits: mx.array,
    forced: int | None,
    recipe: Recipe,
    states: Sequence[States],
    keys: Sequence[Key],
    xp: Namespace,
) -> list[Draw]:
    """A token for each of logits [B, V], evaluated."""
    how = kernel_draw.plan(recipe, logits.shape[-1]) if forced is None else None
    if how is None:
        mx.eval(logits)
        return [choose(row, forced, recipe, s, key, xp) for row, s, key in zip(logits, states, keys, strict=True)]
    drawn = by_kernel(logits, how, recipe, states, keys)
    mx.eval([d.arrays for d in drawn])
    return [
        choose(d.logits, None, recipe, d.states, key, xp) if d.spilled else d
        for d, key in zip(drawn, keys, strict=True)
    ]
