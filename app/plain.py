"""Text as it is drawn, on any stream: `stream` writes one answer, `converse` is the chat without a screen.

Lines only, so it works over ssh, in pipes and for screen readers. Surprising tokens are tinted where the stream is a
terminal. Ctrl-C between any two tokens stops the answer and keeps the conversation.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from signal import SIGINT
from typing import IO

from likely.app import heat
from likely.app.interruption import stopped_by_signals
from likely.app.limits import Limits
from likely.app.units import bits, predicted
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Event, Prefilled, Reloaded
from likely.engine.decode.texts import GrownText
from likely.engine.diffusion.answering import answered
from likely.engine.errors import DataError, LikelyError
from likely.engine.prompt import Prompt
from likely.engine.session import Session
from likely.engine.statistics.scores import perplexity
from likely.engine.thinking import Kind, MarkSplitter, ThoughtSpan
from likely.engine.trace.step import Recipe, TokenStep

HELP = "/redo draws the last answer again · /new starts over · /system TEXT · /quit ends; ctrl-c stops an answer"

LONGEST_LOOP = 64  # tokens


def stream(
    events: Iterator[Event], out: IO[str], *, special: bool = False, spoken: MarkSplitter | None = None
) -> tuple[list[TokenStep], Done]:
    """Write an answer as it comes, tinted by surprisal where `out` is a terminal; give its steps and its end.

    `spoken` parts what is said from what is thought, which is not written then.
    """
    mode = heat.colour_mode(out)
    written = False
    steps: list[TokenStep] = []
    for event in events:
        if isinstance(event, Emitted):
            step = event.step
            steps.append(step)
            text = shown(step, special)
            if spoken is not None:
                text = said(spoken.push(spoken.thinking.text(step)), written)
                written = written or bool(text)
            surprisal = None if step.logprob is None else bits(-step.logprob)
            out.write(heat.paint(heat.visible(text) if mode != "none" else text, heat.level(surprisal), mode))
            out.flush()
        elif isinstance(event, Done):
            rest = event.text if spoken is None else said(spoken.push(event.text, last=True), written)
            out.write(heat.visible(rest) if mode != "none" else rest)
            out.flush()
            return steps, event
        elif isinstance(event, Reloaded):
            sys.stderr.write(f"{heat.one_line(event.line)}\n")
        elif isinstance(event, Prefilled) and event.total > 2048 and sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[Kreading {event.done} of {event.total} tokens")
            sys.stderr.write("\r\x1b[K" if event.done == event.total else "")
    raise AssertionError("a run ends with Done")


def said(parts: Iterable[tuple[Kind, str]], written: bool) -> str:
    """The words of an answer that are said; blanks before the first are of the thought."""
    text = "".join(text for kind, text in parts if kind == "said")
    return text if written else text.lstrip()


def shown(step: TokenStep, special: bool) -> str:
    """A token's text for a person; control tokens only with `special`."""
    return step.piece.decode(errors="replace") if special and step.special else step.text


def shown_text(text: GrownText, special: bool) -> str:
    """An answer for a person, as far as it has come."""
    return "".join(shown(step, special) for step in text.steps) + (text.done.text if text.done is not None else "")


def summary(steps: Sequence[TokenStep], done: Done) -> str:
    """One line about a run: tokens, perplexity under the model's own distribution, speed."""
    stats = done.stats
    period = endless([step.token for step in steps])
    looped = f" · repeats its last {period} token{'s' if period > 1 else ''} without end" if period else ""
    value = perplexity(s.logprob for s in steps)
    known = sum(step.logprob is not None for step in steps)
    scored = "" if value is None else f" · perplexity {value:.2f} ({predicted(known, len(steps))})"
    scored += _thought(steps)
    return (
        f"{stats.prompt_tokens} prompt tokens ({stats.reused_tokens} reused) in {stats.prefill_s:.2f} s · "
        f"{stats.tokens} tokens at {stats.tokens_per_s:.1f}/s{scored} · {done.reason}{looped}"
    )


def _thought(steps: Sequence[TokenStep]) -> str:
    """Perplexities of thought and answer apart: where does the model decide?"""
    found = ThoughtSpan()
    for step in steps:
        found.push(step.written)
    if found.span is None:
        return ""
    words = []
    for name, part in (("thought", steps[: found.span[1]]), ("answer", steps[found.span[1] :])):
        value = perplexity(step.logprob for step in part)
        words += [f"{name} {len(part)}" + ("" if value is None else f" at perplexity {value:.2f}")] if part else []
    return " · " + ", ".join(words) + ("" if found.closed else ": the thought has no end, there is no answer")


def endless(tokens: Sequence[int]) -> int:
    """The length of what the last tokens repeat, 0 where they do not: at least 4 times, and 32 tokens in all."""
    for period in range(1, min(LONGEST_LOOP, len(tokens) // 4) + 1):
        tail = tokens[-max(4 * period, 32) :]
        if len(tail) >= 32 and all(a == b for a, b in zip(tail, tail[period:], strict=False)):
            return period
    return 0


def converse(
    session: Session, recipe: Recipe, limits: Limits, *, system: str | None = None, masks: int | None = None
) -> None:
    """Read a message a line, write an answer; ends with the input or /quit. `masks` are those of an answer by a
    diffusion model, whose tokens come all at once."""
    terminal = sys.stdin.isatty()
    prompt = Prompt(system=system or "")
    if terminal:
        sys.stderr.write(f"{heat.one_line(session.info.name)} · {HELP}\n")
    seed = limits.seed
    while (line := _line(session, terminal)) is not None:
        text = line.strip()
        if text == "/quit":
            return
        if text == "/new":
            prompt = Prompt(system=prompt.system)
            continue
        if text.startswith("/system"):
            prompt = Prompt(system=text.removeprefix("/system").strip())
            continue
        if text == "/redo":
            if not prompt.turns:
                sys.stderr.write("there is no answer to draw again yet\n")
                continue
            question = replace(prompt, turns=prompt.turns[:-1])
            seed += 1
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
            if getattr(session.model.config, "diffusion", None) is None:
                events = session.generate(ids, control, seed=seed, max_tokens=limits.max_tokens, stop=limits.stop)
            else:
                events = answered(session, ids, control, seed=seed, max_tokens=masks or 0, stop=limits.stop)
            with stopped_by_signals(control.cancel) as interruption:
                steps, done = stream(events, sys.stdout)
        except LikelyError as error:
            sys.stderr.write(f"likely: {heat.one_line(str(error))}\n")
            continue
        answer = "".join(s.text for s in steps) + done.text
        prompt = replace(question, turns=(*question.turns, ("assistant", answer)))
        sys.stdout.write("\n")
        sys.stdout.flush()
        if terminal:
            sys.stderr.write(f"[{summary(steps, done)}]\n")
        if interruption.came not in (0, SIGINT):  # an answer is not all that it ends
            return


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
