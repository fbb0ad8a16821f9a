"""Infilling: a text with holes, `The [MASK:8] of France`, to a canvas of ids, and what became of it.

`[MASK:N]` stands for N tokens, `\\[MASK:8]` for itself. What stands between holes is tokenised by itself.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.diffusion.cached import denoiser_of
from likely.engine.diffusion.denoiser import of_model
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasked, Unmasking, fill
from likely.engine.train.data.samples import text_end

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.text.tokenizer import Tokenizer

HOLE = re.compile(r"(\\?)\[MASK:([^\[\]]*)\]")
MOST = 1 << 20  # masks of one hole: more than any context


@dataclass(frozen=True, slots=True)
class FilledToken:
    """One token of a canvas in the end: `step` is the pass that it came of, None where it was given."""

    position: int
    id: int
    text: str
    step: int | None
    logprob: float | None  # nats, as it was drawn
    given: bool


@dataclass(frozen=True, slots=True)
class FilledCanvas:
    """A canvas in the end, and every token that took another's place."""

    tokens: tuple[FilledToken, ...]
    revisions: tuple[Unmasked, ...]

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    def as_dict(self) -> dict[str, Any]:
        """The object that `likely fill --json` prints."""
        return {
            "ids": [token.id for token in self.tokens],
            "tokens": [asdict(token) for token in self.tokens],
            "revisions": [
                {"position": r.token.position, "step": r.step, "from": r.before, "to": r.token.token}
                for r in self.revisions
            ],
        }


def pieces(text: str) -> Iterator[str | int]:
    """Pieces that are given, and numbers of masks between; ParameterError for a hole of no number of tokens."""
    literal, end = "", 0
    for hole in HOLE.finditer(text):
        literal += text[end : hole.start()]
        end = hole.end()
        if hole[1]:
            literal += hole[0][1:]
            continue
        if not (hole[2].isascii() and hole[2].isdigit() and len(hole[2]) < 8 and 0 < int(hole[2]) <= MOST):
            raise ParameterError(
                f"[MASK:N] stands for N tokens, a whole number from 1 to {MOST:,}, got {hole[0]}: write \\{hole[0]} "
                "for the text"
            )
        if literal:
            yield literal
        literal = ""
        yield int(hole[2])
    if literal + text[end:]:
        yield literal + text[end:]


def lone_space(text: str, tokenizer: "Tokenizer") -> str | None:
    """The text with no space before its holes, where it has one and the model's words bring their own; else None.

    Such a space is a token by itself, which the model hardly ever saw before a word.
    """
    if len(tokenizer.encode(" a")) != 1:  # bytes, characters
        return None
    stripped = re.sub(r" (?=\[MASK:\d)", "", text)
    return None if stripped == text else stripped


def canvas(text: str, tokenizer: "Tokenizer", mask: int, context: int, *, whole: bool = False) -> list[int]:
    """The ids of a text with holes; of a `whole` one an end of text stands behind it.

    ParameterError where it has no hole, and for a whole one where the tokenizer has no end of text, ContextOverflow
    where it is longer than the canvas that the model reads.
    """
    ids = tokenizer.encode("", bos=tokenizer.add_bos)
    holes = 0
    for piece in pieces(text):
        if isinstance(piece, int):
            holes += piece
            ids += [mask] * min(piece, context + 1)
        else:
            ids += tokenizer.encode(piece)
    if not holes:
        raise ParameterError("there is nothing to fill: write [MASK:N] where N tokens are to come")
    if whole:
        if (end := text_end(tokenizer)) is None:
            raise ParameterError("this model's tokenizer has no end of text: leave out --whole")
        ids.append(end)
    if len(ids) > context:
        raise ContextOverflow(
            f"the text has {len(ids) - ids.count(mask)} tokens and {holes} masks, and this model's canvas has "
            f"{context} positions: shorten it"
        )
    return ids


def infill(
    session: "Session",
    ids: Sequence[int],
    how: Unmasking,
    recipe: SamplingConfig | Callable[[], SamplingConfig],
    *,
    seed: int = 0,
) -> Iterator[DenoisingStep]:
    """Tokens for the masks of a canvas by the session's model, pass by pass; raises what `fill` does."""
    how.checked()
    mask = of_model(session.model, session.info.name).mask
    denoiser = denoiser_of(session.model, session.info.name, how, np.array(ids) != mask)
    passes = fill(
        denoiser.logits, ids, mask, how, recipe, seed=seed, vocabulary=session.tokenizer,
        own=denoiser.diffusion.block, begin=denoiser.begin,
    )  # fmt: skip
    for step in passes:
        yield step if denoiser.disagreement is None else replace(step, disagreement=denoiser.disagreement)


def filled(ids: list[int], mask: int, passes: Iterable[DenoisingStep], tokenizer: "Tokenizer") -> FilledCanvas:
    """The canvas after passes; those so far, where it is not over: masks are tokens without text then."""
    last: dict[int, Unmasked] = {}
    revisions = []
    for event in (unmasked for step in passes for unmasked in step.unmasked):
        last[event.token.position] = event
        if event.before is not None:
            revisions.append(event)
    final = [last[i].token.token if i in last else token for i, token in enumerate(ids)]
    detokenizer = tokenizer.detokenizer(special=True)
    texts = [detokenizer.push(token) if token != mask else "" for token in final]
    texts[-1] += detokenizer.flush()
    tokens = []
    for i, (token, text) in enumerate(zip(final, texts, strict=True)):
        by = last.get(i)
        step, logprob = (None, None) if by is None else (by.step, by.token.logprob)
        tokens.append(FilledToken(i, token, text, step, logprob, ids[i] != mask))
    return FilledCanvas(tuple(tokens), tuple(revisions))
