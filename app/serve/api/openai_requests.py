"""Reader of OpenAI's wire format: a request's JSON becomes an `AnswerRequest`, or is refused by the name of its field.

Fields that this server cannot honour are refused; those that can change no answer (`user`, `metadata`) are passed over,
and named. Ours stand under `likely`. Knows no transport and no model.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from likely.app.serve.api.openai_fields import OURS, REASONING, SAMPLED
from likely.app.serve.bounds import BOUNDS, TOP
from likely.app.serve.requests import AnswerRequest, EmbeddingRequest, RequestRefused, ResponseShape
from likely.engine.base.errors import ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.decode.drafts.prompt_lookup import Drafting
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.strategy_table import PLAIN, parse
from likely.engine.measure import choice_scores
from likely.engine.sampling.presets import ORDERS, PARAMETERS, recipe
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Constraint, Transform

DEFAULT_TOKENS = 2048  # a chat that names no limit is stopped there
TEXT_TOKENS = 16  # a completion, as OpenAI's
PASSED_OVER = (  # of who asks, of what it costs, and of how text is kept: nothing that an answer hangs on
    "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "modalities"
)  # fmt: skip
LIKELIEST = 1e-30  # of p: the mass that any token has alone, for a client's top_p of 0
NO_ARGUMENTS = {"type": "object", "additionalProperties": False}  # of a tool that names no parameters, as OpenAI's
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
GIVEN = ("messages", "tools", "generation_prompt", "add_generation_prompt", "self")  # of a template, not its options

Body = dict[str, Any]


def read(data: bytes, schema: Mapping[str, Any]) -> Body:
    """The JSON of a body, by its schema; RequestRefused for what is none, and for a field that is not in it."""
    try:
        body = foreign_json.parse(data, dict)
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RequestRefused("the body must be Unicode text: it holds half of a surrogate pair") from None
    except ValueError as error:
        raise RequestRefused(f"the body must be a JSON object: {error}") from None
    return checked(body, schema)


def checked(body: Body, schema: Mapping[str, Any]) -> Body:
    """The body without the fields that are null, each as the schema says."""
    known = {name.removesuffix("?") for name in schema}
    for name in body:
        if name not in known:
            raise RequestRefused(f"{_brief(name)} is not supported here: leave it out", _brief(name))
    for name in ("messages", "input"):
        if isinstance(items := body.get(name), list) and len(items) > BOUNDS.messages and isinstance(items[0], dict):
            raise RequestRefused(f"{name} has at most {BOUNDS.messages:,} messages, got {len(items):,}", name)
    fitting(body, schema)
    ours = body.get("likely") or {}
    for name in ours:
        if f"{name}?" not in OURS:
            raise RequestRefused(
                f"likely.{_brief(name)} is not known: {', '.join(k[:-1] for k in OURS)} are", f"likely.{_brief(name)}"
            )
    if body.get("store"):
        raise RequestRefused("store: nothing is kept here, leave it out or set it to false", "store")
    return {name: value for name, value in body.items() if value is not None}


def fitting(value: Any, schema: Any, where: str = "") -> None:
    """Refuse a value that is not as a schema says, by the name of its field."""
    try:
        foreign_json.check(value, schema, where)
    except ValueError as error:
        line = str(error)
        raise RequestRefused(line, line.partition(":" if ":" in line else " ")[0]) from None


def chat(body: Body) -> AnswerRequest:
    """The request of /v1/chat/completions."""
    if not body["messages"]:
        raise RequestRefused("messages must have one message or more", "messages")
    logprobs = None
    if body.get("logprobs"):
        logprobs = within("top_logprobs", body.get("top_logprobs", 0), 0, TOP)
    elif body.get("top_logprobs"):
        raise RequestRefused("top_logprobs goes with logprobs: true", "top_logprobs")
    turns = tuple(message(turn, f"messages[{i}]") for i, turn in enumerate(body["messages"]))
    parts: tuple[str, ...] = ()
    if len(turns) > 1 and turns[-1]["role"] == "assistant" and not turns[-1].get("tool_calls"):
        turns, parts = turns[:-1], (turns[-1]["content"],)  # words that the answer begins with
    tools, constraint, called, note = _tools(body)
    if note and turns[0]["role"] == "system":
        turns = ({**turns[0], "content": f"{turns[0]['content']}\n\n{note}"}, *turns[1:])
    elif note:
        turns = ({"role": "system", "content": note}, *turns)
    if (form := _format(body)) is not None:
        if constraint is not None:
            raise RequestRefused("response_format and tool_choice both say what the answer is: drop one", "tool_choice")
        constraint = form
    options = tuple(sorted(body.get("chat_template_kwargs", {}).items()))
    for name, _ in options:
        if name in GIVEN:
            raise RequestRefused(f"chat_template_kwargs.{name} is the request's own to say", "chat_template_kwargs")
    if any(kind != "text" for kind in body.get("modalities", ())):
        raise RequestRefused("modalities: only text is written here", "modalities")
    limit = body.get("max_completion_tokens", body.get("max_tokens", DEFAULT_TOKENS))
    prompt = Prompt(turns, parts, tools=() if note else tools, options=options)
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    limit = within(name, limit, 1, BOUNDS.tokens)
    effort = _effort(body)
    return _drawn(body, prompt, limit, logprobs, constraint, tools=tools, called=called, effort=effort)


def completions(body: Body) -> tuple[AnswerRequest, ...]:
    """The requests of /v1/completions, one for each prompt."""
    if body.get("suffix"):
        raise RequestRefused("suffix is not supported: no model here was made to fill in", "suffix")
    logprobs = body.get("logprobs")
    if logprobs is not None:
        within("logprobs", logprobs, 0, TOP)
    best_of, n = body.get("best_of", 0), body.get("n", 1)
    if best_of:
        within("best_of", best_of, 1, BOUNDS.texts)
        if best_of < n:
            raise RequestRefused(f"best_of must be n or more, got {best_of} and {n}", "best_of")
        if body.get("stream") and best_of > n:
            raise RequestRefused("best_of chooses when all texts are there: it cannot be streamed", "best_of")
    limit = body.get("max_tokens", TEXT_TOKENS)
    limit = within("max_tokens", limit, 0 if body.get("echo") else 1, BOUNDS.tokens)
    prompts = texts(body["prompt"], "prompt")
    return tuple(
        replace(_drawn(body, prompt, limit, logprobs, None, best_of=best_of), together=len(prompts), field="prompt")
        for prompt in prompts
    )


def embeddings(body: Body) -> EmbeddingRequest:
    """The request of /v1/embeddings."""
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise RequestRefused("encoding_format must be float or base64", "encoding_format")
    layer = body.get("likely", {}).get("layer")
    if layer is not None and not -(1 << 15) < layer < 1 << 15:
        raise RequestRefused(f"likely.layer must be the number of a layer, got {str(layer)[:40]}", "likely.layer")
    return EmbeddingRequest(body.get("model", ""), texts(body["input"], "input", BOUNDS.inputs), layer)


def texts(value: Any, name: str, most: int = BOUNDS.prompts) -> tuple[Prompt, ...]:
    """Prompts of a field that has a text, texts, ids, or lists of ids."""
    if isinstance(value, str):
        return (Prompt(parts=(value,)),)
    if not len(value) > 0:
        raise RequestRefused(f"{name} must not be empty", name)
    if all(type(item) is int for item in value):
        return (Prompt(parts=(_ids(value, name),), whole=True),)
    if len(value) > most:
        raise RequestRefused(f"{name} has at most {most:,} texts, got {len(value):,}", name)
    prompts = []
    for item in value:
        if isinstance(item, str):
            prompts.append(Prompt(parts=(item,)))
        elif isinstance(item, list) and item and all(type(token) is int for token in item):
            prompts.append(Prompt(parts=(_ids(item, name),), whole=True))
        else:
            raise RequestRefused(
                f"{name}: text, texts, or ids of tokens expected, got {foreign_json.shown(item)}", name
            )
    return tuple(prompts)


def message(turn: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A message as chat templates read it."""
    content = turn.get("content")
    if isinstance(content, list):
        for part in content:
            if part["type"] not in ("text", "input_text", "output_text") or "text" not in part:
                raise RequestRefused(
                    f"{where}.content: only text is read here, got {_brief(part['type'])}", f"{where}.content"
                )
        content = "".join(part["text"] for part in content)
    role = "system" if turn["role"] == "developer" else turn["role"]
    if role not in ("system", "user", "assistant", "tool"):
        raise RequestRefused(
            f"{where}.role must be system, user, assistant or tool, got {_brief(role)}", f"{where}.role"
        )
    if content is None and not turn.get("tool_calls"):
        raise RequestRefused(f"{where}.content is missing", f"{where}.content")
    more = {k: turn[k] for k in ("name", "tool_calls", "tool_call_id", "reasoning_content") if turn.get(k) is not None}
    if "tool_calls" in more:
        more["tool_calls"] = [_called(call) for call in more["tool_calls"]]
    return {"role": role, "content": content or "", **more}


def _called(call: Any) -> Any:
    """A call as chat templates read it: its arguments are an object, which clients write as a string."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        return {**call, "function": {**function, "arguments": foreign_json.parse(function["arguments"], dict)}}
    except ValueError:
        return call


def within(name: str, value: Any, low: int, high: int) -> int:
    """A whole number that is in its range; RequestRefused for others."""
    if not low <= value <= high:
        raise RequestRefused(f"{name} must be {low} to {high}, got {str(value)[:40]}", name)
    return int(value)


def sampling(values: Mapping[str, float], order: str, bias: Mapping[int, float]) -> SamplingConfig:
    """The recipe of parameters by our names."""
    if order not in ORDERS:
        raise RequestRefused(f"likely.order must be one of {', '.join(ORDERS)}, got {_brief(order)}", "likely.order")
    for name in values:
        if name not in PARAMETERS:
            known = ", ".join(PARAMETERS)
            raise RequestRefused(f"likely.sampling.{_brief(name)} is no parameter: {known} are", "likely.sampling")
    for name, value in values.items():
        try:
            recipe({name: value} if name == "temp" or PARAMETERS[name].off is not None else {**values})
        except (ParameterError, OverflowError) as error:
            spelled = next((wire for wire, ours in SAMPLED.items() if ours == name), f"likely.sampling.{name}")
            raise RequestRefused(f"{spelled}: {error}", spelled) from None
    return recipe(values, ORDERS[order], bias=bias)


def _drawn(
    body: Body,
    prompt: Prompt,
    limit: int,
    logprobs: int | None,
    constraint: tuple[str, str] | None,
    *,
    best_of: int = 0,
    tools: tuple[Any, ...] = (),
    called: bool = False,
    effort: str = "",
) -> AnswerRequest:
    """The request of either kind of completion, once its prompt and its constraint are known."""
    ours = body.get("likely", {})
    values = {mine: body[name] for name, mine in SAMPLED.items() if name in body}
    if values.get("top_p") == 0:
        values["top_p"] = LIKELIEST
    values |= ours.get("sampling", {})
    n = within("n", body.get("n", 1), 1, BOUNDS.texts)
    constrained = constraint is not None or "regex" in ours or "choices" in ours
    strategy = _strategy(body, ours, n, constrained=constrained)
    order = ours.get("order", "mlx-lm")
    recipe_ = sampling(values, order, _biases(body.get("logit_bias", {})))
    if strategy.SEARCHES and (recipe_.greedy or body.get("stream") or best_of):
        name = "stream" if body.get("stream") else "best_of" if best_of else "temperature"
        raise RequestRefused(f"{name}: a search such as {strategy} has no use for it, leave it out", name)
    if "regex" in ours and "choices" in ours:
        raise RequestRefused("likely.regex and likely.choices are two constraints: choose one", "likely.choices")
    if "regex" in ours or "choices" in ours:
        if constraint is not None:
            raise RequestRefused("likely: two constraints on one answer, choose one of them", "likely")
        constraint = ("regex", ours["regex"]) if "regex" in ours else None
    if constraint is not None:
        if len(constraint[1]) > BOUNDS.schema:
            raise RequestRefused(
                f"a grammar has at most {BOUNDS.schema:,} characters, got {len(constraint[1]):,}", "response_format"
            )
        try:
            Constraint(*constraint)
        except ParameterError as error:
            raise RequestRefused(str(error), "response_format") from None
    among = tuple(ours.get("choices", ()))
    if "choices" in ours:
        _check_choices(among, () if strategy.RANKS else recipe_.transforms)
    stop = body.get("stop", ())
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stop) > BOUNDS.stops or any(not 0 < len(text) <= BOUNDS.stop for text in stop):
        raise RequestRefused(f"stop is at most {BOUNDS.stops} texts of 1 to {BOUNDS.stop} characters", "stop")
    adapter = (ours["adapter"], float(ours.get("weight", 1.0))) if "adapter" in ours else None
    if "weight" in ours and adapter is None:
        raise RequestRefused("likely.weight is of an adapter: name it as likely.adapter", "likely.weight")
    return AnswerRequest(
        model=body.get("model", ""),
        prompt=prompt,
        control=RunControl(recipe_),
        seed=_seed(body.get("seed")),
        n=n,
        best_of=best_of,
        max_tokens=limit,
        stop=stop,
        strategy=strategy,
        constraint=constraint,
        choices=among,
        adapter=adapter,
        sampling=values,
        order=order,
        tools=tools,
        called=called,
        effort=effort,
        ignored=tuple(name for name in PASSED_OVER if name in body),
        shown=ResponseShape(
            logprobs,
            bool(body.get("echo")),
            bool(body.get("stream")),
            bool(body.get("stream_options", {}).get("include_usage")),
            bool(ours.get("steps")),
            bool(ours.get("snapshot")),
        ),
    )


def _seed(asked: int | None) -> int:
    """Ours, which have 32 bits, for one of 64: those that are ours stay, others are spread over all. None: a fresh
    one."""
    if asked is None:
        return int.from_bytes(os.urandom(4), "little")
    if not -(1 << 63) <= asked < 1 << 63:
        raise RequestRefused(f"seed must be {-(1 << 63)} to {(1 << 63) - 1}, got {str(asked)[:40]}", "seed")
    if 0 <= asked < 1 << 32:
        return asked
    return int.from_bytes(hashlib.blake2b(asked.to_bytes(8, "little", signed=True), digest_size=4).digest(), "little")


def _effort(body: Body) -> str:
    """How much is to be thought, "" where nothing is said of it."""
    thinking = body.get("reasoning", {})
    for name in thinking:
        if f"{name}?" not in REASONING:
            raise RequestRefused(f"reasoning.{_brief(name)} is not supported here: leave it out", "reasoning")
    both = {effort for effort in (body.get("reasoning_effort"), thinking.get("effort")) if effort is not None}
    if len(both) > 1:
        raise RequestRefused("reasoning and reasoning_effort differ: drop one", "reasoning")
    effort = next(iter(both), "")
    if effort and effort not in EFFORTS:
        raise RequestRefused(
            f"reasoning_effort must be {', '.join(EFFORTS[:-1])} or {EFFORTS[-1]}, got {_brief(effort)}",
            "reasoning_effort",
        )
    return effort


def _strategy(body: Body, ours: Body, n: int, *, constrained: bool) -> Strategy:
    draft = body.get("draft_model") or ours.get("draft_model")
    if draft and "strategy" in ours:
        raise RequestRefused("draft_model and likely.strategy both say how tokens are found: drop one", "draft_model")
    try:
        parsed = parse(ours["strategy"], constrained=constrained) if "strategy" in ours else PLAIN
        strategy = Drafting(draft) if draft else parsed
        strategy = strategy.best(n) if strategy.SEARCHES else strategy
        if not strategy.needs:  # else it is checked once its models are there
            strategy.check(1 if strategy.SEARCHES else n)
    except ParameterError as error:
        raise RequestRefused(str(error), "draft_model" if draft else "likely.strategy") from None
    if strategy.width(n) > 64:
        raise RequestRefused(f"likely.strategy: {strategy} holds more than 64 texts at once", "likely.strategy")
    return strategy


def _biases(entries: Mapping[str, float]) -> dict[int, float]:
    if len(entries) > BOUNDS.biases:
        raise RequestRefused(f"logit_bias has at most {BOUNDS.biases} tokens, got {len(entries)}", "logit_bias")
    biases = {}
    for token, value in entries.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10) or abs(value) > 100:
            raise RequestRefused(
                f"logit_bias maps ids of tokens to numbers of -100 to 100, got {_brief(token)}: {str(value)[:20]}",
                "logit_bias",
            )
        biases[int(token)] = float(value)
    return biases


def _format(body: Body) -> tuple[str, str] | None:
    """The constraint of `response_format`."""
    form = body.get("response_format", {"type": "text"})
    match form["type"]:
        case "text":
            return None
        case "json_object":
            return "json", '{"type": "object"}'
        case "json_schema":
            schema = (form.get("json_schema") or {}).get("schema")
            if schema is None:
                raise RequestRefused("response_format.json_schema.schema is missing", "response_format")
            return "json", json.dumps(schema)
    kinds = "text, json_object or json_schema"
    raise RequestRefused(f"response_format.type must be {kinds}, got {_brief(form['type'])}", "response_format.type")


def _check_choices(among: Sequence[str], transforms: Sequence[Transform]) -> None:
    if len(among) > BOUNDS.choices or sum(map(len, among)) > BOUNDS.schema:
        most = f"{BOUNDS.choices} texts of {BOUNDS.schema:,} characters in all"
        raise RequestRefused(f"likely.choices has at most {most}, got {len(among)}", "likely.choices")
    try:
        choice_scores.check(among, transforms)
    except ParameterError as error:
        raise RequestRefused(str(error), "likely.choices") from None


def _tools(body: Body) -> tuple[tuple[Any, ...], tuple[str, str] | None, bool, str]:
    """The tools that a template is told of, what the answer must be, whether it is a call, and what the model is told
    where the answer is bound to be one: a template need not know of tools then."""
    tools, choice = tuple(body.get("tools", ())), body.get("tool_choice", "auto" if body.get("tools") else "none")
    if len(tools) > BOUNDS.tools:
        raise RequestRefused(f"tools has at most {BOUNDS.tools} tools, got {len(tools)}", "tools")
    for i, tool in enumerate(tools):
        if tool["type"] != "function":
            raise RequestRefused(f"tools[{i}].type must be function, got {_brief(tool['type'])}", f"tools[{i}].type")
    if choice == "none":
        return (), None, False, ""
    if not tools:
        raise RequestRefused("tool_choice goes with tools", "tool_choice")
    if choice == "auto":
        return tools, None, False, ""
    wanted = tools
    if isinstance(choice, dict):
        if choice["type"] != "function" or "function" not in choice:
            raise RequestRefused("tool_choice must name a function: {type: function, function: {name}}", "tool_choice")
        name = choice["function"]["name"]
        wanted = tuple(tool for tool in tools if tool["function"]["name"] == name)
        if not wanted:
            raise RequestRefused(f"tool_choice names {_brief(name)}, which is not among tools", "tool_choice")
    elif choice != "required":
        raise RequestRefused(
            f"tool_choice must be none, auto, required or a function, got {_brief(choice)}", "tool_choice"
        )
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": tool["function"].get("parameters") or NO_ARGUMENTS,
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in wanted
    ]
    note = "Answer by calling one of these functions, as JSON with its name and arguments:\n" + "\n".join(
        json.dumps(tool["function"]) for tool in wanted
    )
    return tools, ("json", json.dumps({"anyOf": calls} if len(calls) > 1 else calls[0])), True, note


def _ids(values: list[Any], name: str) -> tuple[int, ...]:
    if any(not 0 <= token < 1 << 31 for token in values):
        raise RequestRefused(f"{name}: ids of tokens are 0 or more", name)
    return tuple(values)


def _brief(text: str) -> str:
    return text[:60]
