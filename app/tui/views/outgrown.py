"""The offer where a conversation has outgrown its model: to go on without its oldest messages, or with a summary.

It goes on as a copy, and the whole one stays among the conversations. What is left out, and how many tokens the rest
has by the model's own template, is said before.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from likely.app import calls
from likely.app import requests as r
from likely.app.calls import call
from likely.app.tui.base.context import before
from likely.app.tui.views.chat_parts import ChatParts
from likely.app.tui.widgets.overlays import Pick
from likely.app.worker import Failed
from likely.engine.conversation import Conversation, Fork, Message
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted
from likely.engine.errors import ContextOverflow
from likely.engine.prompt import Prompt
from likely.engine.thinking import answer_tokens
from likely.engine.trace.step import Recipe, TokenStep

LEFT = 4  # a quarter of the context is left for what is said next
WORDS, MOST = 120, 400  # of a summary, and its tokens
HALVED = 8  # times, until what is to be summarised can be read
ASKED = f"Summarise this conversation in at most {WORDS} words: who said what, facts, names, numbers, what is wanted."
HEAD = "Earlier in this conversation: "


@dataclass(frozen=True, slots=True)
class Shortened:
    """A conversation without its first `dropped` messages; `size` are the tokens of its prompt, `whole` before that."""

    talk: Conversation
    dropped: int
    size: int
    whole: int


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
            else "there is nothing before this message to be left out: shorten it, or send it in parts", True
        )  # fmt: skip
        return
    copies = [_copy(talk, at) for at in asked]

    def sized(job: int, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Failed):
                screen.hints.say(event.line, alarm=True)
            elif chat is screen.chat and not chat.running:
                most = facts.context - facts.context // LEFT
                most = most if event[0] > most else event[0] // 2  # it fits, and a person wants it shorter
                fits = [at for at, size in enumerate(event) if at and size <= most]
                at = fits[0] if fits else len(asked) - 1
                _choose(screen, messages[: asked[at]], Shortened(copies[at], asked[at], event[at], event[0]))

    prompts = tuple(before(copy, Fork(copy.leaf.id)) for copy in copies if copy.leaf is not None)
    screen.host.engine.submit(call(calls.sizes, facts.name, prompts), sized)


def _copy(talk: Conversation, at: int) -> Conversation:
    """The conversation from a message on, without a last answer of which there is nothing."""
    messages = talk.messages()
    return talk.cut(at, len(messages) - (not messages[-1].text), secrets.token_hex(4))


def _choose(screen: ChatParts, dropped: Sequence[Message], short: Shortened) -> None:
    facts = screen.host.engine.current
    assert facts is not None
    many = f"the oldest {short.dropped} messages"
    title = f"{short.whole:,} tokens, and the model reads {facts.context:,}"
    ways = (
        ("drop", f"leave out {many}: {short.size:,} tokens stay"),
        ("sum", "have the model summarise them, to be edited"),
        ("stay", "leave it as it is"),
    )

    def chosen(way: str | None) -> None:
        if way == "drop":
            _open(screen, short.talk)
            leaf = screen.chat.conversation.leaf
            if leaf is not None and leaf.role == "user":
                screen.chat.answer(Fork(leaf.id))
                screen.begun(True)
            _say(screen, f"a copy without {many}: the whole conversation is among the others (^o)")
        elif way == "sum":
            _summarise(screen, dropped, short)

    screen.app.push_screen(Pick(title, ways), chosen)


def _summarise(screen: ChatParts, dropped: Sequence[Message], short: Shortened) -> None:
    """Have the model say what was said, the latest of it where it cannot read all, and open a copy with that."""
    facts, chat = screen.host.engine.current, screen.chat
    assert facts is not None
    most = min(MOST, facts.context // LEFT)
    told = "\n\n".join(f"{message.role}: {message.text.strip()}" for message in dropped)
    parts = [told[-max(len(told) >> halved, 1) :] for halved in range(HALVED)]
    prompts = tuple(Prompt((("user", f"{ASKED}\n\n{part}"),)) for part in parts)
    written: list[TokenStep] = []
    read: list[int] = []

    def sized(job: int, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Failed):
                screen.hints.say(event.line, alarm=True)
                continue
            prompt = next((prompts[at] for at, size in enumerate(event) if size + most <= facts.context), None)
            if prompt is None:
                screen.hints.say(f"a summary has no room in {facts.context} tokens: nothing was changed", alarm=True)
            else:
                asked = r.Generate(facts.name, prompt, RunControl(Recipe(greedy=True)), max_tokens=most)
                screen.host.engine.submit(asked, heard)

    def heard(job: int, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Failed):
                screen.hints.say(event.line, alarm=True)
            elif isinstance(event, r.Began):
                read.extend(event.ids)
            elif isinstance(event, Emitted):
                written.append(event.step)
            elif isinstance(event, Done) and chat is screen.chat and not chat.running:
                _summarised(screen, short, written, chat.transcript.opens(read))

    screen.hints.say(f"summarising {short.dropped} messages…")
    screen.host.engine.submit(call(calls.sizes, facts.name, prompts), sized)


def _summarised(screen: ChatParts, short: Shortened, written: Sequence[TokenStep], opened: bool) -> None:
    said = answer_tokens([step.written for step in written], opened) or ()
    summary = "".join(written[at].text for at in said if not written[at].special).strip()
    if not summary:
        screen.hints.say("the model wrote no summary: nothing was changed", alarm=True)
        return
    _open(screen, replace(short.talk, system="\n\n".join(filter(None, (short.talk.system, HEAD + summary)))))
    screen.pane.edit_system()
    leaf = short.talk.leaf
    then = ", then ^r answers" if leaf is not None and leaf.role == "user" else ""
    _say(screen, f"its summary, to be edited: ⏎ keeps it{then} · the whole conversation is among the others (^o)")


def _say(screen: ChatParts, line: str) -> None:
    """After what is said of settings when a conversation is opened."""
    screen.hints.call_after_refresh(screen.hints.say, line)


def _open(screen: ChatParts, talk: Conversation) -> None:
    screen.open(replace(talk, created=screen.host.clock(), updated=screen.host.clock()))
    screen.save()
