"""Law over choices: several texts that an answer may be, all scored behind one prompt, and drawn as wholes.

The law is p(x | x is one of them), p being the model's: each text's own probability over the sum of all. To mask what
no choice goes on with, token by token, draws from another (`engine.transforms.constraint`). Knows nothing of how tokens
are found; no mlx while it is loaded.

A choice is taken in the tokenizer's own spelling. Others that stand for the same bytes are not added to it: there are
exponentially many, their sum is hard to compute (Geh et al., arXiv:2408.08541), and a model that was trained on its
tokenizer's spellings mostly gives them little; `likely eval --text F --paths N` estimates how little.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.arrays import logprobs
from likely.engine.base.errors import NotFinite, ParameterError
from likely.engine.decode.searches.spelling import spelling
from likely.engine.sampling.transforms import (
    ChoiceDistribution,
    ChoiceMask,
    DynamicTemperature,
    MinP,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Transform,
    Typical,
    run,
    start,
)

if TYPE_CHECKING:
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.decode.session import Session
    from likely.engine.sampling.trace.step import SamplingConfig

OF_ROWS: tuple[type[Transform], ...] = (Temperature, DynamicTemperature, TopK, TopP, MinP, Typical, TopNSigma)


@dataclass(frozen=True, slots=True)
class Choice:
    """One text: the tokenizer's ids for it with the likeliest end of text, and its log-probability as an answer, nats.

    That has the mass of all the ids that end a text: the answer is over whichever comes.
    """

    text: str
    tokens: tuple[int, ...]
    logprob: float


def check(texts: Sequence[str], transforms: Sequence[Transform] = ()) -> None:
    """ParameterError for texts that are none, and for a transform that has no meaning for whole texts."""
    if not texts or not all(texts):
        raise ParameterError("choices must be one text or more, none of them empty")
    for transform in transforms:
        if not isinstance(transform, OF_ROWS):
            name = transform.parameters[0].name if transform.parameters else "logit_bias"
            raise ParameterError(
                f"{name} acts on single tokens, and a choice is drawn as a whole: leave it out, or bind the answer by "
                "a regular expression"
            )


def scored(session: "Session", ids: Sequence[int], texts: Sequence[str]) -> list[Choice]:
    """The texts as answers to the prompt `ids`, each once, scored side by side over one reading of it. Raises what
    `scoring` raises."""
    from likely.engine.base.concurrency.resumable import whole

    return whole(scoring(session, ids, texts))


def scoring(session: "Session", ids: Sequence[int], texts: Sequence[str]) -> Generator[int, None, list[Choice]]:
    """`scored` in pieces: how many texts have been scored after each. Where the session is paced, a piece is as many
    texts as a turn reads.

    Raises ParameterError where the model names no end of text, and for an empty prompt, ContextOverflow where a text
    does not fit, DataError for a character that no token can spell.
    """
    from likely.engine.measure.evaluate.scoring.likelihood import Reader, Request

    if not ids:
        raise ParameterError("choices need a text before them: give a prompt of at least one token")
    check(texts)
    ends = sorted(session.tokenizer.eos)
    if not ends:
        raise ParameterError("a choice is an answer that ends, and this model names no end of text: say one with --eos")
    texts = list(dict.fromkeys(texts))
    spelled = [spelling(session.tokenizer, text) for text in texts]

    def read(some: Sequence[tuple[int, ...]]) -> Any:
        sequences = tuple((*ids, *own, end) for own in some for end in ends)
        with session.measured.held(ids, back=True) as branches:
            reader = Reader(session.model, root=branches.fork())
            ((_, likelihoods),) = reader.read([Request(sequences, (len(ids),) * len(sequences))])
        return likelihoods

    choices: list[Choice] = []
    while (done := len(choices)) < len(texts):
        some, pace = spelled[done:], session.pool.reading
        if pace is not None:
            sizes = np.cumsum([len(own) * len(ends) for own in some])
            some = some[: max(1, int(np.searchsorted(sizes, pace.size, side="right")))]
        try:
            likelihoods = read(some)
        except NotFinite:
            session.score((*ids, *some[0]))  # has the model loaded in a wider type, or says where its numbers end
            likelihoods = read(some)
        for i, own in enumerate(some):
            rows = [likelihood.tokens for likelihood in likelihoods[i * len(ends) : (i + 1) * len(ends)]]
            ended = np.array([row[-1] for row in rows])
            total = float(rows[0][:-1].sum() + np.logaddexp.reduce(ended))
            choices.append(Choice(texts[done + i], (*own, ends[int(ended.argmax())]), total))
        yield len(choices)
    return choices


def law(choices: Sequence[Choice], recipe: "SamplingConfig") -> np.ndarray:
    """The log-probabilities [n], nats, with which each is drawn; -inf where a truncation took it out.

    The recipe's transforms act on the choices' log-probabilities as on a row of logits: a temperature T draws by
    p ** (1/T), temperature 0 takes the likeliest. ParameterError for one that has no such meaning (`check`).
    """
    check([choice.text for choice in choices], recipe.transforms)
    row = np.array([choice.logprob for choice in choices])
    states = start(recipe.transforms, None, (), np)
    after, _ = run(recipe.transforms, row, states, (0, 0), np, greedy=recipe.greedy)
    logp: np.ndarray = logprobs(np.asarray(after, np.float64), np)
    return logp


def bound(choices: Sequence[Choice], recipe: "SamplingConfig", strategy: "Strategy", begin: int) -> "SamplingConfig":
    """The recipe by which an answer behind `begin` tokens is one of the choices: drawn by their `law`, or, by a
    strategy that ranks texts, as likely as the model has it.

    ParameterError for a combination of two distributions, of which one alone has scored the choices.
    """
    if strategy.RANKS:
        mask = ChoiceMask(tuple(choice.tokens for choice in choices), begin)
        return replace(recipe, transforms=(mask, *recipe.transforms))
    from likely.engine.decode.drafts.combine import Combination

    if isinstance(strategy, Combination):
        raise ParameterError(
            f"choices are scored by the model alone, not as {strategy} has it: search with beams there"
        )
    weighed = zip(choices, law(choices, recipe).tolist(), strict=True)
    possible = {choice.tokens: min(logp, 0.0) for choice, logp in weighed if logp > -np.inf}
    mask = ChoiceMask(tuple(possible), begin)
    return replace(
        recipe, transforms=(mask, ChoiceDistribution(mask.texts, tuple(possible.values()), begin)), greedy=False
    )


def probability(recipe: "SamplingConfig", tokens: Sequence[int]) -> float | None:
    """The probability with which an answer was drawn among choices, all that begin so if it was cut; None of one that
    was not drawn so."""
    law = next((transform for transform in recipe.transforms if isinstance(transform, ChoiceDistribution)), None)
    return None if law is None else law.probability(tokens)
