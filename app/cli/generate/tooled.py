"""Answers of `likely run` with tools: each call is shown and waits for a yes, its result is read, until none is made.

The servers' programs, files and network are their own; what is asked here is whether a call is made at all.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.cli.generate import text_chat
from likely.app.cli.generate.answers import say_kept
from likely.app.cli.options.tool_options import ToolsAsked
from likely.app.store.run_trace import run_trace
from likely.app.tools.consent import Consent, Consents
from likely.app.words import heat
from likely.app.words.interruption import INTERRUPTED, interrupt, stopped_by_signals
from likely.app.words.units import bits, json_line
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import ParameterError
from likely.engine.base.files.home import home
from likely.engine.chat.tools.tool import Tool, ToolCall, ToolResult
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.loop.texts import answer_events
from likely.engine.sampling.thinking import Kind, without_thought
from likely.engine.sampling.trace.fields import step_object
from likely.engine.sampling.trace.run_trace import Trace

if TYPE_CHECKING:
    from likely.app.tools.servers import ToolServers
    from likely.app.words.limits import Limits
    from likely.engine.chat.tools.use import ToolAnswer, ToolUse
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.decode.prompt import Prompt, Turn
    from likely.engine.decode.session import Session
    from likely.engine.sampling.trace.step import SamplingConfig, TokenStep

SHOWN = 2000  # characters of arguments, and of a result, on a terminal
NO = ToolResult("the person did not allow this call", is_error=True)
TAKEN_BACK = ToolResult("the call was taken back", is_error=True)


class ToolDesk:
    """The servers and the person: lists, asks, calls."""

    def __init__(self, servers: "ToolServers", asked: ToolsAsked, *, as_json: bool) -> None:
        self._servers, self._asked, self._as_json = servers, asked, as_json
        self._consents = Consents(home())
        self._told: dict[str, str] = {}
        self.tools: tuple[Tool, ...] = ()

    def listed(self) -> tuple[Tool, ...]:
        """The tools that are there now. What has changed since is said on stderr."""
        offered = whole(self._servers.listing())
        for name, line in self._servers.faults.items():
            if self._told.get(name) != line:
                click.echo(heat.sanitize_line(f"likely: tool server {name}: {line}"), err=True)
        self._told = dict(self._servers.faults)
        self._tell_news()
        tools = self._asked.among(offered) if self.tools else self._asked.chosen(offered)
        if self.tools and tools != self.tools:
            click.echo(f"likely: the tools are others now: {', '.join(t.name for t in tools) or 'none'}", err=True)
        self.tools = tools
        return tools

    def check(self) -> None:
        """ParameterError where a call would have to be asked for and nobody can be asked."""
        if sys.stdin.isatty() and sys.stderr.isatty():
            return
        if open_ := [tool.name for tool in self.tools if not self._allowed(tool)]:
            raise ParameterError(
                f"each call waits for a yes, and nobody can be asked here: say --yes {open_[0]}, or offer others"
            )

    def answer(self, call: ToolCall, control: RunControl) -> ToolResult:
        """The result of a call, if the person agrees."""
        tool = next((tool for tool in self.tools if tool.name == call.name), None)
        if tool is None:
            return ToolResult(f"there is no tool {call.name}", is_error=True)
        try:
            with stopped_by_signals(interrupt):  # a question sees no `control`
                consent = self._consent(tool, call)
        except KeyboardInterrupt:
            control.cancel()
            return TAKEN_BACK
        if self._as_json:
            click.echo(json_line({"consent": consent.value, "tool": tool.name}))
        if consent is Consent.NO:
            return NO
        waiting = self._servers.calling(tool, call)
        while True:
            try:
                next(waiting)
            except StopIteration as end:
                result: ToolResult = end.value
                self._tell_news()
                return result
            if control.cancelled:
                waiting.close()
                return TAKEN_BACK

    def _tell_news(self) -> None:
        for line in self._servers.news():
            click.echo(heat.sanitize_line(f"likely: {line}"), err=True)

    def _allowed(self, tool: Tool) -> bool:
        return tool.name in self._asked.allowed or self._consents.holds(self._servers.specs[tool.server].key(tool))

    def _consent(self, tool: Tool, call: ToolCall) -> Consent:
        if self._allowed(tool):
            return Consent.ONCE
        spec = self._servers.specs[tool.server]
        click.echo(heat.visible(f"{tool.name} of {tool.server} ({spec.where}) is to be called with"), err=True)
        for name, value in call.arguments.items():
            click.echo(f"  {heat.visible(name)} = {shortened(json.dumps(value, ensure_ascii=False))}", err=True)
        words = {"o": Consent.ONCE, "c": Consent.CONVERSATION, "a": Consent.ALWAYS, "n": Consent.NO}
        try:
            letter = click.prompt(
                "yes: once (o), as long as this runs (c), always (a); or no (n)",
                type=click.Choice([*words]), show_choices=False, err=True,
            )  # fmt: skip
        except click.Abort:
            raise KeyboardInterrupt from None
        consent = words[letter]
        self._consents.give(spec.key(tool), consent, f"{tool.name} of {tool.server}: {spec.where}")
        return consent


def shortened(text: str) -> str:
    """A text for a terminal, its end told by its length."""
    shown = heat.visible(text[:SHOWN])
    return shown if len(text) <= SHOWN else f"{shown} … and {len(text) - SHOWN:,} characters more"


def show_tooled(
    session: "Session",
    turns: "Sequence[Turn]",
    desk: ToolDesk,
    asked: ToolsAsked,
    *,
    system: str,
    thinking: bool | None,
    recipe: "SamplingConfig",
    limits: "Limits",
    strategy: "Strategy",
    forced: Sequence[int],
    as_json: bool,
    quiet: bool,
    hide_thinking: bool,
    save: Path | None,
) -> None:
    """Answers until one calls nothing, on stdout; calls, results and figures on stderr, or with `as_json` all as
    objects. Exit code 130 if the person stopped it."""
    from likely.engine.chat.tools.use import ToolUse

    conversation, made, traces = tuple(turns), 0, list[Trace]()
    tokenizer, control = session.tokenizer, RunControl(recipe)
    use = ToolUse.of(tokenizer, desk.tools)
    if use.format is None and not quiet:
        click.echo(
            f"likely: the chat template of {session.info.name} has no calls of tools that can be read: "
            "they are told in words, and a grammar binds the answer",
            err=True,
        )
    with stopped_by_signals(control.cancel):
        try:
            while True:
                ids = use.prompt(conversation, system, thinking).ids(tokenizer)
                if use.format is None:
                    ids = without_thought(ids, tokenizer)
                control.recipe = recipe
                if (bound := use.constraint(len(ids))) is not None:
                    control.recipe = replace(recipe, transforms=(bound, *recipe.transforms))
                control.force([] if made else list(forced))
                steps, done = _drawn(session, use, ids, control, limits, strategy, as_json, hide_thinking)
                traces.append(run_trace(session, ids, steps, limits.seed, done.reason))
                answer = use.answer(ids, steps, done.text, tokenizer)
                if use.format is None and not as_json:
                    sys.stdout.write(heat.visible(answer.said) if sys.stdout.isatty() else answer.said)
                if answer.said and not as_json:
                    click.echo()
                if asked.law and not control.cancelled:
                    _tell_law(session, use, ids, steps, answer, as_json)
                if answer.problem and not quiet:
                    click.echo(heat.sanitize_line(f"likely: {answer.problem}"), err=True)
                if as_json:
                    click.echo(json_line({"finish": done.reason, "seed": limits.seed, **asdict(done.stats)}))
                elif not quiet:
                    click.echo(f"{text_chat.summary(steps, done)} · seed {limits.seed}", err=True)
                if control.cancelled or not answer.calls:
                    break
                if made + len(answer.calls) > asked.max_calls:
                    click.echo(f"likely: it calls again, and --max-calls is {asked.max_calls}", err=True)
                    break
                results = [_called(call, desk, control, steps, answer, as_json, quiet) for call in answer.calls]
                made += len(results)
                if control.cancelled:
                    break
                said = use.turns(answer, results, tokenizer)
                conversation = (*conversation, *said)
                use = ToolUse(desk.listed(), use.format)
                _tell_results(session, use.prompt(conversation, system, thinking), len(said) - 1, as_json, quiet)
        finally:
            if save is not None and traces:
                from likely.engine.sampling.trace import file

                file.save(traces, save)
    if control.cancelled:
        say_kept(save)
        sys.exit(INTERRUPTED)


def _drawn(
    session: "Session", use: "ToolUse", ids: list[int], control: RunControl, limits: "Limits", strategy: "Strategy",
    as_json: bool, hide_thinking: bool,
) -> "tuple[list[TokenStep], Done]":  # fmt: skip
    events = session.generate(
        ids, control, seed=limits.seed, max_tokens=limits.max_tokens, stop=limits.stop, strategy=strategy
    )
    if strategy.SEARCHES:
        events = answer_events(events)
    if not as_json and use.format is not None:
        kinds: tuple[Kind, ...] = ("said",) if hide_thinking else ("said", "thought")
        return text_chat.stream(events, sys.stdout, parting=use.splitter(ids, session.tokenizer), kinds=kinds)
    steps = list["TokenStep"]()
    for event in events:
        if isinstance(event, Emitted):
            steps.append(event.step)
            if as_json:
                click.echo(json_line(step_object(event.step)))
        elif isinstance(event, Done):
            return steps, event
    raise AssertionError("a run ends with Done")


def _called(
    call: ToolCall, desk: ToolDesk, control: RunControl, steps: "Sequence[TokenStep]", answer: "ToolAnswer",
    as_json: bool, quiet: bool,
) -> ToolResult:  # fmt: skip
    from likely.engine.chat.tools.tool_prompt import call_fields

    logprobs = [step.logprob for step in steps]
    fields = call_fields(call, [step.written for step in steps], logprobs, answer.choice)
    if as_json:
        click.echo(json_line({"call": {**asdict(call), "fields": [asdict(field) for field in fields]}}))
    elif not quiet:
        costs = ", ".join(f"{heat.sanitize_line(field.name)} {bits(-field.logprob):.1f}" for field in fields)
        click.echo(f"→ {shortened(str(call))}{costs and f' · bits: {costs}'}", err=True)
    result = TAKEN_BACK if control.cancelled else desk.answer(call, control)
    if as_json:
        click.echo(json_line({"result": asdict(result)}))
    elif not quiet:
        cut = f" … and {result.cut:,} characters that the model does not read" if result.cut else ""
        click.echo(f"← {'error: ' if result.is_error else ''}{shortened(result.text)}{cut}", err=True)
    return result


def _tell_law(
    session: "Session",
    use: "ToolUse",
    ids: list[int],
    steps: "Sequence[TokenStep]",
    answer: "ToolAnswer",
    as_json: bool,
) -> None:
    if (law := whole(use.choosing(session, ids, steps, answer))) is None:
        raise ParameterError("--law: this chat template does not show how it has a call written")
    if as_json:
        click.echo(json_line({"law": law.as_dict(), "bound": use.format is None}))
        return
    rest = [("a call of another form", law.other), ("no call", law.none)] if use.format is not None else []
    shown = sorted(((p, name) for name, p in [*law.tools, *rest]), reverse=True)
    words = " · ".join(f"{_share(p)} {name}" for p, name in shown)
    click.echo(f"choice: {words} · undecided {_share(law.undecided)}", err=True)


def _tell_results(session: "Session", prompt: "Prompt", messages: int, as_json: bool, quiet: bool) -> None:
    """How surprising the results were, in the prompt that ends with them."""
    if quiet and not as_json:
        return
    from likely.engine.chat.tools.tool_prompt import hearing

    for heard in whole(hearing(session, prompt, messages)).results:
        if as_json:
            click.echo(json_line({"heard": asdict(heard)}))
            continue
        of = "" if heard.measured == heard.tokens else f" of the first {heard.measured}"
        click.echo(f"  {heard.tokens} tokens, {bits(-heard.logprob):.1f} bits{of} under the model", err=True)


def _share(p: float) -> str:
    return f"{p:.1%}" if p >= 1e-3 or not p else f"{p:.0e}" if not math.isnan(p) else "?"
