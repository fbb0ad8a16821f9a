"""Price of a longer RoPE: what a text costs by the model as it is and by the same weights with the longer context.

Of the part that fits the old context, token by token; of the text's end, read behind all of it, against what is left
where its oldest part is dropped; and bytes of keys and values. Knows no conversation: texts are tokens.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from likely.engine.base.errors import ContextOverflow
from likely.engine.base.statistics.estimates import Estimate, blockwise
from likely.engine.decode.session import Session
from likely.models.configuration.rope_scaling import RopeScaling

LAST = 32  # tokens of a text's end, where fewer lie past the old context


@dataclass(frozen=True, slots=True)
class ContextPrice:
    """Means are nats a token; in paired differences, `rise` and `end`, the longer RoPE costs more above 0."""

    scaling: RopeScaling
    contexts: tuple[int, int]  # positions before and then
    fits: tuple[Estimate, Estimate]  # -log p of what fits, by the model as it is and with the longer RoPE
    rise: Estimate  # from the first to the second
    end: Estimate  # of the text's end: from without its oldest part to all of it, by the longer RoPE
    nbytes: tuple[int, int]  # of keys and values that fill a context, before and then


def pricing(
    plain: Session, longer: Session, scaling: RopeScaling, whole: Sequence[int], short: Sequence[int]
) -> Generator[int, None, ContextPrice]:
    """The price for a text `whole`, of which `short` is what stays without its oldest part; how many tokens have been
    read after each piece.

    ContextOverflow where the longer context does not hold it either.
    """
    if len(whole) > longer.context:
        raise ContextOverflow(
            f"the conversation has {len(whole):,} tokens and {scaling.words} reads {longer.context:,}: take a larger "
            "factor, or drop the oldest"
        )
    begins, done = list(whole[: plain.context]), 0

    def costs(session: Session, ids: Sequence[int]) -> Generator[int, None, list[float]]:
        """-log p of ids[1:]."""
        nonlocal done
        scoring = session.scoring(ids)
        while True:
            try:
                read = next(scoring)
            except StopIteration as end:
                done += len(ids)
                return [-float(step.logprob) for step in end.value[1:]]
            yield done + read

    before = yield from costs(plain, begins)
    every = yield from costs(longer, whole)
    fits = len(short) <= plain.context  # else there is nothing to compare the end with
    without = (yield from costs(plain, short)) if fits else []
    within = every[: len(before)]
    common = next((i for i, (a, b) in enumerate(zip(whole[::-1], short[::-1], strict=False)) if a != b), len(short) - 1)
    last = min(max(len(whole) - plain.context, LAST), common, len(without))
    contexts = plain.context, longer.context
    nbytes = plain.pool.nbytes_of(contexts[0]), longer.pool.nbytes_of(contexts[1])
    return ContextPrice(
        scaling,
        contexts,
        (blockwise(before), blockwise(within)),
        blockwise([b - a for a, b in zip(before, within, strict=True)]),
        blockwise([b - a for a, b in zip(without[-last:], every[-last:], strict=True)] if last else []),
        nbytes,
    )
