"""Offer by numbers where a conversation by lines has outgrown its model, or is to be shorter: `app.outgrown`'s ways.

Each way gives the prompt to go on with, another offer (a summary to be kept or edited, a price to be paid), or nothing.
Knows neither the lines' source nor how an answer is shown.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Union

from likely.app.words import context_overflow
from likely.app.words.interruption import stopped_by_signals
from likely.engine.base.errors import ParameterError
from likely.engine.decode.context_extension_cost import pricing
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.session import Session
from likely.engine.sampling.thinking import end_of, opens, spoken, thinking_of
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.models.configuration.rope_scaling import RopeScaling

Outcome = Union["NumberedOffer", Prompt, None]
STOPPED = "stopped: nothing was changed"


@dataclass(frozen=True, slots=True)
class NumberedOffer:
    """A title and ways by number; `otherwise` takes a line that is no number of one."""

    title: str
    ways: tuple[tuple[str, Callable[[], Outcome]], ...]
    otherwise: Callable[[str], Prompt] | None = None

    @property
    def text(self) -> str:
        return "".join(
            f"{line}\n" for line in (self.title, *(f"  {i} {words}" for i, (words, _) in enumerate(self.ways, 1)))
        )

    def take(self, line: str) -> Callable[[], Outcome] | None:
        """The way that a line names; None for a line of something else."""
        if line.isascii() and line.isdigit() and 0 < int(line) <= len(self.ways):
            return self.ways[int(line) - 1][1]
        return partial(self.otherwise, line) if self.otherwise is not None and line[:1] not in ("", "/") else None


def offered(session: Session, question: Prompt, *, diffuses: bool) -> NumberedOffer:
    """The ways on for a prompt that is to be answered. ParameterError where there are none."""
    turns = [(str(m["role"]), str(m["content"])) for m in replace(question, system="").messages]
    asked = [at for at, (role, _) in enumerate(turns) if role == "user"]
    if len(asked) < 2:
        raise ParameterError(context_overflow.NOTHING_BEFORE)
    prompts = [replace(question, turns=question.turns[at:]) for at in asked]
    sizes = [len(prompt.ids(session.tokenizer)) for prompt in prompts]
    at, short = context_overflow.shortening(asked, sizes, session.context)
    alone = diffuses or session.ranks is not None or session.adapted or session.bounded
    name = session.info.name
    verbs: dict[str, Callable[[], Outcome]] = {
        "drop": lambda: prompts[at],
        "sum": lambda: _summary(session, turns[: asked[at]], prompts[at]),
        "stay": lambda: None,
    }
    if not alone and (scaling := context_overflow.enough(name, short.whole, session.context)) is not None:
        verbs["rope"] = partial(_price, session, scaling, question, prompts[at])
    ways = tuple((words, verbs[way]) for way, words in short.ways(name, session.context, diffuses) if way in verbs)
    return NumberedOffer(
        f"{short.whole:,} tokens, and the model reads {session.context:,}: a number, or anything else", ways
    )


def _summary(session: Session, dropped: list[tuple[str, str]], short: Prompt) -> Outcome:
    """A summary of what was said before, by the model, to be kept, or written anew as the next line."""
    most = context_overflow.summary_tokens(session.context)
    tried = (prompt.ids(session.tokenizer) for prompt in context_overflow.summary_prompts(dropped))
    ids = next((ids for ids in tried if len(ids) + most <= session.context), None)
    if ids is None:
        raise ParameterError(f"a summary has no room in {session.context} tokens: nothing was changed")
    control, steps, rest = RunControl(SamplingConfig(greedy=True)), list[TokenStep](), ""
    with stopped_by_signals(control.cancel):
        for event in session.generate(ids, control, max_tokens=most):
            if isinstance(event, Emitted):
                steps.append(event.step)
            elif isinstance(event, Done):
                rest = event.text
    if control.cancelled:
        raise ParameterError(STOPPED)
    opened = opens(end_of(ids, session.tokenizer.piece))
    summary = spoken(steps, rest, opened, thinking_of(session.tokenizer)).strip()
    if not summary:
        raise ParameterError("the model wrote no summary: nothing was changed")

    def kept(words: str) -> Prompt:
        return replace(short, system=context_overflow.with_summary(short.system, words))

    ways: tuple[tuple[str, Callable[[], Outcome]], ...] = (
        ("keep it", lambda: kept(summary)),
        ("leave it", lambda: None),
    )
    return NumberedOffer(f"summary: {' '.join(summary.split())}\na number, or another summary:", ways, kept)


def _price(session: Session, scaling: RopeScaling, question: Prompt, short: Prompt) -> Outcome:
    """The price of a longer RoPE, before it is taken."""
    longer = session.checkpoint.with_rope(scaling)
    whole, left = (prompt.ids(session.tokenizer) for prompt in (question, short))
    control = RunControl()
    with stopped_by_signals(control.cancel):
        price = _until(pricing(session, Session(longer), scaling, whole, left), control)

    def take() -> Prompt:
        session.adopt(longer)
        return question

    title = "\n".join(context_overflow.price_lines(price))
    return NumberedOffer(
        title, ((f"take {scaling.words}: nothing is left out", take), ("leave it as it is", lambda: None))
    )


def _until(pieces: Generator[Any, None, Any], control: RunControl) -> Any:
    """The end of a generator; ParameterError where a person stops it before."""
    while not control.cancelled:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value
    raise ParameterError(STOPPED)
