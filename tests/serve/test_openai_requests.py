"""Readers of the wire formats: every field as it arrives, each bound from both sides, and what is refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from likely.app.serve.api import messages_api, ollama, openai_requests, responses_api
from likely.app.serve.api.openai_fields import CHAT, COMPLETION, EMBEDDING
from likely.app.serve.api.openai_requests import message, read
from likely.app.serve.bounds import BOUNDS, TOP
from likely.app.serve.requests import AnswerRequest, EmbeddingRequest, RequestRefused, ResponseShape
from likely.engine.decode.drafts.prompt_lookup import Drafting
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.strategy_table import PLAIN, parse
from likely.engine.sampling.presets import ORDERS, recipe

USER = {"role": "user", "content": "x"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in "fg"]
HAND = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
INPUT = [{"type": "function", "name": name, "description": "d", "more": 1} for name in "fg"]


def chat(**more: Any) -> AnswerRequest:
    return openai_requests.chat(read(json.dumps({"messages": [USER], "seed": 1} | more).encode(), CHAT))


def texts(**more: Any) -> tuple[AnswerRequest, ...]:
    return openai_requests.completions(read(json.dumps({"prompt": "x", "seed": 1} | more).encode(), COMPLETION))


def embed(**more: Any) -> EmbeddingRequest:
    return openai_requests.embeddings(read(json.dumps({"input": "x"} | more).encode(), EMBEDDING))


def respond(**more: Any) -> AnswerRequest:
    return responses_api.read(json.dumps({"input": "x"} | more).encode())


def local(**more: Any) -> AnswerRequest:
    return ollama.chat(json.dumps({"model": "m", "messages": [USER]} | more).encode())


def ask(**more: Any) -> AnswerRequest:
    return messages_api.read(json.dumps({"messages": [USER], "max_tokens": 9} | more).encode())


def said(call: Callable[..., Any], **more: Any) -> tuple[str, str]:
    """The line and the field of a refusal."""
    with pytest.raises(RequestRefused) as refused:
        call(**more)
    assert refused.value.status == 400
    return str(refused.value), refused.value.field


def test_a_chat_without_more_has_the_defaults() -> None:
    ask = chat()
    assert ask == AnswerRequest(
        model="", prompt=Prompt(turns=(USER,)), control=ask.control, seed=1, n=1, best_of=0, max_tokens=2048, stop=(),
        strategy=PLAIN, constraint=None, choices=(), adapter=None, tools=(), called=False,
        shown=ResponseShape(None, False, False, False, False, False),
    )  # fmt: skip
    assert ask.control.recipe == recipe({}, ORDERS["mlx-lm"])
    text = texts()
    assert len(text) == 1
    assert text[0] == replace(ask, prompt=Prompt(parts=("x",)), max_tokens=16, control=text[0].control, field="prompt")
    assert ask.drawn == 1 and replace(ask, best_of=3).drawn == 3 and replace(ask, n=4, best_of=3).drawn == 4
    assert embed() == EmbeddingRequest("", (Prompt(parts=("x",)),), None)
    assert len(embed(input=["x"] * 2048).texts) == 2048 and not embed(input=["x"] * 2048).brief


def test_a_seed_that_is_not_given_is_fresh() -> None:
    assert len({chat(seed=None).seed for _ in range(9)}) > 5


def test_a_seed_of_64_bits_is_one_of_ours_and_ours_stay() -> None:
    ours = [0, 1, 7, (1 << 32) - 1]
    assert [chat(seed=seed).seed for seed in ours] == ours
    others = [-1, -2, -7, 1 << 32, (1 << 32) + 7, 7 << 32, -(1 << 63), (1 << 63) - 1]
    found = [chat(seed=seed).seed for seed in others]
    assert found == [chat(seed=seed).seed for seed in others] and all(0 <= seed < 1 << 32 for seed in found)
    assert len({*found, *ours}) == len(found) + len(ours)
    assert local(options={"seed": -2}).seed == chat(seed=-2).seed


def test_every_field_of_a_chat_arrives() -> None:
    ask = chat(
        model="m", n=2, stop=["a", "b"], stream=True, stream_options={"include_usage": True},
        logprobs=True, top_logprobs=3,
        max_tokens=7, likely={"steps": True, "snapshot": True, "adapter": "x", "weight": 0.5, "order": "llama.cpp",
                              "sampling": {"typical_p": 0.9}},
        temperature=0.5, top_p=0.8, presence_penalty=0.1, frequency_penalty=0.2, top_k=5, min_p=0.05,
        repetition_penalty=1.1, repetition_context_size=30, xtc_probability=0.5, xtc_threshold=0.2,
        logit_bias={"3": -100, "4": 100}, chat_template_kwargs={"b": 1, "a": 2},
    )  # fmt: skip
    assert (ask.model, ask.n, ask.stop, ask.max_tokens, ask.adapter) == ("m", 2, ("a", "b"), 7, ("x", 0.5))
    assert ask.shown == ResponseShape(3, False, True, True, True, True)
    assert ask.prompt.options == (("a", 2), ("b", 1))
    values = {
        "temp": 0.5, "top_p": 0.8, "presence_penalty": 0.1, "frequency_penalty": 0.2, "top_k": 5, "min_p": 0.05,
        "repetition_penalty": 1.1, "repetition_context_size": 30, "xtc_probability": 0.5, "xtc_threshold": 0.2,
        "typical_p": 0.9,
    }  # fmt: skip
    assert ask.control.recipe == recipe(values, ORDERS["llama.cpp"], bias={3: -100.0, 4: 100.0})
    assert chat(likely={"adapter": "x"}).adapter == ("x", 1.0)
    assert chat(stop="ab").stop == ("ab",) and chat(likely={"snapshot": True}).shown == ResponseShape(snapshot=True)
    assert chat(logprobs=True).shown.logprobs == 0 and chat(logprobs=False).shown.logprobs is None
    assert chat(max_completion_tokens=3, max_tokens=9).max_tokens == 3
    assert chat(draft_model="d").strategy == Drafting("d") == chat(likely={"draft_model": "d"}).strategy
    assert chat(likely={"strategy": "beam 3"}, n=2).strategy == parse("beam 3").best(2)
    assert chat(likely={"strategy": "beam 3", "regex": "a"}).strategy == parse("beam 3 0").best(1)
    assert chat(user="u", metadata={}, store=False, service_tier="auto", parallel_tool_calls=True).n == 1


def test_every_field_of_a_text_arrives() -> None:
    ask = texts(prompt=[1, 2], echo=True, logprobs=2, best_of=3, n=2, max_tokens=0)[0]
    assert ask.prompt == Prompt(parts=((1, 2),), whole=True) and ask.shown == ResponseShape(2, echo=True)
    assert (ask.best_of, ask.n, ask.max_tokens) == (3, 2, 0)
    prompts = [each.prompt for each in texts(prompt=["a", [3, 4], "b"])]
    assert prompts == [Prompt(parts=("a",)), Prompt(parts=((3, 4),), whole=True), Prompt(parts=("b",))]
    found = embed(model="m", input=["a", "b"], likely={"layer": -2}, encoding_format="base64")
    assert (found.model, len(found.texts), found.layer) == ("m", 2, -2)


def test_an_answer_goes_on_from_words_of_its_own() -> None:
    own = {"role": "assistant", "content": "so"}
    assert chat(messages=[USER, own]).prompt == Prompt(turns=(USER,), parts=("so",))
    assert chat(messages=[own]).prompt == Prompt(turns=(own,))
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    assert chat(messages=[USER, call]).prompt.turns == (USER, call)


def test_messages_are_as_templates_read_them() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, {"type": "output_text", "text": "c"}]
    assert message({"role": "developer", "content": parts}, "m") == {"role": "system", "content": "abc"}
    given = {"role": "tool", "content": None, "tool_calls": [1], "name": None, "tool_call_id": "i", "other": 1}
    assert message(given, "m") == {"role": "tool", "content": "", "tool_calls": [1], "tool_call_id": "i"}
    assert message({"role": "user", "content": ""}, "m") == {"role": "user", "content": ""}
    for turn, line, field in (
        ({"role": "user", "content": [{"type": "image"}]}, "m.content: only text is read here, got image", "m.content"),
        ({"role": "user", "content": [{"type": "text"}]}, "m.content: only text is read here, got text", "m.content"),
        (
            {"role": "x" * 70, "content": ""},
            f"m.role must be system, user, assistant or tool, got {'x' * 60}",
            "m.role",
        ),
        ({"role": "user"}, "m.content is missing", "m.content"),
    ):
        assert said(message, turn=turn, where="m") == (line, field)


KNOWN = {
    "stop": ("a" * 256, "a" * 257), "n": (16, 17), "seed": ((1 << 63) - 1, 1 << 63),
    "max_tokens": (1 << 20, (1 << 20) + 1),
    "logit_bias": ({"9" * 9: 100}, {"9" * 10: 1}), "tools": (TOOLS[:1] * 64, TOOLS[:1] * 65),
}  # fmt: skip


def test_bounds_are_from_and_to() -> None:
    for name, (fine, wrong) in KNOWN.items():
        chat(**{name: fine})
        assert said(chat, **{name: wrong})[1] == name
    for name, low in (("n", 1), ("max_tokens", 1), ("seed", -(1 << 63))):
        chat(**{name: low})
        line, field = said(chat, **{name: low - 1})
        assert field == name and line.startswith(f"{name} must be {low} to ") and line.endswith(f"got {low - 1}")
    assert said(chat, max_completion_tokens=0) [::-1] == (
        "max_completion_tokens", "max_completion_tokens must be 1 to 1048576, got 0",
    )  # fmt: skip
    chat(stop=["a"] * 16), chat(logit_bias={str(i): 1.0 for i in range(1024)}), chat(logit_bias={"0": -100.0})
    for stop in (["a"] * 17, [""], ""):
        assert said(chat, stop=stop) == ("stop is at most 16 texts of 1 to 256 characters", "stop")
    line = "logit_bias has at most 1024 tokens, got 1025"
    assert said(chat, logit_bias={str(i): 1.0 for i in range(1025)}) == (line, "logit_bias")
    for bias in ({"1": 100.5}, {"1": -100.5}, {"-1": 1}, {"١": 1}, {"": 1}):
        assert said(chat, logit_bias=bias)[0].startswith(
            "logit_bias maps ids of tokens to numbers of -100 to 100, got "
        )
    texts(prompt=["x"] * 64), texts(prompt=[0, (1 << 31) - 1]), texts(logprobs=0), texts(logprobs=TOP)
    assert said(texts, prompt=["x"] * 65) == ("prompt has at most 64 texts, got 65", "prompt")
    assert said(texts, logprobs=TOP + 1) == ("logprobs must be 0 to 256, got 257", "logprobs")
    for ids in ([-1], [1 << 31]):
        assert said(texts, prompt=ids) == ("prompt: ids of tokens are 0 or more", "prompt")
    assert said(texts, max_tokens=0) == ("max_tokens must be 1 to 1048576, got 0", "max_tokens")
    texts(best_of=16, n=16), texts(best_of=2, n=2, stream=True), chat(logprobs=True, top_logprobs=TOP)
    assert said(texts, best_of=17) == ("best_of must be 1 to 16, got 17", "best_of")
    assert said(texts, best_of=1, n=2) == ("best_of must be n or more, got 1 and 2", "best_of")
    line = "best_of chooses when all texts are there: it cannot be streamed"
    assert said(texts, best_of=3, n=2, stream=True) == (line, "best_of")
    assert said(chat, logprobs=True, top_logprobs=257) == ("top_logprobs must be 0 to 256, got 257", "top_logprobs")
    for layer in (-(1 << 15) + 1, (1 << 15) - 1):
        assert embed(likely={"layer": layer}).layer == layer
    for layer in (-(1 << 15), 1 << 15):
        assert said(embed, likely={"layer": layer})[1] == "likely.layer"
    schema = {"type": "object", "description": ""}
    room = BOUNDS.schema - len(json.dumps(schema))

    def bound(size: int) -> dict[str, Any]:
        return {"type": "json_schema", "json_schema": {"schema": schema | {"description": "x" * size}}}

    assert len((chat(response_format=bound(room)).constraint or ("", ""))[1]) == BOUNDS.schema
    line = "a grammar has at most 65,536 characters, got 65,537"
    assert said(chat, response_format=bound(room + 1)) == (line, "response_format")


REFUSED: list[tuple[Callable[..., Any], dict[str, Any], str, str]] = [
    (chat, {"messages": []}, "messages must have one message or more", "messages"),
    (chat, {"top_logprobs": 1}, "top_logprobs goes with logprobs: true", "top_logprobs"),
    (chat, {"x" * 70: 1}, f"{'x' * 60} is not supported here: leave it out", "x" * 60),
    (chat, {"store": True}, "store: nothing is kept here, leave it out or set it to false", "store"),
    (chat, {"chat_template_kwargs": {"tools": 1}},
     "chat_template_kwargs.tools is the request's own to say", "chat_template_kwargs"),
    (chat, {"likely": {"weight": 1.0}}, "likely.weight is of an adapter: name it as likely.adapter", "likely.weight"),
    (texts, {"suffix": "x"}, "suffix is not supported: no model here was made to fill in", "suffix"),
    (texts, {"prompt": []}, "prompt must not be empty", "prompt"),
    (texts, {"prompt": ["a", []]}, "prompt: text, texts, or ids of tokens expected, got a list ([])", "prompt"),
    (texts, {"prompt": ["a", [1, "b"]]},
     "prompt: text, texts, or ids of tokens expected, got a list ([1, 'b'])", "prompt"),
    (texts, {"prompt": [True]}, "prompt: text, texts, or ids of tokens expected, got true or false (True)", "prompt"),
    (embed, {"encoding_format": "hex"}, "encoding_format must be float or base64", "encoding_format"),
    (chat, {"tool_choice": "auto"}, "tool_choice goes with tools", "tool_choice"),
    (chat, {"tools": TOOLS, "tool_choice": "f"},
     "tool_choice must be none, auto, required or a function, got f", "tool_choice"),
    (chat, {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "h"}}},
     "tool_choice names h, which is not among tools", "tool_choice"),
    (chat, {"tools": [TOOLS[0], TOOLS[0] | {"type": "x"}]}, "tools[1].type must be function, got x", "tools[1].type"),
    (chat, {"response_format": {"type": "x"}},
     "response_format.type must be text, json_object or json_schema, got x", "response_format.type"),
    (chat, {"response_format": {"type": "json_schema"}},
     "response_format.json_schema.schema is missing", "response_format"),
    (chat, {"response_format": {"type": "json_object"}, "tools": TOOLS, "tool_choice": "required"},
     "response_format and tool_choice both say what the answer is: drop one", "tool_choice"),
    (chat, {"response_format": {"type": "json_object"}, "likely": {"regex": "a"}},
     "likely: two constraints on one answer, choose one of them", "likely"),
    (chat, {"likely": {"regex": "a", "choices": ["b"]}},
     "likely.regex and likely.choices are two constraints: choose one", "likely.choices"),
    (chat, {"likely": {"choices": ["a", "b"]}, "frequency_penalty": 1.0},
     "frequency_penalty acts on single tokens, and a choice is drawn as a whole: leave it out, or bind the answer "
     "by a regular expression",
     "likely.choices"),
    (chat, {"likely": {"choices": []}}, "choices must be one text or more, none of them empty", "likely.choices"),
    (chat, {"likely": {"choices": ["a"] * 257}},
     "likely.choices has at most 256 texts of 65,536 characters in all, got 257", "likely.choices"),
    (chat, {"draft_model": "d", "likely": {"strategy": "beam 2"}},
     "draft_model and likely.strategy both say how tokens are found: drop one", "draft_model"),
    (chat, {"likely": {"strategy": "beam 2"}, "stream": True},
     "stream: a search such as beam 2 1.0 false 1 has no use for it, leave it out", "stream"),
    (chat, {"likely": {"strategy": "beam 2"}, "temperature": 0},
     "temperature: a search such as beam 2 1.0 false 1 has no use for it, leave it out", "temperature"),
    (texts, {"likely": {"strategy": "beam 2"}, "best_of": 1},
     "best_of: a search such as beam 2 1.0 false 1 has no use for it, leave it out", "best_of"),
    (chat, {"likely": {"strategy": "beam 65"}},
     "likely.strategy: beam 65 1.0 false 1 holds more than 64 texts at once", "likely.strategy"),
    (respond, {"include": ["x"]}, "include: x is not supported here, message.output_text.logprobs is", "include"),
    (respond, {"input": [{"type": "x"}]}, "input[0].type: x is not supported here", "input[0].type"),
    (respond, {"tools": [{"type": "x"}]}, "tools[0].type must be function, got x", "tools[0].type"),
    (respond, {"max_output_tokens": 0}, "max_output_tokens must be 1 to 1048576, got 0", "max_output_tokens"),
    (respond, {"input": [USER, {"role": "user"}]}, "input[1].content is missing", "input[1].content"),
    (respond, {"input": [{"role": "user"}], "instructions": "i"},
     "messages[1].content is missing", "messages[1].content"),
    (respond, {"text": {"format": {"type": "x"}}},
     "text.format.type must be text, json_object or json_schema, got x", "text.format.type"),
    (local, {"options": {"odd": 1}}, "options.odd is not supported here: leave it out", "options.odd"),
    (local, {"options": {"seed": 1 << 63}},
     "options.seed must be -9223372036854775808 to 9223372036854775807, got 9223372036854775808", "options.seed"),
    (local, {"top_logprobs": 2}, "top_logprobs goes with logprobs: true", "top_logprobs"),
    (embed, {"input": ["x"] * 2049}, "input has at most 2,048 texts, got 2,049", "input"),
    (local, {"options": {"num_predict": -3}},
     "options.num_predict must be 1 to 1048576, got -3", "options.num_predict"),
    (local, {"format": "xml"}, "format must be json or a schema, got 'xml'", "format"),
    (local, {"messages": [USER, {"role": "user", "images": ["i"]}]},
     "messages[1].images: only text is read here", "messages[1].images"),
    (ask, {"max_tokens": None}, "max_tokens: a whole number expected, got nothing", "max_tokens"),
    (ask, {"mcp_servers": []}, "mcp_servers is not supported here: leave it out", "mcp_servers"),
    (ask, {"stop_sequences": [""]}, "stop_sequences is at most 16 texts of 1 to 256 characters", "stop_sequences"),
    (ask, {"messages": [{"role": "tool", "content": ""}]},
     "messages[0].role must be user, assistant, system, got tool", "messages[0].role"),
    (ask, {"messages": [USER, {"role": "user", "content": [{"type": "image", "source": {}}]}]},
     "messages[1].content[0].type: text or tool_result is read here, got image", "messages[1].content[0].type"),
    (ask, {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "i", "content": [{}]}]}]},
     "messages[0].content[0].content[0].type: text is read here, got None", "messages[0].content[0].content[0].type"),
    (ask, {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
     "messages[0].content[0].text is missing", "messages[0].content[0].text"),
    (ask, {"messages": [USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}]}]},
     "messages[1].content: an answer that is begun for the model is text alone, without a thought",
     "messages[1].content"),
    (ask, {"system": [{"type": "document"}]}, "system[0].type: text is read here, got document", "system[0].type"),
    (ask, {"tools": [{"type": "bash_20250124", "name": "bash"}]},
     "tools[0].type must be custom, got bash_20250124", "tools[0].type"),
    (ask, {"tools": [HAND | {"defer_loading": True}]},
     "tools[0].defer_loading is not supported here: leave it out", "tools[0].defer_loading"),
    (ask, {"tools": [HAND | {"strict": True}]},
     "tools: strict goes with a tool_choice of any, or of a tool by its name", "tools"),
    (ask, {"tools": [HAND], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
     "tool_choice.disable_parallel_tool_use goes with any or tool, which call one: a model that may call calls many",
     "tool_choice.disable_parallel_tool_use"),
    (ask, {"tools": [HAND], "tool_choice": {"type": "tool", "name": "h"}},
     "tool_choice names h, which is not among tools", "tool_choice"),
    (ask, {"thinking": {"type": "between_tools"}},
     "thinking.type must be enabled, disabled or adaptive, got between_tools", "thinking.type"),
    (ask, {"thinking": {"type": "enabled", "budget_tokens": 9}},
     "thinking.budget_tokens must be 1 to 8, got 9", "thinking.budget_tokens"),
    (ask, {"thinking": {"type": "enabled", "budget_tokens": 5}, "tools": [HAND], "tool_choice": {"type": "any"}},
     "thinking: a call that is asked for has no room for a thought", "thinking"),
    (ask, {"output_config": {"effort": "hard"}},
     "output_config.effort must be none, minimal, low, medium, high or xhigh, got hard", "output_config.effort"),
    (ask, {"output_config": {"format": {"type": "json", "schema": {}}}},
     "output_config.format.type must be json_schema, got json", "output_config.format.type"),
]  # fmt: skip


def test_what_is_refused_is_named() -> None:
    for call, more, line, field in REFUSED:
        assert said(call, **more) == (line, field)
    line, field = said(chat, likely={"odd": 1})
    assert field == "likely.odd" and line.startswith("likely.odd is not known: sampling, order, strategy, ")
    line, field = said(chat, likely={"order": "x"})
    assert (line, field) == ("likely.order must be one of mlx-lm, llama.cpp, hugging-face, got x", "likely.order")
    line, field = said(chat, likely={"sampling": {"x": 1}})
    assert field == "likely.sampling" and line.startswith("likely.sampling.x is no parameter: temp, dynatemp_range, ")
    for more, wire in (
        ({"temperature": -1}, "temperature"), ({"likely": {"sampling": {"temp": -1}}}, "temperature"),
        ({"likely": {"sampling": {"typical_p": 2}}}, "likely.sampling.typical_p"),
        ({"xtc_threshold": 0.9}, "xtc_threshold"),
    ):  # fmt: skip
        line, field = said(chat, **more)
        assert field == wire and line.startswith(f"{wire}: ")
    assert said(chat, top_p=0.5, min_p=-1)[1] == "min_p", "the one that is wrong is named, not one that came before"
    line, field = said(chat, likely={"strategy": "beam x"})
    assert field == "likely.strategy" and line
    line, field = said(chat, likely={"regex": "("})
    assert field == "response_format"
    assert said(chat, n="x")[1] == "n" and said(chat, messages=[{"role": 1}])[1].startswith("messages")


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff", b'{"messages": "\\ud800"}'])
def test_a_body_that_is_no_object_of_unicode_is_refused(data: bytes) -> None:
    with pytest.raises(RequestRefused, match="the body must be"):
        read(data, CHAT)


def test_null_is_as_if_it_were_not_there() -> None:
    assert read(b'{"messages": [], "n": null, "seed": 2}', CHAT) == {"messages": [], "seed": 2}


def test_an_answer_is_bound_by_what_is_asked() -> None:
    assert chat(response_format={"type": "text"}).constraint is None
    assert chat(response_format={"type": "json_object"}).constraint == ("json", '{"type": "object"}')
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "null"}}}
    assert chat(response_format=schema).constraint == ("json", '{"type": "null"}')
    assert chat(likely={"regex": "a+"}).constraint == ("regex", "a+")
    assert chat(likely={"choices": ["a", "b"]}).choices == ("a", "b")
    assert not chat(likely={"regex": "a+"}).called


def test_tools_are_told_of_or_have_to_be_called() -> None:
    plain = chat(tools=TOOLS)
    assert plain.tools == plain.prompt.tools == tuple(TOOLS) and (plain.constraint, plain.called) == (None, False)
    off = chat(tools=TOOLS, tool_choice="none")
    assert (off.tools, off.prompt.tools) == ((), ()) and not off.called and off.prompt.turns == (USER,)
    one = chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "g"}})
    call = {
        "type": "object",
        "properties": {"name": {"const": "g"}, "arguments": {"type": "object", "additionalProperties": False}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    assert one.called and one.constraint == ("json", json.dumps(call))
    assert one.tools == tuple(TOOLS) and one.prompt.tools == ()
    note = "Answer by calling one of these functions, as JSON with its name and arguments:\n"
    assert one.prompt.turns == ({"role": "system", "content": note + '{"name": "g"}'}, USER)
    given = [TOOLS[0] | {"function": {"name": "f", "parameters": {"type": "array"}}}, TOOLS[1]]
    every = chat(tools=given, tool_choice="required")
    first = call | {"properties": {"name": {"const": "f"}, "arguments": {"type": "array"}}}
    assert every.constraint == ("json", json.dumps({"anyOf": [first, call]}))
    assert every.prompt.turns[0]["content"].count("\n") == 2  # type: ignore[call-overload]
    system = chat(
        tools=TOOLS, tool_choice="required", messages=[{"role": "system", "content": "be"}, USER]
    ).prompt.turns
    assert len(system) == 2 and system[0]["content"].startswith("be\n\nAnswer by")  # type: ignore[call-overload]


def test_a_response_is_a_chat() -> None:
    ask = respond(
        model="m", instructions="be", input=[
            {"type": "message", "role": "user", "content": "q"},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
        ], max_output_tokens=9, temperature=0.5, top_p=0.9, include=["message.output_text.logprobs"], tools=INPUT,
        tool_choice="none", stream=True,
    )  # fmt: skip
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}  # as templates read it
    assert ask.prompt.turns == (
        {"role": "system", "content": "be"}, {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    )  # fmt: skip
    assert (ask.model, ask.max_tokens, ask.shown) == ("m", 9, ResponseShape(0, stream=True))
    assert ask.control.recipe == recipe({"temp": 0.5, "top_p": 0.9}, ORDERS["mlx-lm"])
    assert respond().prompt == Prompt(turns=(USER,)) and respond().max_tokens == 2048
    assert respond().shown.logprobs is None and respond(top_logprobs=3).shown.logprobs == 3
    form = {"format": {"type": "json_schema", "schema": {"type": "null"}, "name": "n"}}
    assert respond(text=form).constraint == ("json", '{"type": "null"}')
    assert respond(text={"format": {"type": "json_object"}}).constraint == ("json", '{"type": "object"}')
    assert respond(text={}).constraint is None
    tool = {"type": "function", "function": {"name": "f", "description": "d"}}
    assert respond(tools=INPUT[:1]).tools == (tool,)
    chosen = respond(tools=INPUT, tool_choice={"type": "function", "name": "g"})
    assert chosen.called and '"const": "g"' in str(chosen.constraint)


def test_a_message_of_anthropic_is_a_chat() -> None:
    used = {"type": "tool_use", "id": "i", "name": "f", "input": {"a": 1}}
    text, cache = {"type": "text", "text": "4"}, {"cache_control": {"type": "ephemeral"}}
    turns = [
        {"role": "user", "content": [text, text | {"text": "?"} | cache]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""}, text, used]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "i", "content": [text], "is_error": True},
            {"type": "tool_result", "tool_use_id": "j"}, text,
        ]},
    ]  # fmt: skip
    given = {"model": "m", "system": [{"type": "text", "text": "be"}], "messages": turns, "tools": [HAND | cache]}
    found = ask(
        **given, stop_sequences=["s"], stream=True, temperature=0.5, top_p=0.9, top_k=4, metadata={"user_id": "u"},
        thinking={"type": "enabled", "budget_tokens": 8, "display": "omitted"}, output_config={"effort": "max"},
    )  # fmt: skip
    call = {"id": "i", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    assert found.prompt.turns == (
        {"role": "system", "content": "be"}, {"role": "user", "content": "4?"},
        {"role": "assistant", "content": "4", "tool_calls": [call], "reasoning_content": "t"},
        {"role": "tool", "content": "error: 4", "tool_call_id": "i"},
        {"role": "tool", "content": "", "tool_call_id": "j"}, {"role": "user", "content": "4"},
    )  # fmt: skip
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert found.tools == ({"type": "function", "function": function},) and found.stop == ("s",)
    assert found.control.recipe == recipe({"temp": 0.5, "top_p": 0.9, "top_k": 4}, ORDERS["mlx-lm"])
    assert (found.prompt.thinking, str(found.strategy), found.effort) == (True, "budget 8", "xhigh")
    assert found.shown == ResponseShape(stream=True, thought=False) and found.ignored == ("metadata",)
    assert [ask(thinking={"type": kind}).prompt.thinking for kind in ("disabled", "adaptive")] == [False, None]
    begun = ask(messages=[USER, {"role": "assistant", "content": "so"}])
    assert begun.prompt == Prompt(turns=(USER,), parts=("so",)) and begun.seed != ask().seed
    chosen = [ask(tools=[HAND], tool_choice=choice) for choice in ({"type": "any"}, {"type": "tool", "name": "f"})]
    assert all(each.called and '"const": "f"' in str(each.constraint) for each in chosen)
    form = {"format": {"type": "json_schema", "schema": {"type": "null"}}}
    assert ask(output_config=form).constraint == ("json", '{"type": "null"}')
    counted = messages_api.count(json.dumps(given).encode())
    assert (counted.max_tokens, counted.prompt) == (0, replace(found.prompt, thinking=None))


def test_ollama_asks_by_other_names() -> None:
    options = {
        "temperature": 0.5, "top_p": 0.8, "top_k": 5, "min_p": 0.05, "seed": 3, "num_predict": 7, "stop": ["a"],
        "repeat_penalty": 1.1, "repeat_last_n": 30, "presence_penalty": 0.1, "frequency_penalty": 0.2, "num_ctx": 1,
    }  # fmt: skip
    ask = local(model="m:latest", options=options, think=False, tools=TOOLS, stream=False)
    values = {
        "temp": 0.5, "top_p": 0.8, "presence_penalty": 0.1, "frequency_penalty": 0.2, "top_k": 5, "min_p": 0.05,
        "repetition_penalty": 1.1, "repetition_context_size": 30,
    }  # fmt: skip
    assert ask.control.recipe == recipe(values, ORDERS["mlx-lm"])
    assert (ask.model, ask.seed, ask.max_tokens, ask.stop) == ("m", 3, 7, ("a",))
    assert ask.effort == "none" and ask.ignored == ("options.num_ctx",)
    assert ask.tools == tuple(TOOLS) and not ask.shown.stream
    assert [local(think=think).effort for think in (True, "low", None)] == ["medium", "low", ""]
    assert local().shown.stream and local(options={"num_predict": -1}).max_tokens == 2048
    assert local(options={"num_predict": -2}).max_tokens == 2048 and local().prompt.options == ()
    assert len({local(options={"seed": -1}).seed for _ in range(9)}) > 1, "none is said by -1"
    penalised = {"repeat_penalty": 1.5, "temperature": 0}
    assert local(options=penalised | {"repeat_last_n": 0}).control.recipe == recipe({"temp": 0}, ORDERS["mlx-lm"])
    (penalty,) = local(options=penalised | {"repeat_last_n": -1}).control.recipe.transforms
    assert repr(penalty).startswith("RepetitionPenalty") and "1048576" in repr(penalty), "as far back as there is text"
    assert local(logprobs=True, top_logprobs=3).shown.logprobs == 3 and local().shown.logprobs is None
    assert local(format="json").constraint == ("json", '{"type": "object"}') and local(format="").constraint is None
    assert local(format={"type": "null"}).constraint == ("json", '{"type": "null"}')
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    turns = local(messages=[USER, call | {"thinking": "t"}]).prompt.turns
    assert turns == (USER, call | {"reasoning_content": "t"})
    made = ollama.generate(json.dumps({"model": "m", "prompt": "q", "system": "s"}).encode())
    assert made.prompt.turns == ({"role": "system", "content": "s"}, {"role": "user", "content": "q"})
    assert ollama.generate(b'{"model": "m", "prompt": "q"}').prompt.turns == ({"role": "user", "content": "q"},)
    assert [ollama.shown_name(data) for data in (b'{"model": "a:latest"}', b'{"name": "b"}', b"{}")] == ["a", "b", ""]
