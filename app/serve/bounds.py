"""Bounds of a request: how much a stranger may ask for at once. Whoever starts the server may move some of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a server and of one request."""

    body: int = 4 << 20  # bytes
    body_s: float = 30.0  # until it has come
    head_s: float = 30.0  # until the lines before it have
    prompts: int = 64  # of one request
    inputs: int = 2048  # texts of one that asks for embeddings, as OpenAI's
    coordinates: int = 1 << 21  # of all their embeddings
    texts: int = 16  # n, best_of
    tokens: int = 1 << 20  # max_tokens that can be asked for; the context ends an answer earlier
    schema: int = 64 << 10  # characters of a grammar
    choices: int = 256  # texts that an answer may be
    stops: int = 16
    stop: int = 256  # characters of one
    biases: int = 1024
    tools: int = 64
    running: int = 16  # requests that are drawn at once
    brief: int = 4  # and so many beside them that are little work
    connections: int = 512
    waiting: int = 64  # behind them; the next is told to come back
    numbers: int = 600_000  # log-probabilities of all tokens and alternatives that one request may have to be told
    messages: int = 1 << 14
    behind: int = 4096  # tokens by which a reader may be late
    unread: int = 64 << 10  # bytes that a reader takes within
    unread_s: float = 30.0  # of a response that is there to be read


BOUNDS = Bounds()
TOP = 256  # alternatives beside a token: as many as a snapshot keeps
