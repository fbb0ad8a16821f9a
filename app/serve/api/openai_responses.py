"""Writer of OpenAI's wire format: what was read of a run becomes the JSON of a response, or of a chunk of a stream.

Log-probabilities are the model's own, in nats, before the transforms, as everywhere here; what ours has besides stands
under `likely`. Knows no transport and no model.
"""

import base64
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from likely.app.serve.api.on_disk import ModelOnDisk
from likely.app.serve.api.reading import AnswerReader, PartedText, TextDelta, read_calls
from likely.app.serve.requests import TOO_LONG, AnswerOpened, AnswerRequest, Embedded, RequestRefused
from likely.engine.measure.choice_scores import probability
from likely.engine.sampling.trace.fields import step_object
from likely.engine.sampling.trace.step import TokenStep

FINISH = {"eot": "stop", "stop": "stop", "length": "length", "cancelled": "stop", "": "length"}  # "": none was drawn
CODES = {  # OpenAI's types and codes of refusals that its clients tell apart
    "model_not_found": ("invalid_request_error", "model_not_found"),
    TOO_LONG: ("invalid_request_error", TOO_LONG),
    "authentication_error": ("authentication_error", "invalid_api_key"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
}
Json = dict[str, Any]


def identity(kind: str) -> str:
    """A name of its own for a response."""
    return f"{kind}-{uuid.uuid4().hex}"


def refusal(error: RequestRefused) -> Json:
    """The body of a request that is not served."""
    kind, code = CODES.get(error.kind, (error.kind, None))
    return {"error": {"message": str(error), "type": kind, "param": error.field or None, "code": code}}


def usage(prompt_tokens: int, reader: AnswerReader) -> Json:
    drawn = reader.tokens
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": drawn,
        "total_tokens": prompt_tokens + drawn,
        "prompt_tokens_details": {"cached_tokens": reader.reused},
        "completion_tokens_details": {"reasoning_tokens": sum(text.thought_tokens for text in reader.texts.values())},
    }


# -- tokens ----------------------------------------------------------------------------------------------------------


def top(step: TokenStep, count: int) -> list[tuple[int, float]]:
    """The ids of the most likely tokens and their log-probabilities, in nats, before the transforms. None where a
    combination of two distributions was sampled: its snapshot has no log-probabilities of the model's own."""
    if step.snapshot is None or step.logprob_combined is not None:
        return []
    s = step.snapshot
    order = np.argsort(-s.logits, kind="stable")[:count]
    return [(int(s.ids[i]), float(s.logits[i]) - s.lse) for i in order]


def shown_steps(steps: Iterable[TokenStep]) -> list[TokenStep]:
    """Tokens of the text: one that ends it is none of its own."""
    return [step for step in steps if not (step.special and not step.text)]


def chat_logprobs(steps: Sequence[TokenStep], count: int, pieces: Sequence[bytes]) -> Json:
    """`logprobs` of a chat's choice."""
    return {
        "content": [
            {
                **_token(step.piece, step.logprob),
                "top_logprobs": [_token(_piece(pieces, token), logprob) for token, logprob in top(step, count)],
            }
            for step in shown_steps(steps)
        ],
        "refusal": None,
    }


def text_logprobs(steps: Sequence[TokenStep], count: int, pieces: Sequence[bytes], offset: int = 0) -> Json:
    """`logprobs` of a completion's choice; the first token of a text has none."""
    tokens, numbers, tops, offsets = [], [], [], []
    for step in shown_steps(steps):
        tokens.append(_named(step.piece))
        numbers.append(step.logprob)
        known = {_named(step.piece): step.logprob}  # OpenAI's have the one that was drawn, likely or not
        known |= {_named(_piece(pieces, token)): logprob for token, logprob in reversed(top(step, count))}
        tops.append(known if step.logprob is not None else None)
        offsets.append(offset)
        offset += len(step.text)
    return {"tokens": tokens, "token_logprobs": numbers, "top_logprobs": tops, "text_offset": offsets}


def _token(piece: bytes, logprob: float | None) -> Json:
    return {"token": _spelled(piece), "logprob": logprob, "bytes": list(piece)}


def _named(piece: bytes) -> str:
    """A token where it is a key: a part of a character by its bytes, as OpenAI's, so that no two have one name."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _spelled(piece: bytes) -> str:
    return piece.decode("utf-8", errors="replace")


def _piece(pieces: Sequence[bytes], token: int) -> bytes:
    return pieces[token] if token < len(pieces) else b""


def precisions(steps: Iterable[TokenStep]) -> Json:
    """How log-probabilities were computed: those of a given text are `measured`, the others `sampled`."""
    known = [step for step in shown_steps(steps) if step.precision]
    found = {"measured" if step.origin == "given" else "sampled": step.precision for step in known}
    return {"precision": found} if found else {}


def ours(request: AnswerRequest, steps: Sequence[TokenStep], pieces: Sequence[bytes], *, whole: bool = True) -> Json:
    """The `likely` part of a choice: figures of each token, and its candidates with what cut them; of a `whole` answer
    that is one of given texts, the probability of that; how log-probabilities that were asked for were computed."""
    p = probability(request.control.recipe, [step.token for step in steps]) if request.choices and whole else None
    among = {} if p is None else {"probability": p}
    if request.shown.logprobs is not None:
        among |= precisions(steps)
    if not (request.shown.steps or request.shown.snapshot):
        return {"likely": among} if among else {}
    shown = []
    for step in steps:
        one = step_object(step)
        if request.shown.snapshot and step.snapshot is not None and step.removed_by is not None:
            names = [type(transform).__name__ for transform in step.recipe.transforms]
            s, logprob = step.snapshot, "logprob" if step.logprob_combined is None else "logprob_combined"
            one["candidates"] = [
                {
                    "id": int(token),
                    "bytes": _piece(pieces, int(token)).hex(),
                    logprob: float(logit) - s.lse,
                    "cut_by": names[cut] if 0 <= cut < len(names) else None,
                }
                for token, logit, cut in zip(s.ids, s.logits, step.removed_by, strict=True)
            ]
        shown.append(one)
    transforms = [repr(transform) for transform in request.control.recipe.transforms]
    own = {"seed": request.seed, "transforms": transforms, "strategy": str(request.strategy), **among, "steps": shown}
    return {"likely": own}


# -- whole responses -------------------------------------------------------------------------------------------------


def chat_response(
    request: AnswerRequest, opened: AnswerOpened, reader: AnswerReader, head: Json, pieces: Sequence[bytes]
) -> Json:
    """The body of /v1/chat/completions."""
    choices = []
    for index, text in enumerate(reader.best(request.n)):
        answer, calls = message(request, text)
        logprobs = request.shown.logprobs
        choices.append(
            {
                "index": index,
                "message": answer,
                "logprobs": None if logprobs is None else chat_logprobs(text.steps, logprobs, pieces),
                "finish_reason": "tool_calls" if calls else FINISH[text.reason],
                **ours(request, text.steps, pieces),
            }
        )
    return {**head, "object": "chat.completion", "choices": choices, "usage": usage(opened.prompt_tokens, reader)}


def message(request: AnswerRequest, text: PartedText) -> tuple[Json, list[Json]]:
    """An assistant's message, and the calls in it."""
    functions = text.calls
    if request.called and (bound := read_calls(text.of("said"))):
        functions = bound
    calls = [{"id": identity("call"), "type": "function", "function": call} for call in functions]
    answer: Json = {"role": "assistant", "content": None if calls and request.called else text.of("said")}
    if thought := text.of("thought"):
        answer["reasoning_content"] = thought.strip()
    if calls:
        answer["tool_calls"] = calls
    return answer, calls


def text_choices(
    request: AnswerRequest, reader: AnswerReader, prompt: Sequence[TokenStep], pieces: Sequence[bytes], first: int
) -> list[Json]:
    """The choices of one prompt of /v1/completions, numbered from `first`; `prompt` is its echo."""
    choices, echoed = [], "".join(step.text for step in prompt)
    for index, text in enumerate(reader.best(request.n), first):
        steps = [*prompt, *text.steps]
        logprobs = request.shown.logprobs
        choices.append(
            {
                "index": index,
                "text": echoed + "".join(part for _, part in text.parts),
                "logprobs": None if logprobs is None else text_logprobs(steps, logprobs, pieces),
                "finish_reason": FINISH[text.reason],
                **ours(request, steps, pieces),
            }
        )
    return choices


# -- streams ---------------------------------------------------------------------------------------------------------


def chat_chunk(
    request: AnswerRequest, grown: TextDelta, head: Json, pieces: Sequence[bytes], cut: str = ""
) -> Json | None:
    """A chunk for what is new of a text; None where nothing is to be said. `cut` is a call that has come to no end."""
    delta: Json = {"content": cut} if cut else {}
    for kind, name in (("said", "content"), ("thought", "reasoning_content")):
        new = "".join(text for k, text in grown.parts if k == kind)
        if new and not (request.called and kind == "said"):  # a call comes whole, at the end
            delta[name] = new
    logprobs = request.shown.logprobs
    measured = logprobs is not None and shown_steps(grown.steps)
    extra = ours(request, grown.steps, pieces, whole=False) if grown.steps else {}
    if not (delta or measured or grown.reason or extra):
        return None
    choice = {
        "index": grown.number,
        "delta": delta,
        "logprobs": chat_logprobs(grown.steps, logprobs or 0, pieces) if measured else None,
        "finish_reason": FINISH[grown.reason] if grown.reason else None,
        **extra,
    }
    return {**head, "object": "chat.completion.chunk", "choices": [choice]}


def opening_chunk(head: Json, number: int) -> Json:
    """The first chunk of a chat's choice."""
    delta = {"role": "assistant", "content": ""}
    choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": None}
    return {**head, "object": "chat.completion.chunk", "choices": [choice]}


def calls_chunk(number: int, calls: Sequence[Json], head: Json) -> Json:
    """The chunk with the calls of a text, at its end."""
    delta = {"tool_calls": [{"index": i, **call} for i, call in enumerate(calls)]}
    choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": "tool_calls"}
    return {**head, "object": "chat.completion.chunk", "choices": [choice]}


def text_chunk(
    request: AnswerRequest, grown: TextDelta, first: int, head: Json, pieces: Sequence[bytes], offset: int
) -> Json | None:
    """A chunk of /v1/completions; `offset` characters stand before it."""
    text, logprobs = "".join(part for _, part in grown.parts), request.shown.logprobs
    if not (text or grown.reason or (logprobs is not None and grown.steps)):
        return None
    choice = {
        "index": first + grown.number,
        "text": text,
        "logprobs": None if logprobs is None else text_logprobs(grown.steps, logprobs, pieces, offset),
        "finish_reason": FINISH[grown.reason] if grown.reason else None,
        **(ours(request, grown.steps, pieces, whole=False) if grown.steps else {}),
    }
    return {**head, "object": "text_completion", "choices": [choice]}


# -- the rest --------------------------------------------------------------------------------------------------------


def model(on_disk: ModelOnDisk) -> Json:
    """A model that may be asked for, with the fields of OpenAI's clients and of Anthropic's."""
    name, written = on_disk.name, on_disk.written
    both = {"id": name, "object": "model", "created": int(on_disk.modified), "owned_by": "likely"}
    anthropic = {"type": "model", "display_name": name, "created_at": written, "lifecycle": "active"}
    return {**both, **anthropic}


def embeddings(embedded: Embedded, model: str, as_base64: bool) -> Json:
    """The body of /v1/embeddings, its numbers as base64 of float32 where that was asked for."""

    def row(values: Sequence[float] | np.ndarray) -> Any:
        found = np.asarray(values, "<f4")
        return base64.b64encode(found.tobytes()).decode() if as_base64 else found.tolist()

    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": row(v)} for i, v in enumerate(embedded.rows)],
        "model": model,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }
