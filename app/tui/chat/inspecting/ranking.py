"""Texts of one search or vote side by side: which are alive, what each is worth, and which is on the screen.

Plain data, from a conversation; how it looks is the list's.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from likely.app.tui.chat import tallies
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.chat.live_run import CANCELLED, FAILED, PRUNED, waits
from likely.engine.chat.conversation import Conversation, Node
from likely.engine.decode.loop.texts import search_answers
from likely.engine.measure.reason.scorers import logprob, mean_logprob
from likely.engine.measure.reason.steps import LINES, SENTENCES, Equation, equations, units
from likely.engine.sampling.trace.step import TokenStep

STATES = GROWING, ENDED, STOPPED = "growing", "ended", "stopped"  # of a text


@dataclass(frozen=True, slots=True)
class RankedText:
    """One text: where it parts from the others, and its numbers as they are shown."""

    node: str
    text: str
    numbers: tuple[str, ...]
    state: str  # growing, ended or stopped
    on: bool  # the screen
    verdict: "EquationVerdict | None" = None  # on its equations; None while it grows, and where it has none


@dataclass(frozen=True, slots=True)
class EquationVerdict:
    """Whether all equations of a text hold; `words` are how many, or the first that does not."""

    holds: bool
    words: str


@dataclass(frozen=True, slots=True)
class RankedStep:
    """One step of the text on the screen: its mean log-probability as it is shown."""

    text: str
    number: str
    verdict: EquationVerdict | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """All texts that are alive, those of a search the best first, with the heads of their numbers.

    `shared` says of the text on the screen by how many of them its tokens are shared, from the first on, as (texts,
    tokens); () where they are a sample. `steps` are its steps, where they are asked for; `skipped` the tokens of its
    message before all of it.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[RankedText, ...]
    shared: tuple[tuple[int, int], ...] = ()
    steps: tuple[RankedStep, ...] = ()
    skipped: int = 0

    @property
    def words(self) -> str:
        """How many texts grow, have ended, were stopped, in words."""
        states = Counter(row.state for row in self.rows)
        judged = [row.verdict.holds for row in self.rows if row.verdict is not None]
        right = f" · {sum(judged)} of {len(judged)} hold" if judged else ""
        return ", ".join(f"{states[state]} {state}" for state in STATES if states[state]) + right


def state_of(node: Node) -> str:
    """How far a text of a search or a vote has come."""
    if node.finish in (CANCELLED, FAILED, "interrupted"):
        return STOPPED
    if node.finish == PRUNED:
        return PRUNED
    return ENDED if node.finish or waits(node) else GROWING


def ranking(talk: Conversation, count: tallies.VoteCount | None, *, opened: bool = False) -> Ranking | None:
    """Those beside the last message, whose votes are counted if it is a path of one, without what is put away; None
    where it is alone. `opened`: with the steps of that message."""
    leaf = talk.leaf
    if leaf is None or not leaf.label:
        return None
    how = tallies.strategy_of(leaf.label)
    if count is None and (how is None or not how.SEARCHES):
        return None
    nodes = tallies.paths(talk, leaf)
    if len(nodes) < 2:
        return None
    if count is None:
        nodes = search_answers(nodes)
    lines = {node.id: tallies.steps(talk, node) for node in nodes}
    whole = [_text(lines[node.id]) for node in nodes]
    rows = []
    for node, text, answer in zip(nodes, _apart([text.strip() for text in whole]), whole, strict=True):
        total, tokens = logprob(lines[node.id]), len(lines[node.id])
        score = node.figures.get("score", math.nan)
        if count is None:
            numbers = bits(total), str(tokens), bits(score)
        else:
            numbers = count.answers.get(node.id) or "", str(tokens), bits(total / tokens if tokens else math.nan)
        state = state_of(node)
        verdict = None if state == GROWING else _judged(answer)
        rows.append(RankedText(node.id, text, numbers, state, node.id == leaf.id, verdict))
    own = lines.get(leaf.id, [])
    skipped = len(talk.messages()[-1].steps) - len(own)
    shared = () if count is not None and count.sampled else _shared(own, list(lines.values()))
    steps = tuple(_steps(own)) if opened else ()
    if count is None:
        return Ranking(f"{len(rows)} BEST", ("log₂p", "tok", "score"), tuple(rows), shared, steps, skipped)
    return Ranking(f"{len(rows)} PATHS", ("answer", "tok", "log₂p/tok"), tuple(rows), shared, steps, skipped)


def _text(steps: Sequence[TokenStep]) -> str:
    return "".join(step.text for step in steps if not step.special)


@lru_cache(maxsize=1024)
def _judged(text: str) -> EquationVerdict | None:
    """The verdict on a text, which is asked for each time that the list is drawn."""
    equalities = equations(text)
    wrong: Equation | None = next((equation for equation in equalities if not equation.holds), None)
    return EquationVerdict(wrong is None, str(len(equalities)) if wrong is None else wrong.text) if equalities else None


def _shared(own: Sequence[TokenStep], lines: Sequence[Sequence[TokenStep]]) -> tuple[tuple[int, int], ...]:
    """By how many of the texts, the own one among them, its tokens are shared, as (texts, tokens)."""
    alike = []
    for line in lines:
        pairs = zip(own, line, strict=False)
        parts = (i for i, (a, b) in enumerate(pairs) if a is not b and a.token != b.token)
        alike.append(next(parts, min(len(own), len(line))))
    counts = (sum(at < length for length in alike) for at in range(len(own)))
    return tuple((texts, len(list(run))) for texts, run in groupby(counts))


def _steps(own: Sequence[TokenStep]) -> list[RankedStep]:
    """The steps of a text: its lines, else its sentences. A token belongs to the step that it begins in."""
    ranked, at, length, place = [], 0, 0, 0
    for unit in units(_text(own), (LINES, SENTENCES)):
        place, begun = place + len(unit), at
        while at < len(own) and length < place:
            length += 0 if own[at].special else len(own[at].text)
            at += 1
        if words := " ".join(unit.split()):
            ranked.append(RankedStep(words, bits(mean_logprob(own[begun:at])), _judged(unit)))
    return ranked


def _apart(texts: Sequence[str]) -> list[str]:
    """Texts from the word on with which the first of them parts from another."""
    low, high = min(texts), max(texts)  # what these begin with alike, all do
    alike = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    at = low[:alike].rfind(" ") + 1
    return [("…" if at else "") + " ".join(text[at:].split()) for text in texts]


def bits(nats: float) -> str:
    """A log-probability in bits; "" for none."""
    return f"{nats / LN2:.2f}".replace("-", "−") if math.isfinite(nats) else ""
