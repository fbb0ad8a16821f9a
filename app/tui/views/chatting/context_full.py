"""The offer where a conversation has outgrown its model: to go on without its oldest messages, with a summary, or with
a longer RoPE, whose price is measured first.

Shortened it goes on as a copy, and the whole one stays among the conversations; with a longer RoPE it is the same one.
What is left out, and how many tokens the rest has by the model's own template, is said before.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.tui.base.context import before
from likely.app.tui.views.chatting.chat_parts import ChatParts
from likely.app.tui.widgets.lists.dialog import Dialog
from likely.app.tui.widgets.lists.overlays import Pick
from likely.app.words import context_overflow
from likely.app.words.context_overflow import Shortening
from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.chat.conversation import Conversation, Fork, Message
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.thinking import answer_tokens
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.models.configuration.rope_scaling import KINDS, MARK, RopeScaling, apart


def offered(screen: ChatParts, failure: Failed) -> None:
    """Offer it where a run has failed since there was no room."""
    if isinstance(failure.error, ContextOverflow):
        offer(screen)


def offer(screen: ChatParts) -> None:
    """Have a person choose how a conversation goes on that has no room, or that is to be shorter."""
    chat, facts = screen.chat, screen.host.engine.current
    talk = chat.conversation
    messages = talk.messages()
    asked = [at for at, message in enumerate(messages) if message.role == "user"]
    if facts is None or chat.running or len(asked) < 2:
        screen.hints.say(
            "no model is loaded" if facts is None else "an answer is under way" if chat.running
            else context_overflow.NOTHING_BEFORE, True
        )  # fmt: skip
        return
    copies = [_copy(talk, at) for at in asked]
    prompts = tuple(_prompt(copy) for copy in copies)

    def sized(job: int, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Failed):
                screen.hints.say(event.line, alarm=True)
            elif chat is screen.chat and not chat.running:
                at, short = context_overflow.shortening(asked, event, facts.context)
                _choose(screen, messages[: asked[at]], copies[at], short, (prompts[0], prompts[at]))

    screen.host.engine.submit(call(calls.sizes, facts.name, prompts), sized)


def _copy(talk: Conversation, at: int) -> Conversation:
    """The conversation from a message on, without a last answer of which there is nothing."""
    messages = talk.messages()
    return talk.cut(at, len(messages) - (not messages[-1].text), secrets.token_hex(4))


def _prompt(talk: Conversation) -> Prompt:
    return before(talk, Fork(talk.leaf.id)) if talk.leaf is not None else Prompt()


def _choose(
    screen: ChatParts, dropped: Sequence[Message], talk: Conversation, short: Shortening, texts: tuple[Prompt, Prompt]
) -> None:
    facts = screen.host.engine.current
    assert facts is not None
    title = f"{short.whole:,} tokens, and the model reads {facts.context:,}"

    def chosen(way: str | None) -> None:
        if way == "drop":
            _open(screen, talk)
            _answer(screen)
            many = f"the oldest {short.dropped} messages"
            _say(screen, f"a copy without {many}: the whole conversation is among the others (^o)")
        elif way == "sum":
            _summarise(screen, dropped, talk)
        elif way == "rope" and (scaling := context_overflow.enough(facts.name, short.whole, facts.context)):
            _price(screen, scaling, texts)

    ways = short.ways(facts.name, facts.context, facts.mask is not None, facts.bounded)
    screen.app.push_screen(Pick(title, ways), chosen)


def _answer(screen: ChatParts) -> None:
    """Answer the last message, where it was not."""
    messages = (talk := screen.chat.conversation).messages()
    if messages and (messages[-1].role in ("user", "tool") or not messages[-1].text):
        last = messages[-1].last
        asked = last.role in ("user", "tool")
        if not asked:  # an answer that had no room is none
            screen.chat.conversation = talk.prune(last.fork, last.id)
        screen.chat.answer(Fork(last.id) if asked else last.fork)
        screen.begun(True)


def stop(screen: ChatParts) -> bool:
    """Break off a summary or a measurement; gives whether there was one."""
    control, screen.aside = screen.aside, None
    if control is None or control.cancelled:
        return False
    control.cancel()
    screen.hints.say("stopped: nothing was changed")
    return True


# -- a longer RoPE ----------------------------------------------------------------------------------------------------


def rope(screen: ChatParts, text: str) -> None:
    """Measure the price of a scaling, and take it where a person says so; `off` is none. Raises ParameterError where
    that cannot be now, ConfigError for no scaling."""
    facts, talk = screen.host.engine.current, screen.chat.conversation
    if facts is None or screen.chat.running:
        raise ParameterError("no model is loaded" if facts is None else "an answer is under way: esc stops it")
    scaling = None if text == "off" else RopeScaling.read(text)
    if scaling is not None and facts.bounded:
        raise ParameterError(f"the context is bounded to {facts.context:,} tokens: begin the chat without --context")
    if scaling is None or facts.mask is not None or not talk.messages():
        _take(screen, scaling)
        return
    asked = [at for at, message in enumerate(talk.messages()) if message.role == "user"]
    _price(screen, scaling, (_prompt(_copy(talk, 0)), _prompt(_copy(talk, asked[len(asked) // 2] if asked else 0))))


def _price(screen: ChatParts, scaling: RopeScaling, texts: tuple[Prompt, Prompt]) -> None:
    """Measure the price of a longer RoPE for a conversation and what stays without its oldest messages; offer it."""
    facts, chat = screen.host.engine.current, screen.chat
    assert facts is not None
    screen.aside = control = RunControl()
    name = facts.name

    def measured(job: int, events: list[Any]) -> None:
        for event in events:
            if control.cancelled or chat is not screen.chat or chat.running:
                control.cancel()
            elif isinstance(event, Failed):
                screen.aside = None
                screen.hints.say(event.line, alarm=True)
            elif isinstance(event, r.Progressed):
                share = 100 * event.done // max(event.total, 1)
                screen.hints.say(f"measuring what {scaling.words} costs: {share} % · esc stops")
            else:
                screen.aside = None
                screen.hints.say("")
                others = [RopeScaling(kind, scaling.factor) for kind in KINDS if kind != scaling.kind]
                ways = [("", line) for line in context_overflow.price_lines(event)]
                ways += [("take", f"take {scaling.words}: nothing is left out")]
                ways += [(str(other), f"measure {other.words} in its place") for other in others]
                on_top: object = screen.app.screen
                if on_top is not screen and not isinstance(on_top, Dialog):  # a person looks elsewhere
                    screen.hints.say(f"the price of {scaling.words} is measured: /rope {scaling} shows it")
                    return
                pick = Pick(f"{scaling.words}: what it costs here", [*ways, ("stay", "leave it as it is")])
                screen.app.push_screen(pick, chosen)

    def chosen(way: str | None) -> None:
        facts = screen.host.engine.current
        if facts is None or facts.name != name or chat is not screen.chat or way in (None, "stay"):
            return
        if way == "take":
            _take(screen, scaling)
        elif way is not None:
            _price(screen, RopeScaling.read(way), texts)

    screen.hints.say(f"measuring what {scaling.words} costs… · esc stops")
    screen.host.engine.submit(call(calls.price, name, scaling, *texts, control), measured)


def _take(screen: ChatParts, scaling: RopeScaling | None) -> None:
    """Go on with the model by this RoPE, with the adapters that are on it, and answer what waits for an answer."""
    engine, chat = screen.host.engine, screen.chat
    assert engine.current is not None
    base = apart(engine.current.name)[0]
    name = base if scaling is None else f"{base}{MARK}{scaling}"
    if name != engine.current.name:
        on = [(str(adapter.folder), adapter.weight) for adapter in engine.attached]
        chat.waiting = partial(_answer, screen)
        engine.load(name, adapters=on)


# -- a summary --------------------------------------------------------------------------------------------------------


def _summarise(screen: ChatParts, dropped: Sequence[Message], talk: Conversation) -> None:
    """Have the model say what was said, the latest of it where it cannot read all, and open a copy with that."""
    facts, chat = screen.host.engine.current, screen.chat
    assert facts is not None
    most = context_overflow.summary_tokens(facts.context)
    prompts = context_overflow.summary_prompts([(message.role, message.text) for message in dropped])
    written: list[TokenStep] = []
    read: list[int] = []
    screen.aside = control = RunControl(SamplingConfig(greedy=True))

    def sized(job: int, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Failed):
                screen.hints.say(event.line, alarm=True)
                continue
            prompt = next((prompts[at] for at, size in enumerate(event) if size + most <= facts.context), None)
            if prompt is None:
                screen.hints.say(f"a summary has no room in {facts.context} tokens: nothing was changed", alarm=True)
            elif not control.cancelled:
                asked = r.Generate(facts.name, prompt, control, max_tokens=most)
                screen.host.engine.submit(asked, heard)

    def heard(job: int, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Failed):
                screen.hints.say(event.line, alarm=True)
            elif isinstance(event, r.Began):
                read.extend(event.ids)
            elif isinstance(event, Emitted):
                written.append(event.step)
            elif isinstance(event, Done) and not control.cancelled:
                screen.aside = None
                if chat is screen.chat and not chat.running:
                    _summarised(screen, talk, written, chat.transcript.opens(read))

    screen.hints.say(f"summarising {len(dropped)} messages… · esc stops")
    screen.host.engine.submit(call(calls.sizes, facts.name, prompts), sized)


def _summarised(screen: ChatParts, talk: Conversation, written: Sequence[TokenStep], opened: bool) -> None:
    said = answer_tokens([step.written for step in written], opened) or ()
    summary = "".join(written[at].text for at in said if not written[at].special).strip()
    if not summary:
        screen.hints.say("the model wrote no summary: nothing was changed", alarm=True)
        return
    _open(screen, replace(talk, system=context_overflow.with_summary(talk.system, summary)))
    screen.pane.edit_system()
    leaf = talk.leaf
    then = ", then ^r answers" if leaf is not None and leaf.role == "user" else ""
    _say(screen, f"its summary, to be edited: ⏎ keeps it{then} · the whole conversation is among the others (^o)")


def _say(screen: ChatParts, line: str) -> None:
    """After what is said of settings when a conversation is opened."""
    screen.hints.call_after_refresh(screen.hints.say, line)


def _open(screen: ChatParts, talk: Conversation) -> None:
    screen.open(replace(talk, created=screen.host.clock(), updated=screen.host.clock()))
    screen.save()
