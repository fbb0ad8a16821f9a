"""Choice of a tool: the law over which tool is called next, or none, where an answer stands.

A tool is called where the text goes on with the mark of a call, all that the model's template writes up to the tool's
name, the name, and what ends it. A text has many spellings in tokens, and its probability is the sum over all of them
(Cao and Rimell 2021); they are a tree in which each place costs a pass of the model. It is gone through level by level,
the likeliest places of each; what was not gone into is told as `undecided`, so that every probability is a bound from
below and, with that added, from above. A control token of the mark is itself and is spelled in no other way.
"""

from bisect import bisect_left
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from likely.engine.base.errors import TemplateError
from likely.engine.chat.tools.call_format import HARMONY, CallFormat
from likely.engine.chat.tools.tool import Tool, ToolCall, ToolDistribution
from likely.engine.decode.session import Session
from likely.engine.inside.tokenization import tokens_by_piece
from likely.engine.text.tokenizer import Tokenizer
from likely.engine.text.tokenizer.template import Message
from likely.metal import mx

WIDTH = 16  # places of a level
LEAST = 1e-6  # of the probability of a place that is gone into; without a mark of the likeliest one's of its level
DEEPEST = 96  # tokens of a call up to the end of its name

Unit = int | bytes  # a control token, or bytes that are spelled somehow
Place = tuple[int, int]  # in units: which, and how many bytes of it


@dataclass(frozen=True, slots=True)
class CallOpening:
    """How a template has a call begin: `mark`, what stands `between` it and the tool's name, and what `ends` the
    name. Without a mark every answer is a call."""

    mark: str
    between: str
    ends: str

    def of(self, name: str) -> str:
        return f"{self.mark}{self.between}{name}{self.ends}"


def openings(tokenizer: Tokenizer, format: CallFormat) -> tuple[CallOpening, ...]:
    """How the template of a model has a call begin, found by having it write one; none where it writes none."""
    mark = format.marks.begin
    if format is HARMONY:  # its template writes a call in the second way, the model in both
        return CallOpening(mark, "", " "), CallOpening(format.marks.other, "", "<|channel|>")
    name = "zqxprobe"
    for arguments in ({"zqy": "zqz"}, '{"zqy": "zqz"}'):
        called = ToolCall(name).message
        called["function"] = {"name": name, "arguments": arguments}
        turns: list[Message] = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": "", "tool_calls": [called]},
        ]
        try:
            text = tokenizer.render(turns, generation_prompt=False, tools=[Tool("", name).spec])
        except TemplateError:
            continue
        begin = text.rfind(mark)
        at = text.find(name, begin)
        if begin < 0 or at < 0 or not (rest := text[at + len(name) :]):
            continue
        first = tokenizer.encode(rest[:64], special=True)[0]
        ends = tokenizer.piece(first).decode(errors="replace") if tokenizer.is_special(first) else rest[0]
        return (CallOpening(mark, text[begin + len(mark) : at], ends),)
    return ()


def choosing(
    session: Session, ids: Sequence[int], names: Sequence[str], begins: CallOpening
) -> Generator[None, None, ToolDistribution]:
    """The law over tools behind `ids`, in pieces. Raises what reading a text raises."""
    tokenizer = session.tokenizer
    pieces = _pieces(tokenizer)
    mark = _units(tokenizer, begins.mark)
    units = {name: _units(tokenizer, begins.of(name)) for name in names}
    end: Place = (0, 0)
    if mark:
        end = (len(mark) - 1, len(mark[-1])) if isinstance(mark[-1], bytes) else (len(mark), 0)
    found = dict.fromkeys(names, 0.0)
    called, before, after = float(not mark), 0.0, 0.0
    branches = yield from session.branch_after(ids)
    nodes: list[tuple[float, Mapping[str, Place]]] = [(1.0, dict.fromkeys(names, (0, 0)))]
    passes = 0
    while nodes:
        rows = _probabilities(branches.logits())
        passes += 1
        children: list[tuple[float, int, int, dict[str, Place]]] = []
        for row, (mass, places) in enumerate(nodes):
            p = mass * rows[row]
            here = min(places.values())
            if here < end:
                over, steps = pieces.moves(mark, here)
                called += float(p[over].sum()) + sum(float(p[t]) for t, place in steps if place is None)
            ahead: dict[int, dict[str, Place]] = {}
            for name, place in places.items():
                over, steps = pieces.moves(units[name], place)
                found[name] += float(p[over].sum())
                for token, to in steps:
                    if to is None:
                        found[name] += float(p[token])
                    else:
                        ahead.setdefault(token, {})[name] = to
            children += [(float(p[token]), row, token, places) for token, places in ahead.items()]
        children.sort(key=lambda child: -child[0])
        deep = passes >= DEEPEST or branches.length >= session.context
        least = LEAST if mark else LEAST * max((child[0] for child in children[:1]), default=0.0)
        kept = [] if deep else [child for child in children[:WIDTH] if child[0] >= least]
        for mass, _, _, places in children[len(kept) :]:
            if min(places.values()) < end:
                before += mass
            else:
                after += mass
        if kept:
            branches.select([row for _, row, _, _ in kept])
            branches.feed([token for _, _, token, _ in kept])
            branches.settle([token for _, _, token, _ in kept])
        nodes = [(mass, places) for mass, _, _, places in kept]
        yield
    rest = max(0.0, called - sum(found.values()) - after), max(0.0, 1 - called - before)
    return ToolDistribution(tuple(found.items()), *rest, before + after, passes)


def _probabilities(logits: mx.array) -> np.ndarray:
    """Of raw logits [B, V], float64."""
    rows = np.asarray(logits.astype(mx.float32), np.float64)
    rows = np.exp(rows - rows.max(axis=1, keepdims=True))
    p: np.ndarray = rows / rows.sum(axis=1, keepdims=True)
    return p


def _units(tokenizer: Tokenizer, text: str) -> tuple[Unit, ...]:
    """A text as control tokens and the bytes between them."""
    units: list[Unit] = []
    for token in tokenizer.encode(text, special=True):
        if tokenizer.is_special(token):
            before, _, text = text.partition(tokenizer.piece(token).decode(errors="replace"))
            units += [before.encode(), token] if before else [token]
    return (*units, text.encode()) if text else tuple(units)


def _along(units: tuple[Unit, ...], place: Place, size: int) -> Place | None:
    """The place `size` bytes on, or behind a control token; None at the end of all."""
    unit, offset = place
    whole = units[unit]
    if isinstance(whole, bytes) and offset + size < len(whole):
        return unit, offset + size
    return (unit + 1, 0) if unit + 1 < len(units) else None


class _Spellings:
    """The tokens of a vocabulary by their bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._by = tokens_by_piece(tokenizer)
        self._sorted = sorted(self._by)
        self._longest = max(map(len, self._sorted), default=0)

    def moves(self, units: tuple[Unit, ...], place: Place) -> tuple[list[int], list[tuple[int, Place | None]]]:
        """Tokens that go on with `units` from a place: those that end them and more, and those within them, each with
        the place behind it, None at the end."""
        unit, offset = place
        whole = units[unit]
        if isinstance(whole, int):
            return [], [(whole, _along(units, place, 1))]
        rest = whole[offset:]
        steps = [
            (token, _along(units, place, size))
            for size in range(1, min(len(rest), self._longest) + 1)
            for token in self._by.get(rest[:size], ())
        ]
        over: list[int] = []
        if unit + 1 == len(units):
            at = bisect_left(self._sorted, rest + b"\0")
            while at < len(self._sorted) and self._sorted[at].startswith(rest):
                over += self._by[self._sorted[at]]
                at += 1
        return over, steps


@lru_cache(maxsize=2)
def _pieces(tokenizer: Tokenizer) -> _Spellings:
    return _Spellings(tokenizer)
