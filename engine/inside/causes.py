"""Causes of a word: one pass for its ranks and the parts that wrote it, then the earlier words, one after another.

What is measured is the token that was said, likely or not, against another that might have been: its foil. Gives
`engine.inside.why`'s values in pieces, between which others have turns. Knows no page.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.decode.session import Session
from likely.engine.inside.attribution import attributed
from likely.engine.inside.importance import leaving_out
from likely.engine.inside.last_position import read
from likely.engine.inside.why import Omission, Why

LONG = 64  # tokens from which on sentences are left out before words, and the most of such a text that are words
ENDS = (".", "!", "?", "…", "。", "\n")  # of a sentence, by its last token's text


def why(
    session: Session,
    ids: Sequence[int],
    target: int | None = None,
    foil: int | None = None,
    *,
    skipped: frozenset[int] | None = None,
) -> Iterator[Why | Omission | None]:
    """Why `target` (the favourite if left out) comes after `ids` rather than `foil` (the favourite among the others):
    a `Why`, then what each earlier word brings, the likely ones first: those that are read by the heads that wrote most
    of the difference, which is attention times its gradient by the way that passes no other part. None is a turn for
    others.

    Of a text of more than 64 tokens the sentences come before words, and then the words of those that matter most; of
    one that is a single sentence, its words. Ids in `skipped`, the tokenizer's marks if left out, stand always.
    ParameterError for an id that the model has not, and for a foil that is the target; as `subject` for what cannot be
    read.
    """
    last = yield from read(session, ids)
    target = last.favourite if target is None else target
    foil = last.other(target) if foil is None else foil
    if foil == target:
        raise ParameterError(f"a token is compared with another than itself: both are {target}")
    logprobs = arrays.logprobs(last.logits.astype(np.float64), np)
    ranks = last.ranks([target, foil])
    yield None
    pair = float(logprobs[target]), float(logprobs[foil])
    wrote = attributed(last, target, foil)
    yield Why(tuple(ids), target, foil, pair, ranks, wrote, last.attention)
    marks = {id for id in {*ids} if session.tokenizer.is_special(id)} if skipped is None else skipped
    words = [i for i in range(len(ids)) if ids[i] not in marks]
    if len(ids) < 2 or not words:
        return
    branch, empty = (yield from session.branch_after(ids)), session.measured.empty
    likely = np.einsum("lh,lht->t", np.abs(wrote.heads), last.attention)
    texts = [session.tokenizer.piece(id).decode(errors="replace") for id in ids]
    spans = sentences(texts, words)
    if len(words) > LONG and spans != [(0, len(ids))]:  # without the only sentence there is nothing to read
        known = list[Omission]()
        for omission in leaving_out(branch, target, _likely_first(spans, likely), empty):
            known += [omission] if omission is not None else []
            yield omission
        known.sort(key=lambda omission: -abs(omission.nats))
        within, words = set(words), list[int]()
        for omission in known:
            if len(words) < LONG and omission.stop - omission.start > 1:
                words += [i for i in range(omission.start, omission.stop) if i in within]
    yield from leaving_out(branch, target, _likely_first([(i, i + 1) for i in words], likely), empty)


def sentences(texts: Sequence[str], of: Sequence[int]) -> list[tuple[int, int]]:
    """The runs of these tokens, whose texts are given by position, cut behind what ends a sentence."""
    spans: list[tuple[int, int]] = []
    for i in of:
        if spans and spans[-1][1] == i and not texts[i - 1].rstrip(" ").endswith(ENDS):
            spans[-1] = (spans[-1][0], i + 1)
        else:
            spans.append((i, i + 1))
    return spans


def _likely_first(spans: Sequence[tuple[int, int]], weights: np.ndarray) -> list[tuple[int, int]]:
    """In the order of their tokens' weights; the first token of a text, on which attention rests, last."""
    return sorted(spans, key=lambda span: (span[0] == 0, -float(weights[span[0] : span[1]].sum())))
