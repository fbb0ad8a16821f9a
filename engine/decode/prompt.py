"""Prompts: what stands before the next token, and the one way from there to ids for whoever runs a model.

A chat goes through the model's template. A base model, which has none, reads the turns as paragraphs of one text, and
the answer begins a new one. What follows the turns is given as it is: words, or the very tokens that were drawn, so
that a branch goes on from exactly what is on the screen. Knows nothing of sessions, caches and conversations; no mlx.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.sampling.thinking import EFFORT, switch
from likely.engine.text.tokenizer.template import Message

PARAGRAPH = "\n\n"  # after each turn of a chat with a model that has no template

Turn = tuple[str, str] | Message  # (role, text), or a message with what else the template reads (tool calls, ...)
Part = str | tuple[int, ...]


class Encoding(Protocol):
    """The tokenizer as a prompt needs it."""

    @property
    def chat_template(self) -> str | None: ...
    @property
    def template_reads(self) -> Collection[str]: ...
    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]: ...
    def chat(self, messages: Sequence[Message], **options: Any) -> list[int]: ...


class Spans(Protocol):
    """The tokenizer as a prompt needs it whose parts are told apart."""

    def encode(self, text: str, *, bos: bool = False) -> list[int]: ...
    def spans(
        self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None
    ) -> tuple[list[int], list[range]]: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """Turns that go through the chat template, `system` before them, and parts that follow as they are.

    Without turns the parts are a text, which begins as the checkpoint's texts do (a BOS token, or none); `whole`: they
    are everything, and nothing is put before them. `template` is False where turns are to be read as a base model
    reads them. `tools` are what the template is told of, and `options` what else it reads, by name. `thinking`: the
    template is told that the model is to think, or not to; left to the template if None.
    """

    turns: tuple[Turn, ...] = ()
    parts: tuple[Part, ...] = ()
    system: str = ""
    whole: bool = False
    template: bool = True
    tools: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    thinking: bool | None = None

    @property
    def messages(self) -> list[Message]:
        """All turns as a template takes them."""
        messages = [{"role": turn[0], "content": turn[1]} if isinstance(turn, tuple) else turn for turn in self.turns]
        return [{"role": "system", "content": self.system}, *messages] if self.system else messages

    def told(self, tokenizer: Encoding) -> dict[str, Any]:
        """All that a template is told beside the messages, by name."""
        options = dict(self.options) | ({"tools": self.tools} if self.tools else {})
        return options if self.thinking is None else options | switched(tokenizer, self.thinking)

    def ids(self, tokenizer: Encoding) -> list[int]:
        """The ids that the model reads; raises what the template and the tokenizer raise (`Tokenizer.chat`)."""
        ids: list[int] = []
        if messages := self.messages:
            if self.template and tokenizer.chat_template is not None:
                ids = tokenizer.chat(messages, **self.told(tokenizer))
            else:
                ids = tokenizer.encode("".join(f"{m['content']}{PARAGRAPH}" for m in messages), bos=True)
        elif not self.whole:
            ids = tokenizer.encode("", bos=True)
        return [*ids, *(token for part in self.parts for token in _ids(part, tokenizer))]

    def spans(self, tokenizer: Spans) -> tuple[list[int], list[range]]:
        """The ids of a whole text, not of one to be gone on with, and for each turn, or each part, those that are its
        own (`Tokenizer.spans`). TemplateError for turns where there is no template."""
        if self.messages:
            return tokenizer.spans(self.messages, tools=self.tools or None)
        ids = [] if self.whole else tokenizer.encode("", bos=True)
        spans: list[range] = []
        for part in self.parts:
            start, ids = len(ids), [*ids, *_ids(part, tokenizer)]
            spans.append(range(start, len(ids)))
        return ids, spans


def _ids(part: Part, tokenizer: Encoding | Spans) -> Sequence[int]:
    return tokenizer.encode(part) if isinstance(part, str) else part


def switched(tokenizer: Encoding, thinking: bool) -> dict[str, bool | str]:
    """The option that has a template think, or not. ParameterError where it cannot be told."""
    if (option := switch(tokenizer.template_reads, thinking)) is None:
        can = "that it is not to think" if EFFORT in tokenizer.template_reads else "whether to think"
        raise ParameterError(f"this model's chat template cannot be told {can}: leave that as usual")
    return dict((option,))


def single_turn(text: str, tokenizer: Encoding, *, system: str = "", raw: bool = False) -> Prompt:
    """One text as the model takes it: a user's turn where there is a chat template, else (or `raw`) a text to go on
    with. There is no place for `system` then: it is left to whoever asks to say so."""
    if raw or tokenizer.chat_template is None:
        return Prompt(parts=(text,))
    return Prompt((("user", text),), system=system)


def locate(pieces: Sequence[bytes], contents: Sequence[str]) -> tuple[tuple[int, int] | None, ...]:
    """Which tokens cover each text, in order: half-open ranges, None where a template changed or dropped the text.

    `pieces` are the bytes of the tokens. A token that straddles the border of a text belongs to it.
    """
    ends = np.cumsum([len(piece) for piece in pieces]) if pieces else np.zeros(0, int)
    whole = b"".join(pieces)
    spans: list[tuple[int, int] | None] = []
    at = 0
    for content in contents:
        wanted = content.strip().encode()
        begin = whole.find(wanted, at) if wanted else -1
        if begin < 0:
            spans.append(None)
            continue
        at = begin + len(wanted)
        first = int(np.searchsorted(ends, begin, side="right"))
        last = int(np.searchsorted(ends, at, side="left"))
        spans.append((first, last + 1))
    return tuple(spans)
