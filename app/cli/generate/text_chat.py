"""Text as it is drawn, on any stream: `stream` writes one answer, `converse` is the chat without a screen.

Lines only, so it works over ssh, in pipes and for screen readers. Surprising tokens are tinted where the stream is a
terminal. Ctrl-C between any two tokens stops the answer and keeps the conversation.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from signal import SIGINT
from typing import IO, TYPE_CHECKING

from likely.app.words import heat
from likely.app.words.interruption import stopped_by_signals
from likely.app.words.limits import Limits
from likely.app.words.units import bits, predicted
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import ContextOverflow, DataError, LikelyError, ParameterError
from likely.engine.base.statistics.scores import perplexity, total
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Event, Prefilled, Reloaded
from likely.engine.decode.loop.texts import GrownText
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.session import Session
from likely.engine.sampling.thinking import Kind, MarkSplitter, Thinking, end_of, opens, spoken, thinking_of
from likely.engine.sampling.thought_information import ThoughtInformation, informing, part_figures, span_of
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.weights.adapters.attached import change

if TYPE_CHECKING:
    from likely.app.cli.generate.text_chat_overflow import NumberedOffer, Outcome

ALSO = {  # as the full screen takes them, too
    "/exit": "/quit", "/bye": "/quit", "/q": "/quit", "/clear": "/new", "/retry": "/redo", "/?": "/help",
}  # fmt: skip
HELP = (
    "/redo draws the last answer again · /new starts over · /system TEXT · /adapter NAME, 0.5, off · /compact makes "
    "room · /quit ends; ctrl-c stops an answer"
)

SAID: tuple[Kind, ...] = ("said",)
LONGEST_LOOP = 64  # tokens


def stream(
    events: Iterator[Event],
    out: IO[str],
    *,
    special: bool = False,
    parting: MarkSplitter | None = None,
    marks: Thinking | None = None,
    kinds: Collection[Kind] = SAID,
) -> tuple[list[TokenStep], Done]:
    """Write an answer as it comes, tinted by surprisal where `out` is a terminal; give its steps and its end.

    `parting` parts what is said from what is thought, which is not among the `kinds` that are written then; else it
    stands between its `marks`.
    """
    mode = heat.colour_mode(out)
    written = False
    steps: list[TokenStep] = []
    for event in events:
        if isinstance(event, Emitted):
            step = event.step
            steps.append(step)
            text = shown(step, special, marks)
            if parting is not None:
                text = said(parting.push(parting.text(step)), written, kinds)
                written = written or bool(text)
            surprisal = None if step.logprob is None else bits(-step.logprob)
            out.write(heat.paint(heat.visible(text) if mode != "none" else text, heat.level(surprisal), mode))
            out.flush()
        elif isinstance(event, Done):
            rest = event.text if parting is None else said(parting.push(event.text, last=True), written, kinds)
            out.write(heat.visible(rest) if mode != "none" else rest)
            out.flush()
            return steps, event
        elif isinstance(event, Reloaded):
            sys.stderr.write(f"{heat.sanitize_line(event.line)}\n")
        elif isinstance(event, Prefilled) and event.total > 2048 and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[Kreading {event.done} of {event.total} tokens")
            sys.stderr.write("\r\x1b[K" if event.done == event.total else "")
    raise AssertionError("a run ends with Done")


def said(parts: Iterable[tuple[Kind, str]], written: bool, kinds: Collection[Kind] = SAID) -> str:
    """The words of an answer that are said, or of other `kinds`; blanks before the first are of the thought."""
    text = "".join(text for kind, text in parts if kind in kinds)
    return text if written else text.lstrip()


def shown(step: TokenStep, special: bool, marks: Thinking | None = None) -> str:
    """A token's text for a person; control tokens only with `special`, or where they are of a thought's `marks`."""
    if special or marks is None:
        return step.written if special else step.text
    return marks.text(step)


def shown_text(text: GrownText, special: bool, marks: Thinking | None = None) -> str:
    """An answer for a person, as far as it has come."""
    rest = text.done.text if text.done is not None else ""
    return "".join(shown(step, special, marks) for step in text.steps) + rest


def summary(
    steps: Sequence[TokenStep], done: Done, opened: bool = False, information: ThoughtInformation | None = None
) -> str:
    """One line about a run: tokens, perplexity under the model's own distribution, speed; of one that thought (its
    prompt may have `opened` the thought) both apart, and what that says of the answer."""
    stats = done.stats
    period = endless([step.token for step in steps])
    looped = f" · repeats its last {period} token{'s' if period > 1 else ''} without end" if period else ""
    value = perplexity(s.logprob for s in steps)
    known = sum(step.logprob is not None for step in steps)
    scored = "" if value is None else f" · perplexity {value:.2f} ({predicted(known, len(steps))})"
    scored += _thought(steps, opened, information)
    return (
        f"{stats.prompt_tokens} prompt tokens ({stats.reused_tokens} reused) in {stats.prefill_s:.2f} s · "
        f"{stats.tokens} tokens at {stats.tokens_per_s:.1f}/s{scored} · {done.reason}{looped}"
    )


def _thought(steps: Sequence[TokenStep], opened: bool, information: ThoughtInformation | None) -> str:
    """Figures of thought and answer apart: where does the model decide?"""
    words = []
    for name, part in (found := part_figures(steps, opened)).items():
        figure = "" if part.perplexity is None else f" at perplexity {part.perplexity:.2f}"
        words += [f"{name} {part.tokens}{figure}"] if part.tokens else []
    if not words:
        return ""
    cut = "" if found["answer"].tokens or span_of(steps, opened).closed else NO_ANSWER
    told = "" if information is None else f"; {surprises(information)}"
    return " · " + ", ".join(words) + told + cut


NO_ANSWER = ": the thought has no end, there is no answer"


def surprises(information: ThoughtInformation) -> str:
    """The surprise of an answer given its thought and without it, in words."""
    given, without = (bits(-total(logprobs)) for logprobs in (information.given, information.without))
    return f"the answer has {given:.1f} bits behind its thought, {without:.1f} without it"


def endless(tokens: Sequence[int]) -> int:
    """The length of what the last tokens repeat, 0 where they do not: at least 4 times, and 32 tokens in all."""
    for period in range(1, min(LONGEST_LOOP, len(tokens) // 4) + 1):
        tail = tokens[-max(4 * period, 32) :]
        if len(tail) >= 32 and all(a == b for a, b in zip(tail, tail[period:], strict=False)):
            return period
    return 0


def converse(
    session: Session, recipe: SamplingConfig, limits: Limits, *, system: str | None = None, masks: int | None = None
) -> None:
    """Read a message a line, write an answer; ends with the input or /quit. `masks` are those of an answer by a
    diffusion model, whose tokens come all at once."""
    terminal = sys.stdin.isatty()
    prompt, diffuses = Prompt(system=system or ""), getattr(session.model.config, "diffusion", None) is not None
    if terminal:
        sys.stderr.write(f"{heat.sanitize_line(session.info.name)} · {HELP}\n")
    seed, marks = limits.seed, thinking_of(session.tokenizer)
    offer: NumberedOffer | None = None
    while (line := _line(session, terminal)) is not None:
        text = line.strip()
        text = ALSO.get(text, text)
        if text == "/quit":
            return
        way, offer = None if offer is None else offer.take(text), None
        if text == "/compact":
            way = partial(_offered, session, prompt, diffuses)
        if way is not None:
            outcome = _outcome(way)
            if not isinstance(outcome, Prompt):
                offer = outcome
                continue
            if len(outcome.turns) % 2 == 0:  # there is nothing to answer: it was made shorter
                prompt = outcome
                sys.stderr.write("the conversation is shorter now\n")
                continue
            question = outcome
        elif text == "/new":
            prompt = Prompt(system=prompt.system)
            continue
        elif text == "/help":
            sys.stderr.write(f"{HELP}\n")
            continue
        elif text.split()[:1] == ["/system"]:
            prompt = Prompt(system=text.removeprefix("/system").strip())
            continue
        elif text == "/redo":
            if not prompt.turns:
                sys.stderr.write("there is no answer to draw again yet\n")
                continue
            question = replace(prompt, turns=prompt.turns[:-1])
            seed += 1
        elif text.split()[:1] == ["/adapter"]:
            try:
                line = adapted(session, text.removeprefix("/adapter").strip())
            except LikelyError as error:
                line = f"likely: {error}"
            sys.stderr.write(f"{heat.sanitize_line(line)}\n")
            continue
        elif text.split()[:1] == ["/tools"]:
            sys.stderr.write("tools are for the full screen and `likely run --tools`: line by line none is called\n")
            continue
        elif text.startswith("/"):
            sys.stderr.write(f"unknown command {heat.visible(text.split()[0])}: {HELP}\n")
            continue
        elif text:
            question = replace(prompt, turns=(*prompt.turns, ("user", text)))
        else:
            continue
        try:
            ids = question.ids(session.tokenizer)
            control = RunControl(recipe)
            events: Iterator[Event]
            if not diffuses:
                events = session.generate(ids, control, seed=seed, max_tokens=limits.max_tokens, stop=limits.stop)
            else:
                from likely.engine.diffusion.answering import answered

                events = answered(session, ids, control, seed=seed, max_tokens=masks or 0, stop=limits.stop)
            with stopped_by_signals(control.cancel) as interruption:
                steps, done = stream(events, sys.stdout, marks=marks)
        except LikelyError as error:
            sys.stderr.write(f"likely: {heat.sanitize_line(str(error))}\n")
            if isinstance(error, ContextOverflow):
                ways = _outcome(partial(_offered, session, question, diffuses))
                offer = None if isinstance(ways, Prompt) else ways
            continue
        opened, found = opens(end_of(ids, session.tokenizer.piece)), None
        prompt = replace(question, turns=(*question.turns, ("assistant", spoken(steps, done.text, opened, marks))))
        sys.stdout.write("\n")
        sys.stdout.flush()
        if terminal:
            if not (diffuses or control.cancelled):
                found = whole(informing(session, ids, steps, opened))
            sys.stderr.write(f"[{summary(steps, done, opened, found)}]\n")
        if interruption.came not in (0, SIGINT):  # an answer is not all that it ends
            return


def _outcome(way: "Callable[[], Outcome]") -> "Outcome":
    """The outcome of a way on; an offer, and why there is none, are said."""
    try:
        outcome = way()
    except LikelyError as error:
        sys.stderr.write(f"likely: {heat.sanitize_line(str(error))}\n")
        return None
    if outcome is not None and not isinstance(outcome, Prompt):
        sys.stderr.write(heat.visible(outcome.text))
    return outcome


def _offered(session: Session, question: Prompt, diffuses: bool) -> "NumberedOffer":
    from likely.app.cli.generate.text_chat_overflow import offered  # not for every answer

    return offered(session, question, diffuses=diffuses)


def adapted(session: Session, text: str) -> str:
    """Change the adapters on a session's model by a line, without one nothing; what is on it then, in words.

    Raises what `engine.adapters.attached.change` and `engine.attach.stack.Stack` raise.
    """
    from likely.engine.train.attach.stack import stack_of  # training's imports are not for every chat

    stack = stack_of(session)
    if text and session.ranks is not None:
        raise ParameterError("/adapter is for one process: likely fuse makes the adapter part of the model first")
    if text:
        stack.change(*change(text, [one.name for one in stack.attached]))
    return ", ".join(f"{one.name} {one.weight:g}" for one in stack.attached) or "no adapter is on the model"


def _line(session: Session, terminal: bool) -> str | None:
    """The next line, None at the end; of several ranks, rank 0's on each."""
    if session.ranks is None:
        return _read_line(terminal)
    line: str | None = session.ranks.broadcast(_read_line(terminal) if session.ranks.leads else None)
    return line


def _read_line(terminal: bool) -> str | None:
    if terminal:
        sys.stderr.write("> ")
        sys.stderr.flush()
    try:
        line = sys.stdin.buffer.readline()
        return line.decode("utf-8") if line else None
    except UnicodeDecodeError as error:
        raise DataError(f"standard input must be UTF-8: {error.reason} at byte {error.start} of a line") from None
    except KeyboardInterrupt:
        return None
