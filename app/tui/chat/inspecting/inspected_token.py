"""Token that was said: its foil, and all that is known by now of why it was said. No widgets.

A token is told apart from others by where it stands; what the engine said of another foil is kept beside.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from likely.app.jobs.interpretability import Inside, InsideQuestion, WhyEnded, question
from likely.app.jobs.worker import Failed
from likely.app.tui.chat.candidates import Candidate, CandidateTable, Names
from likely.app.tui.chat.inspecting.inspection import Inspection, Subject
from likely.engine.decode.prompt import Prompt
from likely.engine.inside.why import Omission, Reason, Why, WrittenPart, written
from likely.engine.sampling.trace.step import SamplingConfig


@dataclass(eq=False)
class WhyAnswer:
    """Answer of the engine for a target and a foil: first the pass, then earlier words as they come."""

    why: Why | None = None
    omissions: list[Omission] = field(default_factory=list)
    ended: bool = False
    refused: str = ""

    def take(self, event: object) -> None:
        if isinstance(event, Why):
            self.why = event
        elif isinstance(event, Omission):
            self.omissions.append(event)
        elif isinstance(event, WhyEnded):
            self.ended = True
        elif isinstance(event, Failed):
            self.refused = event.line

    @property
    def whole(self) -> Reason | None:
        """All of it, once it has ended."""
        return Reason(self.why, tuple(self.omissions)) if self.why is not None and self.ended else None

    def words(self) -> list[Omission]:
        """Single tokens that were left out, what was lost most by first."""
        return sorted(
            (omission for omission in self.omissions if omission.stop - omission.start == 1),
            key=lambda omission: -omission.nats,
        )


@dataclass(eq=False)
class SaidToken:
    """Of the token at `key`; `said` is what stands there, `foil` what it is compared with, None until one is known."""

    key: Hashable
    model: str
    prompt: Prompt | None
    names: Names
    said: int
    logprob: float | None
    rank: int | None
    place: str  # 51/175
    table: CandidateTable | None
    recipe: SamplingConfig | None  # that drew it
    foil: int | None = None
    swapped: bool = False
    answers: dict[InsideQuestion[Any], WhyAnswer] = field(default_factory=dict)

    @property
    def target(self) -> int | None:
        """The token that is explained: the one that was said, or the foil where they are swapped."""
        return self.foil if self.swapped else self.said

    @property
    def other(self) -> int | None:
        return self.said if self.swapped else self.foil

    def look(self) -> InsideQuestion[Any]:
        """The question that is open."""
        assert self.target is not None
        return question(Inside.why, self.target, self.other)

    @property
    def answer(self) -> WhyAnswer:
        return self.answers.get(self.look(), NOTHING)

    def take(self, look: InsideQuestion[Any], event: object) -> None:
        """Something was found. Whoever named no foil is told which it is."""
        answer = self.answers.setdefault(look, WhyAnswer())
        answer.take(event)
        if isinstance(event, Why) and look.args[1] is None:
            self.answers[question(Inside.why, event.target, event.foil)] = answer
            self.foil = event.foil if self.foil is None else self.foil

    def swap(self) -> bool:
        """Explain the foil, or again what was said; False while no foil is known."""
        self.swapped = not self.swapped and self.foil is not None
        return self.foil is not None

    def compare(self, token: int) -> bool:
        """Take a token for the foil; False where it is the one that was said."""
        if token == self.said:
            return False
        self.foil, self.swapped = token, False
        return True

    def rows(self) -> Iterator[Candidate]:
        """The token that was said and its foil, with what the model gave them and what they were drawn with."""
        for token in (self.said, self.foil):
            if token is None:
                continue
            known = next((row for row in self.table.rows if row.token == token), None) if self.table else None
            if known is None:
                why = self.answer.why
                shares = dict(zip((why.target, why.foil), why.logprobs, strict=True)) if why is not None else {}
                share = math.exp(shares[token]) if token in shares else 0.0
                known = Candidate(token, self.names.name(token), share, None)
            yield known

    def rank_of(self, token: int) -> str:
        """The rank of one of the two by the model; "" where it is not known."""
        why = self.answer.why
        if token == self.said and self.rank is not None:
            return f"{self.rank:,}"
        known = dict(zip((why.target, why.foil), why.ranks[-1], strict=True)) if why is not None else {}
        return f"{known[token]:,}" if token in known else ""

    def parts(self, most: int) -> list[WrittenPart]:
        """Who wrote the difference, the largest first, the rest in sums."""
        why = self.answer.why
        return written(why.wrote, most) if why is not None else []

    def know(self, reasons: Sequence[Reason]) -> None:
        """Answers that were kept; the foil is the one that was asked for first."""
        for kept in reasons:
            answer = WhyAnswer(kept.why, [*kept.omissions], ended=True)
            self.answers.setdefault(question(Inside.why, kept.why.target, kept.why.foil), answer)
        self.foil = next((kept.why.foil for kept in reasons if kept.why.target == self.said), None)


NOTHING = WhyAnswer()


def said_token(subject: Subject, before: SaidToken | None) -> SaidToken | None:
    """Of the token that is looked at, or `before` where it is the same; None where there is none to explain."""
    at: Inspection | None = subject.at
    if at is None or at.upcoming or at.step is None:
        return None
    askable = subject.model and not subject.waits
    if before is not None and before.key == at.key and before.said == at.step.token:
        before.table = at.table() or before.table
        if askable and before.prompt is None and subject.exact is not None:
            before.model, before.prompt = subject.model, subject.exact().prompt
        return before
    prompt = subject.exact().prompt if askable and subject.exact is not None else None
    place = at.title.rpartition(" ")[2]
    step = at.step
    said = SaidToken(
        at.key, subject.model, prompt, at.names, step.token, step.logprob, step.rank, place, at.table(), at.drawn_by
    )
    said.know(subject.reasons)
    return said
