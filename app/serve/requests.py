"""Requests that a server hands to its worker, and the events that only they have: plain data, no mlx, no protocol.

A protocol's JSON becomes these values (`openai_requests`, `ollama`) and their events become its JSON again;
in between nobody knows which protocol it was.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from likely.app.jobs.requests import ModelFacts
from likely.engine.base.errors import ContextOverflow, DataError, DeviceFull, LikelyError
from likely.engine.chat.tools.call_format import JSON, CallFormat
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.sampling.thinking import THINK, Thinking

BRIEF = 64  # tokens that little work draws at most
TOO_LONG = "context_length_exceeded"  # the kind of a refusal of what no context of the model holds
READ = 4096  # characters that it reads at most; an id stands for four
HEADERS = {429: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}  # of a refusal, by its status


class RequestRefused(LikelyError):
    """A request that is not served: `field` names the part of it that is the reason, "" where it is all of it."""

    def __init__(
        self,
        line: str,
        field: str = "",
        status: int = 400,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` are those of the response beside what the status itself asks for."""
        super().__init__(line)
        self.field, self.status, self.kind = field, status, kind
        self.headers = {**HEADERS.get(status, {}), **(headers or {})}


def refused(error: LikelyError, field: str = "") -> RequestRefused:
    """The refusal of a request in which the engine finds something wrong, by its field where that is known."""
    if isinstance(error, RequestRefused):
        return error
    line = f"{field}: {error}" if field else str(error)
    match error:
        case ContextOverflow():
            return RequestRefused(line, field, kind=TOO_LONG)
        case DeviceFull():  # nothing is wrong with the request
            return RequestRefused(str(error), status=503, kind="server_error")
        case _:
            return RequestRefused(line, field)


@contextmanager
def refused_by(field: str, *kinds: type[LikelyError]) -> Iterator[None]:
    """Refuse, by the name of a field, a prompt in which the engine finds something wrong, and errors of these kinds."""
    wrong: tuple[type[LikelyError], ...] = (ContextOverflow, DataError, *kinds)
    try:
        yield
    except wrong as error:
        raise refused(error, field) from None


@contextmanager
def refused_as(names: Mapping[str, str]) -> Iterator[None]:
    """Refusals in here name fields as the client wrote them: `names` has these by ours, the longest first."""

    def renamed(text: str) -> str:
        name = next((ours for ours in names if re.match(rf"{re.escape(ours)}\b", text)), "")
        return names.get(name, "") + text[len(name) :]

    try:
        yield
    except RequestRefused as error:
        raise RequestRefused(renamed(str(error)), renamed(error.field), error.status, error.kind) from None


@dataclass(frozen=True, slots=True)
class ResponseShape:
    """How much of an answer goes into its response."""

    logprobs: int | None = None  # alternatives beside each token; None: no log-probabilities at all
    echo: bool = False
    stream: bool = False
    usage: bool = False  # at the end of a stream
    steps: bool = False  # all of a token's figures
    snapshot: bool = False  # its candidates, and which transform cut each
    thought: bool = True  # what was thought, where a protocol may leave it out


def _few(prompts: Sequence[Prompt]) -> bool:
    """Whether prompts have few characters and ids together."""
    parts = (part for prompt in prompts for part in (*prompt.parts, *map(str, (*prompt.messages, *prompt.tools))))
    return sum(len(part) * (1 if isinstance(part, str) else 4) for part in parts) <= READ


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Continue a prompt: `AnswerOpened`, `Scored` where the prompt is echoed, and tuples of the engine's events."""

    model: str
    prompt: Prompt
    control: RunControl
    seed: int = 0
    n: int = 1
    best_of: int = 0  # texts drawn, of which the n likeliest a token are given; 0: n
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    strategy: Strategy = PLAIN
    constraint: tuple[str, str] | None = None  # kind and grammar of what the answer must be
    choices: tuple[str, ...] = ()  # texts that it is one of, drawn by their law
    adapter: tuple[str, float] | None = None  # a name that the server was started with, and its weight
    sampling: Mapping[str, float] = field(default_factory=dict)  # what it says of `control`; the rest is the model's
    order: str = "mlx-lm"  # of the transforms
    tools: tuple[Any, ...] = ()
    called: bool = False  # the answer is a call of a tool, as its constraint says
    effort: str = ""  # of thinking, where the model's template has a place for it
    ignored: tuple[str, ...] = ()  # fields that change no answer
    shown: ResponseShape = field(default_factory=ResponseShape)
    together: int = 1  # requests that came as one
    field: str = "messages"  # that its prompt came in

    @property
    def drawn(self) -> int:
        """Texts that are drawn."""
        return max(self.n, self.best_of)

    @property
    def brief(self) -> bool:
        """Whether it is little work: few characters are read, and few tokens drawn by plain sampling."""
        tokens = BRIEF + 1 if self.max_tokens is None else self.max_tokens * self.drawn
        plain = self.strategy == PLAIN and not self.choices and self.together == 1
        return plain and tokens <= BRIEF and _few([self.prompt])


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """The mean hidden state of each text at a layer's end, the last by default: `Embedded`."""

    model: str
    texts: tuple[Prompt, ...]
    layer: int | None = None
    truncate: bool = False  # a text that is too long is read as far as there is room, else refused
    field: str = "input"  # that they came in

    @property
    def brief(self) -> bool:
        """Whether it is little work, as of an answer."""
        return len(self.texts) <= BRIEF and _few(self.texts)


@dataclass(frozen=True, slots=True)
class AnswerOpened:
    """An answer has begun: its model, tokens of its prompt, whether the template has opened a thought for it, and
    between which marks the model thinks, and how it calls tools.

    `ids` are those of the prompt; `ignored` are fields of the request that change nothing with this model.
    """

    facts: ModelFacts
    prompt_tokens: int
    opened: bool = False
    ids: tuple[int, ...] = ()
    ignored: tuple[str, ...] = ()
    thinking: Thinking = THINK
    calls: CallFormat = JSON


@dataclass(frozen=True, slots=True)
class ListModels:
    """List the models that are loaded: a tuple of each one's facts, and the bytes that it has remembered of prompts."""


@dataclass(frozen=True, slots=True)
class DescribeModel:
    """Facts of a model, loaded or not, by its name: its `ModelFacts`."""

    model: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """Rows of C numbers, one a text, and the tokens read for them."""

    rows: Sequence[Sequence[float] | np.ndarray]
    tokens: int
