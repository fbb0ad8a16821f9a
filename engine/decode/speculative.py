"""`Speculative`: several tokens a forward pass, where the next ones can be guessed; the law is that of `Sample`.

The model reads the token just drawn together with a guess of what follows, and each guess is accepted or replaced so
that every token is distributed as if it had been drawn alone (arXiv:2211.17192, algorithm 1). A guess that was not
drawn from a distribution needs no rejection: the token is drawn as always, and the guess was right or not, so the
tokens are those of `Sample` with the same seed, up to the rounding of products of several rows.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.decode.control import RunControl
from engine.decode.cursor import Cursor
from engine.decode.draft import NOTHING, Drafter, Guess
from engine.decode.draft_length import DraftLength
from engine.decode.sample import RECENT, Draw, choose, look
from engine.trace.trace import Recipe, TokenStep
from engine.transforms import Key, States, Vocabulary, advance, change, draw, run, start, uniform
from metal import mx


@dataclass
class Speculative:
    """Guess with `drafter`, always `length` tokens or, without it, as many as pay, which may be none.

    `pace` holds what was measured: rounds, guesses, how many of them were right, seconds won or lost.
    """

    drafter: Drafter
    length: int | None = None
    clock: Callable[[], float] = time.perf_counter
    pace: DraftLength = field(init=False)

    def __post_init__(self) -> None:
        self.pace = DraftLength(self.drafter.hope)

    def steps(
        self, cursor: Cursor, control: RunControl, *, seed: int, limit: int, vocabulary: Vocabulary | None = None
    ) -> Generator[TokenStep, None, None]:
        """At most `limit` steps, without their text; closing the iterator leaves the cursor at the last one given.

        Transforms run on the host, which has to see every token before the next guess. A recipe that changes holds
        from the next round on.
        """
        recipe = control.recipe
        states = start(recipe.transforms, vocabulary, cursor.ids, np)
        drawn = choose(cursor.logits(), control.take_forced(), recipe, states, (seed, len(cursor.ids)), np)
        given = 0
        try:
            while True:
                # `drawn` is certain and the model has not read it: it goes in with a guess of what follows
                began, token = self.clock(), int(drawn.token)
                states = advance(recipe.transforms, drawn.states, token, drawn.after, np)
                last = given + 1 == limit
                guess, unread = self._guess([*cursor.ids, token], limit - given - 2, recipe, states, seed)
                if not last:
                    cursor.feed(mx.array([token, *guess.tokens]))
                    logits = cursor.last_logits(1 + len(guess.tokens))
                    mx.async_eval(logits)
                step = look(drawn, len(cursor.ids), cursor.ids[-RECENT:])
                if not last:
                    cursor.settle(token)
                given += 1
                paused = self.clock()
                yield step
                idle = self.clock() - paused
                if last:
                    return
                latest = control.recipe
                if latest.transforms != recipe.transforms:
                    states = change(latest.transforms, recipe.transforms, states, vocabulary, cursor.ids, np)
                recipe = latest
                chain = verify(np.asarray(logits), guess, control, recipe, states, (seed, len(cursor.ids)))
                self.pace.record(len(guess.tokens), len(chain) - 1, self.clock() - began - idle)
                if unread.tokens:
                    self.pace.watch(int(chain[0].token) == unread.tokens[0])
                for accepted in chain[:-1]:
                    step = look(accepted, len(cursor.ids), cursor.ids[-RECENT:])
                    cursor.settle(step.token)
                    given += 1
                    yield step
                cursor.rewind(len(cursor.ids))
                drawn = chain[-1]
        finally:
            cursor.rewind(len(cursor.ids))

    def _guess(self, ids: Sequence[int], room: int, recipe: Recipe, states: States, seed: int) -> tuple[Guess, Guess]:
        """The guess that the model reads, and one that is only judged."""
        count = min(self.pace.length() if self.length is None else self.length, room)
        if count <= 0 and not (self.drafter.free and room > 0):
            return NOTHING, NOTHING
        guess = self.drafter.guess(ids, max(1, count), recipe, states, seed)
        return (guess, NOTHING) if count > 0 else (NOTHING, guess)


def verify(
    logits: np.ndarray, guess: Guess, control: RunControl, recipe: Recipe, states: States, key: Key
) -> list[Draw]:
    """All guesses that are accepted and one token more, drawn from logits [1 + guesses, V]."""
    seed, position = key
    chain: list[Draw] = []
    for i, row in enumerate(logits):
        forced = control.take_forced()
        if forced is None and guess.rows is not None and i < len(guess.rows) and not recipe.greedy:
            drawn = reject(row, guess.tokens[i], guess.rows[i], recipe, states, (seed, position + i))
        else:
            drawn = choose(row, forced, recipe, states, (seed, position + i), np)
        chain.append(drawn)
        token = int(drawn.token)
        if i == len(guess.tokens) or token != guess.tokens[i]:
            break
        states = advance(recipe.transforms, states, token, drawn.after, np)
    return chain


def reject(logits: np.ndarray, guess: int, drawn_from: np.ndarray, recipe: Recipe, states: States, key: Key) -> Draw:
    """A token with the law p of `recipe`, given a guess with the law q: the guess with probability min(1, p / q).

    Else one from the part of p that q falls short of, max(0, p - q), normalised (arXiv:2211.17192, algorithm 1).
    """
    after, removed_by = run(recipe.transforms, logits, states, key, np)
    p, q = softmax(after), softmax(fit(drawn_from, len(after)))
    token = guess
    if guess >= len(p) or uniform(key, "accept") * q[guess] >= p[guess]:
        rest = np.maximum(p - q, 0.0)
        with np.errstate(divide="ignore"):
            # nothing is left where p = q but for rounding, and then p itself is as good
            token = int(draw(np.log(rest if rest.sum() > 0 else p).astype(np.float32), key, np))
    return Draw(token, logits, after, removed_by, recipe, states, "drawn")


def softmax(x: np.ndarray) -> np.ndarray:
    """float64 [V]"""
    mass: np.ndarray = np.exp(x.astype(np.float64) - x.max())
    mass /= mass.sum()
    return mass


def fit(row: np.ndarray, size: int) -> np.ndarray:
    """The logits of `size` tokens: two heads of one tokenizer may be padded to different lengths."""
    return np.pad(row[:size], (0, max(0, size - len(row))), constant_values=-np.inf)
