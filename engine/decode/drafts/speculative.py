"""`Speculative`: several tokens a forward pass, where the next ones can be guessed; the law is that of `Sample`.

The model reads the token just drawn together with a guess of what follows, and each guess is accepted or replaced so
that every token is distributed as if it had been drawn alone (arXiv:2211.17192, algorithm 1). A guess that was not
drawn from a distribution needs no rejection: the token is drawn as always, and the guess was right or not, so the
tokens are those of `Sample` with the same seed, up to the rounding of products of several rows.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from likely.engine.base.arrays import softmax
from likely.engine.decode.drafts.draft import NOTHING, Drafter, Guess
from likely.engine.decode.drafts.draft_length import DraftLength
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Waiting
from likely.engine.decode.loop.sampler import Draw, Sampler
from likely.engine.decode.loop.strategy import Steps
from likely.engine.sampling.transforms import draw, run, uniform
from likely.metal import mx


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

    def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
        """At most `limit` tokens of the one branch; closing the iterator leaves it at the last one given.

        Transforms run on the host, which has to see every token before the next guess. A recipe that changes holds
        from the next round on.
        """
        (number,), (ids,) = branches.numbers, branches.ids
        for _ in self.drafter.reading(ids):
            yield Waiting()
        sampler = sampler.on_host(branches.ids)
        (drawn,) = sampler.draw(branches, control.take_forced(), kernel=False)
        emitted = 0
        try:
            while True:
                # `drawn` is certain and the model has not read it: it goes in with a guess of what follows
                began, token = self.clock(), int(drawn.token)
                sampler = sampler.advance([drawn])
                last = emitted + 1 == limit
                guess, unread = self._propose([*ids, token], limit - emitted - 2, sampler)
                if not last:
                    branches.feed([[token, *guess.tokens]])
                    logits = branches.last_logits(1 + len(guess.tokens))
                    mx.async_eval(logits)
                step = drawn.step(ids)
                if not last:
                    branches.settle([token])
                emitted += 1
                paused = self.clock()
                if (yield Emitted(number, step)) or last:
                    return
                idle = self.clock() - paused
                sampler = sampler.follow(control, branches.ids)
                chain = verify(np.asarray(logits)[0], guess, control, sampler, len(ids))
                self.pace.record(len(guess.tokens), len(chain) - 1, self.clock() - began - idle)
                if unread.tokens:
                    self.pace.watch(int(chain[0].token) == unread.tokens[0])
                for accepted in chain[:-1]:
                    step = accepted.step(ids)
                    branches.settle([step.token])
                    emitted += 1
                    if (yield Emitted(number, step)):
                        return
                branches.rewind(len(ids))
                drawn = chain[-1]
        finally:
            branches.rewind(len(ids))

    def _propose(self, ids: Sequence[int], room: int, sampler: Sampler) -> tuple[Guess, Guess]:
        """The guess that the model reads, and one that is only judged."""
        count = min(self.pace.length() if self.length is None else self.length, room)
        if count <= 0 and not (self.drafter.free and room > 0):
            return NOTHING, NOTHING
        guess = self.drafter.propose(ids, max(1, count), sampler)
        return (guess, NOTHING) if count > 0 else (NOTHING, guess)


def verify(logits: np.ndarray, guess: Guess, control: RunControl, sampler: Sampler, position: int) -> list[Draw]:
    """All guesses that are accepted and one token more, drawn from logits [1 + guesses, V] from `position` on."""
    chain: list[Draw] = []
    for i, row in enumerate(logits):
        forced = control.take_forced()
        if forced is None and guess.rows is not None and i < len(guess.rows) and not sampler.recipe.greedy:
            drawn = reject(row, guess.tokens[i], guess.rows[i], sampler, position + i)
        else:
            drawn = sampler.choose(row, position + i, forced)
        chain.append(drawn)
        if i == len(guess.tokens) or int(drawn.token) != guess.tokens[i]:
            break
        sampler = sampler.advance([drawn])
    return chain


def reject(logits: np.ndarray, guess: int, drawn_from: np.ndarray, sampler: Sampler, position: int) -> Draw:
    """A token with the law p of the sampler, given a guess with the law q: the guess with probability min(1, p / q).

    Else one from the part of p that q falls short of, max(0, p - q), normalised (arXiv:2211.17192, algorithm 1).
    """
    recipe, (states,), key = sampler.recipe, sampler.states, (sampler.seed, position)
    after, removed_by = run(recipe.transforms, logits, states, key, np)
    p, q = softmax(after), softmax(fit(drawn_from, len(after)))
    token = guess
    if guess >= len(p) or uniform(key, "accept") * q[guess] >= p[guess]:
        rest = np.maximum(p - q, 0.0)
        with np.errstate(divide="ignore"):
            # nothing is left where p = q but for rounding, and then p itself is as good
            token = int(draw(np.log(rest if rest.sum() > 0 else p).astype(np.float32), key, np))
    return Draw(token, logits, after, removed_by, recipe, states, key, "drawn")


def fit(row: np.ndarray, size: int) -> np.ndarray:
    """The logits of `size` tokens: two heads of one tokenizer may be padded to different lengths."""
    return np.pad(row[:size], (0, max(0, size - len(row))), constant_values=-np.inf)
