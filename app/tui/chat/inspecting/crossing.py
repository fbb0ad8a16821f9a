"""Answers of a comparison, or a text that was given, as each column reads them: what is asked, and what came of it.

A column's law is p, its model's own, or q, what it draws from: where all columns draw alike p, so that nothing but the
model differs. Bits here, which are read; nats in what the engine gives. No widgets.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import ReaderAsked
from likely.app.store import sampling_text
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.inspecting.comparison import divergence
from likely.engine.base.statistics.difference import Difference, Pair, Position
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import TokenStep

LETTERS = "ABCD"


@dataclass(frozen=True)
class CrossPerplexity:
    """The columns that read each other, by their places; `parts` says where an answer first differs from another."""

    places: tuple[int, ...]
    labels: Mapping[int, str]
    drawn: bool = False  # the laws are q
    given: bool = False  # all have the same text, of which the first token follows nothing
    notes: tuple[str, ...] = ()  # what is not read, and why
    differences: Mapping[Pair, Difference] = field(default_factory=dict)
    parts: Mapping[Pair, int] = field(default_factory=dict)

    def others(self, place: int) -> list[int]:
        return [other for other in self.places if other != place]

    def ways(self, place: int) -> list[Pair]:
        """Author and reader of each KL that has to do with a column."""
        return [pair for other in self.others(place) for pair in ((place, other), (other, place))]

    def position(self, pair: Pair, token: int) -> Position | None:
        """The laws that a token of the author's text was drawn from; None where it follows nothing."""
        at, positions = token - self.given, self.differences[pair].positions
        return positions[at] if 0 <= at < len(positions) else None

    def kls(self, pair: Pair) -> list[float | None]:
        """KL(author || reader) at each token of the author's text."""
        values = [value / LN2 for value in self.differences[pair].along("reverse_kl")]
        return [None, *values[:-1]] if self.given else [*values]

    def forks(self, pair: Pair) -> list[int]:
        """The tokens of the author's text at which the reader would rather say another, and where the texts part."""
        tokens = {at + self.given for at in self.differences[pair].forks} | {self.parts.get(pair, -1)}
        return sorted(tokens & set(range(len(self.kls(pair)))))

    def fork(self, pair: Pair) -> int:
        """The fork to begin with: where the texts part, else the first, else the beginning."""
        return self.parts.get(pair, next(iter(self.forks(pair)), int(self.given)))

    @cached_property
    def means(self) -> dict[Pair, Estimate]:
        """The mean KL(author || reader) over the author's tokens."""
        return {pair: _bits(difference.estimate("reverse_kl")) for pair, difference in self.differences.items()}

    @cached_property
    def costs(self) -> dict[Pair, Estimate]:
        """Cost of a token of the author's text, if the reader writes it."""
        costs = {pair: _bits(difference.costs[1]) for pair, difference in self.differences.items()}
        return costs | {(a, a): _bits(difference.costs[0]) for (a, _), difference in self.differences.items()}

    @cached_property
    def excess(self) -> dict[Pair, Estimate]:
        """Cost of a token of the author's text to the reader, over that to the author."""
        return {pair: _bits(difference.excess) for pair, difference in self.differences.items()}

    def ruled_out(self, pair: Pair) -> int:
        """How many tokens of the author's text the reader never says."""
        author, reader = pair
        side, difference = (1, self.differences[pair]) if author != reader else (0, self._own(author))
        return sum(p.next is not None and p.next[side] == -math.inf for p in difference.positions)

    def _own(self, place: int) -> Difference:
        return self.differences[place, self.others(place)[0]]

    def verdict(self, other: int, brief: bool = False) -> str:
        """Which of the first column and another writes a given text for less, bits a token."""
        first = self.places[0]
        excess = self.excess[first, other]
        a, b = LETTERS[first], LETTERS[other]
        better = excess.better(a, b)
        if not better:
            return f"{a} or {b}: not seen which" if brief else f"{a} or {b}: not seen which is better"
        if math.isinf(excess.mean):
            return f"{better} is better: the other rules a token out"
        low, high = sorted(map(abs, excess.interval))
        by = f"{abs(excess.mean):.2f}{'' if brief else ' bits a token'}, {low:.2f} to {high:.2f}"
        return f"{better} better by {by}" if brief else f"{better} is better than {b if better == a else a} by {by}"


def interval(estimate: Estimate) -> str:
    """The interval in words, "" without one."""
    low, high = estimate.interval
    return f"{low:.2f} to {high:.2f}" if math.isfinite(low + high) else ""


def number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.2f}" if math.isfinite(value) else "∞"


def _bits(nats: Estimate) -> Estimate:
    return nats.map(lambda value: value / LN2, 1 / LN2)


class ComparedColumn(NamedTuple):
    """A column as far as it is read: the adapters that are on its model by now, in words."""

    chat: ChatSession
    label: str
    adapters: str

    @property
    def other(self) -> str:
        """Why its model is not the one that wrote its answer, in words; "" where it is."""
        facts, steps = self.chat.facts, _steps(self.chat)
        if facts is None or not steps:
            return ""
        drawn = sampling_text.adapters(steps[0].recipe)
        author = self.chat.transcript.shown[-1].message.last.model
        how, by, now = "by", author or "a model that is not known", facts.title or facts.name
        if author == facts.name:
            how, by, now = "with", drawn or "no adapter", self.adapters or "no adapter"
        return f"was written {how} {by}, not {how} {now}: ⏎ in the prompt runs it again" if by != now else ""


def crossing(columns: Sequence[ComparedColumn], given: bool, drawn: bool | None = None) -> CrossPerplexity:
    """Which columns can be read by each other, nothing of it read yet: those with a text, whose model goes from left to
    right and has the tokens of the first that does. `drawn` says whether the laws are q, by default where settings
    differ; of a text that was given where models do not.
    """
    places: list[int] = []
    notes: list[str] = []
    chats = [column.chat for column in columns]
    for place, (letter, column) in enumerate(zip(LETTERS, columns, strict=False)):
        chat, facts = column.chat, column.chat.facts
        if facts is None or not (chat.diffuses or _steps(chat)):
            notes.append(f"{letter} has no answer yet")
        elif chat.diffuses:
            notes.append(f"{letter} fills masks: it is not read token by token")
        elif not given and (other := column.other):
            notes.append(f"{letter} {other}")
        elif places and facts.vocabulary != (chats[places[0]].facts or facts).vocabulary:
            notes.append(f"{letter} has another tokenizer than {LETTERS[places[0]]}: they have no KL")
        else:
            places.append(place)
    models = len({facts.name for place in places if (facts := chats[place].facts) is not None})
    if drawn is None:
        drawn = len({chats[place].sampling.recipe for place in places}) > 1 and not (given and models > 1)
    parts = {
        (a, b): at for a in places for b in places if (at := divergence(_steps(chats[a]), _steps(chats[b]))) is not None
    }
    if drawn and not given:
        searches = [(LETTERS[place], chats[place].settings.strategy) for place in places]
        found = [(letter, strategy) for letter, strategy in searches if strategy.SEARCHES]
        notes += [f"{letter} was found by {strategy}: its q is of its parameters alone" for letter, strategy in found]
    labels = {place: column.label for place, column in enumerate(columns)}
    return CrossPerplexity(tuple(places), labels, drawn, given, tuple(notes), parts=parts)


def request(asked: CrossPerplexity, chats: Sequence[ChatSession], text: str) -> r.JointCall:
    """The request to the engine for it; `text` is the one that was given, if any was."""
    models, readers = [], []
    for place in asked.places:
        chat = chats[place]
        assert chat.facts is not None
        models.append(chat.facts.name)
        block = len(chat.transcript.shown) - 1
        prompt, count = chat.transcript.read_until(TokenPlace(block, 0))
        recipe = chat.sampling.recipe if asked.drawn else None
        readers.append(
            ReaderAsked(LETTERS[place], Prompt(parts=(text,)), None, recipe)
            if asked.given
            else ReaderAsked(LETTERS[place], prompt, count, recipe, chat.transcript.shown[-1].message.last.seed)
        )
    return r.JointCall(tuple(models), calls.crossed, (tuple(readers),))


def _steps(chat: ChatSession) -> Sequence[TokenStep]:
    return chat.transcript.shown[-1].steps if len(chat.transcript.shown) > 1 else ()
