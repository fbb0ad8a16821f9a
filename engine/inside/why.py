"""Answer to "why this word and not another": two next tokens, what told them apart, and what the first one needs.

Plain data, without mlx; log-probabilities and logits in nats. How it is found stands in `engine.inside.causes`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.inside.questions import Attribution


@dataclass(frozen=True, slots=True, eq=False)
class Why:
    """Why `target` rather than `foil` may follow T tokens: their ranks by layer, and what wrote the difference."""

    ids: tuple[int, ...]  # [T]
    target: int
    foil: int
    logprobs: tuple[float, float]  # of both
    ranks: np.ndarray  # int32 [layers + 1, 2], by the logit lens: row 0 is the embedding, 1 the most likely
    wrote: Attribution  # of the target's logit less the foil's
    attention: np.ndarray  # float32 [layers, H, T]: what each head reads from the last token

    def reads(self, layer: int, head: int, most: int = 2) -> tuple[tuple[int, float], ...]:
        """The positions that a head reads most, with their weights; the first, on which attention rests, left out."""
        weights = self.attention[layer, head].copy()
        weights[0] = 0.0
        order = np.argsort(-weights, kind="stable")[:most]
        return tuple((int(i), float(weights[i])) for i in order if weights[i] > 0)


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A part of the model, or several together, and the nats that it wrote of a difference of logits."""

    name: str
    nats: float
    head: tuple[int, int] | None = None


def written_parts(wrote: Attribution) -> list[WrittenPart]:
    """Every head and MLP, the largest addend first."""
    heads = [WrittenPart(f"head {i}.{j}", float(nats), (i, j)) for (i, j), nats in np.ndenumerate(wrote.heads)]
    mlps = [WrittenPart(f"mlp {i}", float(nats)) for i, nats in enumerate(wrote.mlp)]
    return sorted([*heads, *mlps], key=lambda part: -abs(part.nats))


def written(wrote: Attribution, most: int) -> list[WrittenPart]:
    """The `most` parts that wrote most, and the rest summed by kind: together they are the sum of all addends."""
    single = written_parts(wrote)
    shown, rest = single[:most], single[most:]
    by_kind = {"heads": [p.nats for p in rest if p.head], "mlps": [p.nats for p in rest if not p.head]}
    shown += [WrittenPart(f"+ {len(nats)} {kind}", float(np.sum(nats))) for kind, nats in by_kind.items() if nats]
    return [*shown, WrittenPart("embedding, bias", wrote.embedding + wrote.bias)]


@dataclass(frozen=True, slots=True)
class Omission:
    """Tokens start..stop-1 of a prompt that were left out, and the nats that a next token loses so."""

    start: int
    stop: int
    nats: float


@dataclass(frozen=True, slots=True, eq=False)
class Reason:
    """A whole answer to why: the pass, and all that was left out."""

    why: Why
    omissions: tuple[Omission, ...]


@dataclass(frozen=True, slots=True)
class NamedToken:
    """The token that a person's word stands for; `note` says so where the word is several, "" where it is that one."""

    token: int
    note: str = ""


def named_token(word: str, encode: Callable[[str], Sequence[int]], piece: Callable[[int], bytes]) -> NamedToken:
    """The token of a word: after a space where that is one, else as it is written (a mark of the template, too); of a
    longer word its first. ParameterError for a word of no token."""
    ways = [ids for text in ((f" {word.strip()}", word) if word.strip() else (word,)) if (ids := tuple(encode(text)))]
    if not ways:
        raise ParameterError("words to compare want a letter or more, as in Paris; got none")
    says = [ids for ids in ways if piece(ids[0]).strip()] or ways  # a space by itself says nothing
    ids = next((ids for ids in ways if len(ids) == 1), says[0])
    first = piece(ids[0]).decode(errors="replace")
    several = f"{word.strip()!r} is {len(ids)} tokens here: its first, {first!r}, is taken"
    return NamedToken(ids[0], several if len(ids) > 1 else "")
