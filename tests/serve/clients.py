"""The openai, ollama and anthropic packages, llm and LiteLLM as clients of a server; the last two in an environment
that has them.

    python tests/serve/clients.py PORT FOLDER

Each checks what it gets; the last line is a JSON object with what was asked of which.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def by_openai(base: str) -> list[str]:
    from openai import BadRequestError, OpenAI

    client = OpenAI(base_url=base, api_key="none", max_retries=0)
    messages: Any = [{"role": "user", "content": "hi"}]
    whole = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=8, seed=3, logprobs=True, top_logprobs=4, n=2
    )
    assert len(whole.choices) == 2 and len(whole.choices[0].logprobs.content[0].top_logprobs) == 4
    stream = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=8, seed=3, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content and chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    echoed = client.completions.create(model="tiny", prompt="abab", echo=True, logprobs=1, max_tokens=2)
    assert echoed.choices[0].logprobs.token_logprobs[0] is None
    assert len(client.embeddings.create(model="tiny", input=["a", "b"]).data) == 2
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    called = client.chat.completions.create(model="tiny", messages=messages, tools=tools, tool_choice="required")
    assert called.choices[0].message.tool_calls[0].function.name == "f"
    response = client.responses.create(model="tiny", input="hi", max_output_tokens=5, temperature=0)
    with client.responses.stream(model="tiny", input="hi", max_output_tokens=5, temperature=0) as events:
        pieces = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert response.output_text == pieces
    more: Any = {"reasoning_effort": "none", "modalities": ["text"], "prompt_cache_key": "k", "tools": tools}
    assert client.chat.completions.create(model="tiny", messages=messages, max_tokens=3, **more).choices[0].message
    assert client.models.retrieve("tiny").id == "tiny"
    extra = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=2, extra_body={"likely": {"steps": True}}
    )
    assert extra.choices[0].model_extra["likely"]["steps"]
    try:
        client.chat.completions.create(model="tiny", messages=messages, top_logprobs=3)
        raise AssertionError("top_logprobs without logprobs")
    except BadRequestError as error:
        assert error.param == "top_logprobs"
    assert "tiny" in [model.id for model in client.models.list()]
    return ["chat", "stream", "completions", "embeddings", "tools", "responses", "extra_body", "errors", "models"]


def by_ollama(base: str) -> list[str]:
    from ollama import Client, ResponseError

    client = Client(host=base.removesuffix("/v1"))
    messages: Any = [{"role": "user", "content": "hi", "images": []}]
    given: Any = {"model": "tiny", "options": {"seed": 3, "num_predict": 6}}
    whole = client.chat(messages=messages, **given).message.content
    assert "".join(part.message.content or "" for part in client.chat(messages=messages, stream=True, **given)) == whole
    assert client.generate(prompt="hi", **given).response == whole
    assert client.generate(prompt="abab", raw=True, **given).done
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert client.chat(messages=messages, tools=[tool], think=False, **given).done
    assert len(client.embed("tiny", ["a", "b"]).embeddings) == 2 and client.embeddings("tiny", "a").embedding
    assert "tiny" in [each.model for each in client.ps().models] and client.show("tiny").capabilities
    assert "tiny" in [each.model for each in client.list().models]
    try:
        client.pull("none")
        raise AssertionError("nothing is pulled here")
    except ResponseError as error:
        assert error.status_code == 404 and "there is no POST /api/pull" in error.error
    return ["chat", "stream", "generate", "raw", "tools", "embed", "ps", "errors"]


def by_anthropic(base: str) -> list[str]:
    from anthropic import Anthropic, BadRequestError, NotFoundError

    client = Anthropic(base_url=base.removesuffix("/v1"), api_key="none", max_retries=0)
    say: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}

    def blocks(message: Any) -> list[Any]:
        return [block.to_dict() for block in message.content]

    given: Any = say | {"max_tokens": 8, "system": "Be short.", "extra_body": {"temperature": 0}}
    whole = client.messages.create(**given)
    read = whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    assert client.messages.count_tokens(**say, system="Be short.").input_tokens == read
    with client.messages.stream(**given) as stream:
        streamed = "".join(stream.text_stream)
        last = stream.get_final_message()
    assert [block.text for block in last.content if block.type == "text"] == [streamed]
    assert blocks(last) == blocks(whole) and last.stop_reason == whole.stop_reason
    assert last.usage.output_tokens == whole.usage.output_tokens == 8
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    tools: Any = [{"name": "f", "input_schema": schema}]
    more: Any = say | {"max_tokens": 1999, "tools": tools, "extra_body": {"temperature": 1}}
    called = client.messages.create(**more, tool_choice={"type": "any"})
    (use,) = called.content
    assert called.stop_reason == "tool_use" and use.type == "tool_use" and use.input["a"] in (1, 2)
    with client.messages.stream(**more, tool_choice={"type": "tool", "name": "f"}) as stream:
        (streamed_use,) = stream.get_final_message().content
    assert streamed_use.type == "tool_use" and streamed_use.input["a"] in (1, 2)
    result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "ok"}
    turns = [*say["messages"], {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(**more | {"messages": turns, "max_tokens": 9}).type == "message"
    thinks: Any = {"model": "thinks", "system": "", "thinking": {"type": "enabled", "budget_tokens": 3}}
    thought = client.messages.create(**given | thinks)
    assert [block.type for block in thought.content][:1] == ["thinking"] and thought.usage.output_tokens_details
    assert thought.usage.output_tokens_details.thinking_tokens == 5, "three tokens, and the marks"
    turns = [*say["messages"], {"role": "assistant", "content": thought.content}, *say["messages"]]
    with client.messages.stream(**given | thinks | {"messages": turns}) as stream:
        assert stream.get_final_message().type == "message"
    for wrong, kind, line in (
        ({"model": "none"}, NotFoundError, "there is no model 'none'"),
        (thinks | {"model": "tiny"}, BadRequestError, "thinking: tiny does not think"),
        ({"extra_body": {"top_k": -5}}, BadRequestError, "top_k"),
    ):
        for stream_ in (False, True):
            try:
                client.messages.create(**given | wrong, stream=stream_)
                raise AssertionError(line)
            except kind as error:
                assert line in str(error) and error.body["error"]["type"], error
    assert "tiny" in [each.id for each in client.models.list()]
    return ["messages", "stream", "tools", "thinking", "count_tokens", "errors", "models"]


def by_litellm(base: str) -> list[str]:
    from litellm import completion

    given: Any = {
        "model": "openai/tiny", "api_base": base, "api_key": "none", "seed": 3, "max_tokens": 6,
        "messages": [{"role": "user", "content": "hi"}],
    }  # fmt: skip
    whole = completion(**given).choices[0].message.content
    assert "".join(c.choices[0].delta.content or "" for c in completion(**given, stream=True)) == whole
    ollama = given | {"model": "ollama_chat/tiny", "api_base": base.removesuffix("/v1")}
    assert completion(**ollama).choices[0].message.content == whole
    assert completion(**ollama | {"model": "ollama/tiny"}).choices[0].message.content is not None
    return ["chat", "stream", "ollama_chat", "ollama"]


def by_llm(base: str, folder: Path) -> list[str]:
    (folder / "extra-openai-models.yaml").write_text(f'- model_id: likely\n  model_name: tiny\n  api_base: "{base}"\n')
    command = [str(Path(sys.executable).parent / "llm"), "-m", "likely", "hi", "--key", "none", "-o", "max_tokens", "6"]
    environment = {**os.environ, "LLM_USER_PATH": str(folder)}
    for more in ([], ["--no-stream"]):
        done = subprocess.run([*command, *more, "-o", "seed", "3"], env=environment, capture_output=True, check=True)
        assert done.stdout.strip()
    return ["prompt", "stream"]


if __name__ == "__main__":
    base = f"http://127.0.0.1:{sys.argv[1]}/v1"
    found = {"litellm": by_litellm(base), "llm": by_llm(base, Path(sys.argv[2]))}
    print(json.dumps(found))
