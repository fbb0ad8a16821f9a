"""Probes of a model in training: prompts that are watched, a text that is held out, questions.

Requests leave through `send`; what is answered is kept. Plain data; how it is shown is the panel's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from likely.app.tui.base.text.block import MessageBlock
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.candidates import CandidateTable, Names
from likely.app.tui.training import drift
from likely.app.tui.training.answers import Answers
from likely.engine.train.control import (
    Compare,
    Compared,
    Complete,
    Completion,
    Ended,
    Refused,
    Request,
    TrainingPlan,
    Validated,
)

TOP = 10  # tokens named at each place
NOT_YET = "measured at every validation, and with w"


@dataclass(frozen=True, slots=True)
class ProbeView:
    """One place: what it is, the words before it, when it was measured, and its candidates."""

    what: str
    before: str
    step: int | None
    pending: bool
    view: CandidateTable | None


@dataclass
class Probes:
    """The questions of one run, and their answers."""

    send: Callable[[Request], None] = lambda request: None
    base: bool = True  # there is a model before training, to be compared with
    names: Names = field(default_factory=Names)
    answers: Answers = field(default_factory=Answers)
    prompts: list[Compare] = field(default_factory=list)
    at: int = 0  # the prompt that is looked at
    text: Compare = field(default_factory=lambda: Compare(top=TOP))
    compared: dict[Compare, Compared] = field(default_factory=dict)
    pending: set[Request] = field(default_factory=set)
    chat: bool = True  # prompts go through the chat template
    always: bool = False  # the last question is asked again at every validation

    def take(self, event: Any) -> None:
        """One more event of the run."""
        match event:
            case TrainingPlan():
                self.names, self.chat = Names(event.vocabulary), event.chat
                self.prompts = [Compare(text, event.chat, TOP) for text in event.prompts]
                self.compare()
            case Validated():
                self.compare()
                if self.always:
                    self.repeat()
            case Ended():
                self.compare()
            case Completion(_, request):
                self.pending.discard(request)
                self.answers.take(event)
            case Compared(_, request):
                self.pending.discard(request)
                self.compared[request] = event
            case Refused(_, request):
                self.pending.discard(request)

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Once, until it is answered."""
        if request not in self.pending:
            self.pending.add(request)
            self.send(request)

    def compare(self) -> None:
        """Measure what has moved, after the step that is being taken; where there is a base."""
        if not self.base:
            return
        for request in (*self.prompts[self.at : self.at + 1], self.text):
            self.ask(request)

    def question(self, text: str) -> None:
        self.answers.question = Complete(text, chat=self.chat)
        self.ask(self.answers.question)

    def repeat(self, base: bool = False) -> bool:
        """Ask the last question again, or ask it of the base; gives whether there was one."""
        if self.answers.question is None:
            return False
        self.ask(replace(self.answers.question, base=base))
        return True

    def turn(self, by: int) -> None:
        """Look at another of the prompts."""
        if self.prompts:
            self.at = (self.at + by) % len(self.prompts)
            if self.prompts[self.at] not in self.compared:
                self.ask(self.prompts[self.at])

    def watch(self, text: str) -> None:
        """Look at what follows another prompt."""
        self.prompts.append(Compare(text, self.chat, TOP))
        self.at = len(self.prompts) - 1
        self.compare()

    def hold(self, text: str) -> None:
        """Measure along another text; "" is the first row that is set aside."""
        self.text = Compare(text, False, TOP)
        self.compare()

    def reframe(self) -> None:
        """Put prompts through the chat template, or as plain beginnings of a text."""
        self.chat = not self.chat
        self.prompts = [replace(prompt, chat=self.chat) for prompt in self.prompts]
        self.compare()

    # -- what is seen ------------------------------------------------------------------------------------------------

    @property
    def along(self) -> Compared | None:
        """The drift along the held-out text."""
        return self.compared.get(self.text)

    def block(self) -> MessageBlock | None:
        """The held-out text with its heat."""
        who = "text" if self.text.text else "held out"
        return drift.block(self.along, self.names, who) if self.along is not None else None

    def outlook(self, in_text: TokenPlace | None, in_answer: TokenPlace | None) -> ProbeView:
        """The token under a cursor, in an answer or in the text; else what follows the prompt that is looked at."""
        if in_answer is not None:
            return ProbeView("answer", "as the model drew it", None, False, self.answers.view(in_answer, self.names))
        if in_text is not None and self.along is not None:
            tokens = [position.token for position in self.along.difference.positions[: in_text.token]]
            before = "".join(drift.text(tokens, self.names))
            return self._outlook("along the text", before, self.along, in_text.token, live=False)
        prompt = self.prompts[self.at] if self.prompts else None
        if prompt in self.compared and prompt is not None:
            what = f"prompt {self.at + 1}/{len(self.prompts)}"
            return self._outlook(what, prompt.text, self.compared[prompt], None)
        if self.along is not None:
            return self._outlook("after the text", "", self.along, None)
        return ProbeView("", "" if self.pending else NOT_YET, None, bool(self.pending), drift.NOTHING)

    def _outlook(
        self, what: str, before: str, compared: Compared, token: int | None, *, live: bool = True
    ) -> ProbeView:
        at = len(compared.difference.positions) if token is None else token
        view = drift.view(compared.difference, at, self.names, live=live)
        return ProbeView(what, before, compared.step, compared.request in self.pending, view)
