"""A server without a model: a front that answers by a script, and the plainest ASGI client."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from likely.app.jobs.requests import Load, Loaded, ModelFacts, Scored
from likely.app.serve.api.exchange import ServerState
from likely.app.serve.api.metrics import ServerMetrics
from likely.app.serve.api.on_disk import ModelOnDisk
from likely.app.serve.api.transport import Endpoint
from likely.app.serve.bounds import BOUNDS, Bounds
from likely.app.serve.guard import Guard
from likely.app.serve.requests import AnswerOpened, AnswerRequest, DescribeModel, Embedded, EmbeddingRequest
from likely.engine.decode.loop.events import Done, Emitted, Event, Prefilled, Stats
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import Snapshot

PIECES = (b"Hi", b" there", b"\xe2\x82", b"\xac", b"</s>", b"<think>", b"so", b"</think>")
FACTS = ModelFacts(
    "tiny", 64, PIECES, chat=True, nbytes=10, title="Tiny", family="llama", quantization="q4", digest="d",
    eos=frozenset({4}),
)  # fmt: skip
SNAPSHOT = Snapshot(
    8, np.array([1, 0, 6], "<i4"), np.array([1.5, 2.0, 0.5], "<f4"), 2.25, 0.0, 1.0, np.zeros(65, "<f4"),
    np.zeros(64, "<i4"), np.full(64, -np.inf, "<f4"),
)  # fmt: skip


def on_disk(name: str) -> ModelOnDisk:
    """A model of 8e9 parameters that was written on 11 November 2025."""
    return ModelOnDisk(name, 5, 1.7629e9, "ab" * 32, "gguf", "llama", "Q4_K_M", 8_030_261_248, "mit")


def step(token: int, logprob: float | None = -0.25, position: int = 5, **more: Any) -> TokenStep:
    """A token of the script with figures that are told from each other."""
    piece = PIECES[token]
    text = "€" if token == 3 else "" if token in (2, 4) else piece.decode()
    given = {"snapshot": SNAPSHOT, "removed_by": np.array([-1, 0, 1], np.int8), "recipe": SamplingConfig()} | more
    given |= {"position": position, "special": token == 4, "elapsed_s": 0.5}
    return TokenStep(token, piece, text, logprob, -0.125, 1.5, 0.75, 2, 3, **given)


STATS = Stats(prompt_tokens=5, reused_tokens=2, tokens=4, prefill_s=0.25, decode_s=1.5)
Script = Callable[[AnswerRequest], Sequence[Any]]


def drawn(*tokens: int, reason: str = "eot", rest: str = "", thinking: bool = False, stats: Stats = STATS) -> Script:
    """Each text is these tokens, and ends; an event a turn, but the last two together."""

    def script(ask: AnswerRequest) -> Sequence[Any]:
        events: list[tuple[Event, ...]] = [(Prefilled(3, 5),), (Prefilled(5, 5),)]
        for position, token in enumerate(tokens, 5):
            events += [(Emitted(i, step(token, position=position)),) for i in range(ask.drawn)]
        ends = tuple(Done(i, reason, stats, rest) for i in range(ask.drawn))
        scored = [Scored((step(0, None, 0), step(1, -2.0, 1)))] if ask.shown.echo else []
        return [AnswerOpened(FACTS, 5, thinking, (1, 2, 3, 4, 5)), *scored, *events, ends]

    return script


@dataclass
class ScriptedFront:
    """A front whose worker is a script; `asked` are the requests that came."""

    script: Script = field(default_factory=lambda: drawn(0, 1))
    alive: bool = True
    running: int = 1
    waiting: int = 2
    asked: list[Any] = field(default_factory=list)
    places: int = 0
    error: BaseException | None = None  # that is raised in the place of the first event,
    after: int = 0  # or after so many

    async def events(self, request: Any) -> AsyncIterator[Any]:
        self.asked.append(request)
        match request:
            case AnswerRequest():
                found = list(self.script(request))
            case EmbeddingRequest():
                found = [(), Embedded(tuple((0.5 * i, -1.0) for i, _ in enumerate(request.texts)), 7)]
            case DescribeModel():
                found = [None, FACTS]
            case Load():
                found = [None, Loaded(FACTS)]
            case _:
                raise AssertionError(request)
        for number, event in enumerate(found):
            if self.error is not None and number == self.after:
                raise self.error
            yield event

    @asynccontextmanager
    async def admitted(self, brief: bool = False) -> AsyncIterator[None]:
        self.places += 1
        yield

    async def watched(self) -> AsyncIterator[Any]:
        yield {"likely": "1"}
        yield {}


@dataclass
class Answer:
    """A response as it was sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Asked:
    """Requests of a server that is made of a front; its log is kept."""

    def __init__(
        self, front: ScriptedFront | None = None, *, guard: Guard | None = None, bounds: Bounds = BOUNDS,
        watch_key: str = "", quiet: bool = False, names: Sequence[str] = ("tiny", "other"),
    ) -> None:  # fmt: skip
        self.front = front or ScriptedFront()
        self.log: list[str] = []
        self.metrics = ServerMetrics()
        self.state = ServerState(
            cast(Any, self.front), guard or Guard("127.0.0.1"), self.log.append, watch_key, bounds, quiet, self.metrics
        )
        self.app = Endpoint(self.state, lambda: names, lambda: [*map(on_disk, names)]).app()

    async def send(
        self, path: str, body: Any = None, method: str = "", headers: Sequence[tuple[str, str]] = (),
        parts: Sequence[dict[str, Any]] | None = None,
    ) -> Answer:  # fmt: skip
        """The response to a body: bytes as they are, others as JSON. The client stays until it is there."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        incoming = list(parts) if parts is not None else [{"type": "http.request", "body": data}]
        answer = Answer()

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop(0)
            await forever()
            raise AssertionError

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert not answer.status
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.parts += [message["body"]] if message.get("body") else []

        given = {"host": "127.0.0.1:8080"} | dict(headers)
        scope = {
            "type": "http", "method": method or ("GET" if body is None and parts is None else "POST"), "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
            "server": ("127.0.0.1", 8080), "client": ("127.0.0.1", 5), "app": self.app,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        }  # fmt: skip
        await self.app(scope, cast(Any, receive), send)
        return answer


async def forever() -> None:
    """Until it is cancelled."""
    import asyncio

    await asyncio.get_running_loop().create_future()
