"""How likely a given text is: total log-probability, perplexity, bits per byte, and the odds of named continuations.

Nothing is drawn. A text's first token has no distribution unless the model's convention puts a BOS before it; sums run
over the tokens that have one. Knows nothing of how the numbers are shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.base.statistics import scores
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import TokenStep
from likely.metal import mx
from likely.metal.attention import Emit


@dataclass(frozen=True, slots=True)
class Explanation:
    """The steps of a text and what they add up to; log-probabilities in nats."""

    steps: tuple[TokenStep, ...]

    @property
    def scored(self) -> tuple[TokenStep, ...]:
        """The steps that have a distribution."""
        return tuple(step for step in self.steps if step.logprob is not None)

    @property
    def total_logprob(self) -> float:
        return scores.total(step.logprob for step in self.steps)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean surprisal of the scored tokens; None for a text of one token."""
        return scores.perplexity(step.logprob for step in self.steps)

    @property
    def bits_per_byte(self) -> float | None:
        """Surprisal in bits over the bytes of the scored tokens."""
        nbytes = sum(len(step.piece) for step in self.scored if not step.special)
        return scores.bits_per_byte((step.logprob for step in self.steps), nbytes)


@dataclass(frozen=True, slots=True)
class Continuation:
    """A text named to follow: its tokens, and the probability of all of them in a row, in nats."""

    text: str
    steps: tuple[TokenStep, ...]

    @property
    def logprob(self) -> float:
        return scores.total(step.logprob for step in self.steps)


def explain(session: Session, text: str, progress: Callable[[int, int], None] | None = None) -> Explanation:
    """Score every token of `text`; ContextOverflow if the model has no positions for it."""
    return Explanation(tuple(session.score(_encode(session, text), progress=progress)))


def explain_answer(session: Session, prompt: Sequence[int], answer: Sequence[int]) -> Explanation:
    """Score every token of an answer to a prompt; ContextOverflow as `explain`."""
    return Explanation(tuple(session.score([*prompt, *answer], start=len(prompt))))


def answers(session: Session, prompt: Sequence[int], candidates: Sequence[str]) -> list[Continuation]:
    """The probability of each candidate as the beginning of the answer to a prompt. ParameterError for an empty one."""
    tokens = [session.tokenizer.encode(candidate) for candidate in candidates]
    if not all(tokens):
        raise ParameterError("a candidate must be a text of at least one byte, got an empty one")
    every = zip(candidates, tokens, strict=True)
    return [Continuation(text, explain_answer(session, prompt, ids).steps) for text, ids in every]


def continuations(session: Session, text: str, candidates: Sequence[str]) -> list[Continuation]:
    """The probability of each candidate right after `text`, several tokens of it included.

    The ids of a candidate are those of text + candidate after those of text. Raises ParameterError where the tokenizer
    would split the boundary differently, because that probability is of another text.
    """
    base = _encode(session, text)
    scored = []
    for candidate in candidates:
        whole = _encode(session, text + candidate)
        if not candidate or whole[: len(base)] != base or len(whole) == len(base):
            raise ParameterError(_boundary(session, base, whole, text, candidate))
        if not base:
            raise ParameterError("a continuation needs a text before it: give at least one token")
        scored.append(Continuation(candidate, tuple(session.score(whole, start=len(base)))))
    return scored


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of each head at each of T tokens: entropies in nats, and the most attended positions with their
    weights (position -1 where a token sees fewer)."""

    entropy: np.ndarray  # float32 [layers, H, T]
    positions: np.ndarray  # int32 [layers, H, T, top]
    weights: np.ndarray  # float32 [layers, H, T, top]


def attention(session: Session, text: str, top: int = 3) -> Attention:
    """The attention of every layer and head over `text`, in one pass without a cache.

    ParameterError for a model whose attention is not ours to look at.
    """
    ids = _encode(session, text)
    if len(ids) > session.context:
        raise ContextOverflow(f"the text has {len(ids)} tokens and this model reads at most {session.context}")
    if not hasattr(session.model, "inspect"):
        raise ParameterError(f"{session.info.name} runs through mlx-lm's own class, which does not show its attention")
    reports = session.model.inspect(mx.array([ids]), emit=Emit(entropy=True, top=top)).attention
    layers = [(s.entropy[0], s.positions[0], s.weights[0]) for s in reports]  # type: ignore[index]
    entropy, positions, weights = (mx.stack(list(part)) for part in zip(*layers, strict=True))
    mx.eval(entropy, positions, weights)
    return Attention(np.array(entropy), np.array(positions), np.array(weights))


def _encode(session: Session, text: str) -> list[int]:
    return Prompt(parts=(text,)).ids(session.tokenizer)


def _boundary(session: Session, base: list[int], whole: list[int], text: str, candidate: str) -> str:
    if not candidate:
        return "a candidate must be a text of at least one byte, got an empty one"
    n = next((i for i, (a, b) in enumerate(zip(base, whole, strict=False)) if a != b), min(len(base), len(whole)))
    before = b"".join(session.tokenizer.piece(t) for t in base[n:]).decode(errors="replace")
    after = b"".join(session.tokenizer.piece(t) for t in whole[n : n + 2]).decode(errors="replace")
    return (
        f"the candidate {candidate!r} changes how the text before it is split ({before!r} becomes part of {after!r}), "
        f"so it has no probability after that text: move the boundary (end the text before {before!r})"
    )
