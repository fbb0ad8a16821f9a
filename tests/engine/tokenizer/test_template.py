"""Chat templates: rendered as transformers renders them, in a sandbox that holds, and where each message stands."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.base.errors import ParameterError, TemplateError
from likely.engine.base.sandbox import process
from likely.engine.base.sandbox.environment import Sandbox
from likely.engine.text.tokenizer import ChatTemplate, Message, from_folder, from_gguf
from likely.engine.text.tokenizer.turns import turns
from tests.engine.vocabularies import CHATML, byte_level, folder, scored

HI: list[Message] = [{"role": "user", "content": "hi"}]


def render(source: str, messages: Sequence[Message] = HI, generation_prompt: bool = False, **options: Any) -> str:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return template.render(messages, generation_prompt=generation_prompt, **options)


# -- rendering -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>hi</s>"),
        ("{% if add_generation_prompt %}A{% else %}B{% endif %}", "B"),
        ("  {% if true %}\n  x\n  {% endif %}\ny", "  x\ny"),  # blocks trimmed on both sides
        ("{{ {'é': '<a>', 'n': 1} | tojson }}", '{"é": "<a>", "n": 1}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("a{% generation %}b{{ messages[0].role }}{% endgeneration %}c", "abuserc"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1"),
        ("{{ strftime_now('%%') }}", "%"),
        ("{{ missing }}{{ messages[0].missing }}{% if tools is none %}none{% endif %}", "none"),
        ("{{ '=' * 3 }}{{ 2 ** 3 }}{{ 1.5 * 2 }}", "===83.0"),
    ],
)
def test_the_environment_that_templates_are_written_for(source: str, expected: str) -> None:
    assert render(source) == expected


SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou "
    "are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("prompting", [False, True])
@pytest.mark.parametrize("roles", [(), ("system",), ("system", "user"), ("user", "assistant", "user", "system")])
def test_what_is_written_of_a_known_template_is_what_it_writes(roles: tuple[str, ...], prompting: bool) -> None:
    said = [{"role": role, "content": f"<|im_end|>{{{{ 1 }}}} <é> \n{i}"} for i, role in enumerate(roles)]
    sandbox = Sandbox()
    values = {"messages": said, "add_generation_prompt": prompting}
    assert render(SMOLLM2, said, prompting) == sandbox.run(sandbox.from_string(SMOLLM2), values)
    assert ChatTemplate(SMOLLM2).known is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("{{ raise_exception('System role not supported') }}", "refuses this conversation: System role not supported"),
        ("{{ messages[0].content.no.thing }}", "failed: UndefinedError"), ("{{ 1 / 0 }}", "failed: ZeroDivisionError"),
        ("{% for %}", "cannot be read"), ("{{ x", "cannot be read"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "failed: RecursionError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "sandbox"), ("{{ messages.append(1) }}", "sandbox"),
        ("{{ strftime_now.__globals__['json'] }}", "sandbox"),
        ("{% for i in range(99999999999) %}{% endfor %}", "sandbox"),
        ("{% for i in range(4000) %}{% for j in range(4000) %}{% endfor %}{% endfor %}", "more than 262144 steps"),
        ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(30) }}", "sandbox"),
        ("{{ 'x'.ljust(10 ** 9) }}", "sandbox"), ("{{ 'x' * 10 ** 9 }}", "sandbox"),
        ("{{ 10 ** 10 ** 10 }}", "sandbox"),
        ("{% for i in range(1000) %}{{ 'x' * 100000 }}{% endfor %}", "wrote more than"),
    ],
)  # fmt: skip
def test_refusals_failures_and_escapes_are_one_line(source: str, line: str) -> None:
    with pytest.raises(TemplateError, match=line) as caught:
        render(source)
    assert "\n" not in str(caught.value)


HOSTILE = [
    "{% set ns=namespace(s=3) %}{% for i in range(60) %}{% set ns.s=ns.s*ns.s %}{% endfor %}",
    "{% set s = messages[0].content * 60000 %}{% for a in s %}{% for b in s %}{% endfor %}{% endfor %}",
    "{{ lipsum(n=100000) }}", "{{ [1]|slice(10**9)|list }}", "{{ '%3000000000d' % 1 }}", "{{ 'a'|center(3000000000) }}",
    "{{ '{:3000000000}'.format('a') }}", "{{ 'a\nb'|indent(3000000000) }}", "{{ {'a': 1}|tojson(indent=3000000000) }}",
    "{% set ns=namespace(s='aa') %}{% for i in range(40) %}{% set ns.s=ns.s~ns.s %}{% endfor %}",
    "{% set ns=namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s=ns.s+ns.s %}{% endfor %}",
]  # fmt: skip


@pytest.mark.slow  # some take all the time that they are given
@pytest.mark.parametrize("source", HOSTILE)
def test_a_template_without_end_or_measure_is_stopped(source: str) -> None:
    """In a process of its own: this one neither waits nor grows, and the next template is run as ever."""
    with pytest.raises(TemplateError, match="chat template") as caught:
        render(source)
    assert "\n" not in str(caught.value)
    assert render("{{ messages[0].content }}") == "hi"


def children() -> set[int]:
    """Processes that this one has started and that are alive."""
    found = {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}
    return {pid for pid in found if "sandbox" in Path(f"/proc/{pid}/cmdline").read_text()}


@pytest.mark.linux
def test_a_process_that_takes_too_long_is_killed_or_does_not_begin_costs_no_other_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert render("{{ 1 }}") == render("{{ 1 }}") == "1"
    (first,) = children()
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert render("{{ 3 }}") == "3" and children() != {first} and len(children()) == 1
    process.end()
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", shutil.which("true"))
        with pytest.raises(TemplateError, match="its process did not begin"):
            render("{{ 4 }}")
    assert children() == set() and render("{{ 5 }}") == "5"


@pytest.mark.linux
def test_memory_is_the_childs_and_bounded() -> None:
    with pytest.raises(TemplateError, match="more than 1 GB of memory"):
        render("{{ 'a'|center(3000000000) }}")
    resource = __import__("resource")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 << 20  # kB: not here


def test_options_reach_the_template_or_are_refused() -> None:
    assert render("{{ enable_thinking }}", enable_thinking=False) == "False"
    with pytest.raises(ParameterError, match="no 'thinking': it reads enable_thinking"):
        render("{{ enable_thinking }}{{ messages }}", thinking=True)
    with pytest.raises(ParameterError, match="no 'tools': it reads no options"):
        render("{{ messages }}", tools=[{}])


def test_a_base_model_says_that_it_has_no_template() -> None:
    tokenizer = from_gguf({key: value for key, value in byte_level().items() if "chat" not in key})
    assert tokenizer.chat_template is None
    with pytest.raises(TemplateError, match=r"no chat template.*--raw"):
        tokenizer.chat(HI)


CITY: Any = {"name": "weather", "arguments": {"city": 'Köln "am Rhein"', "days": 3, "more": {"a": [1, None]}}}
ASKED: Any = [{"type": "function", "function": each} for each in (CITY, {"name": "sum", "arguments": {}})]
SPOKEN: dict[str, Message] = {
    "s": {"role": "system", "content": "Be brief."}, "u": {"role": "user", "content": "Rain?"},
    "a": {"role": "assistant", "content": "So.", "reasoning_content": "hm"},
    "c": {"role": "assistant", "content": "I look.", "reasoning_content": "hmm", "tool_calls": ASKED},
    "t": {"role": "tool", "content": "no"},
}  # fmt: skip


def test_deepseek_v32_writes_what_the_program_in_its_folder_does(tmp_path: Path) -> None:
    """A folder of it has no template; mlx-lm has a copy of that program."""
    from mlx_lm.chat_templates.deepseek_v32 import encode_messages

    (folder(tmp_path) / "tokenizer_config.json").unlink()
    (tmp_path / "config.json").write_text('{"model_type": "deepseek_v32"}')
    template = from_folder(tmp_path).templates["default"]
    tools = [{"type": "function", "function": {"name": name, "description": "für <a>"}} for name in ("weather", "sum")]
    texts = [{"function": {**f["function"], "arguments": json.dumps(f["function"]["arguments"], ensure_ascii=False)}}
             for f in ASKED]  # fmt: skip
    for talk, offered, thinking in product(("u", "suau", "sucttau", "ucttauctt"), (tools, []), (True, False, None)):
        messages = [SPOKEN[letter] for letter in talk]
        told: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
        written = template.render(messages, generation_prompt=True, **told, **({"tools": offered} if offered else {}))
        theirs = [dict(message) | ({"tool_calls": texts} if "tool_calls" in message else {}) for message in messages]
        if offered and not talk.startswith("s"):
            theirs.insert(0, {"role": "system", "content": ""})
        theirs[0] |= {"tools": offered}
        assert written == encode_messages(theirs, "chat" if thinking is False else "thinking")


def test_control_tokens_of_a_conversation_are_themselves() -> None:
    tokenizer = from_gguf(byte_level())
    assert tokenizer.render(HI) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.chat(HI)
    assert (ids.count(1), ids.count(2)) == (2, 1)
    assert tokenizer.decode(ids, special=True) == tokenizer.render(HI)


@pytest.mark.slow
def test_equals_transformers(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    folder(tmp_path)
    ours, theirs = from_folder(tmp_path), PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"é": "<b>"}}}]
    for source, messages in FAMILIES.items():
        (tmp_path / "chat_template.jinja").write_text(source)
        ours = from_folder(tmp_path)
        for prompt in (False, True):
            options: dict[str, Any] = {"tools": tools} if "tools" in source else {}
            expected = theirs.apply_chat_template(
                messages, chat_template=source, add_generation_prompt=prompt, tokenize=False, **options
            )
            assert ours.render(messages, generation_prompt=prompt, **options) == expected


# -- where each message stands ---------------------------------------------------------------------------------------

TALK: list[Message] = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1"}, {"role": "user", "content": " Two? "}, {"role": "assistant", "content": "2"},
]  # fmt: skip
REASONED: list[Message] = [
    {"role": "user", "content": "One?"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nIt is 1."},
    {"role": "user", "content": "Two?"}, {"role": "assistant", "content": "<think>\nhm, hm\n</think>\n\nIt is 2."},
]  # fmt: skip
CALLED: list[Message] = [
    {"role": "user", "content": "Sum?"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "sum", "arguments": {"of": [1, 2]}}}]},
    {"role": "tool", "content": "3"},
    {"role": "assistant", "content": "3 it is."},
]

# Like Qwen 3: reasoning of past turns is dropped, and the generation prompt can hold more than the rendering keeps.
QWEN = """{% set ns = namespace(last=0) %}
{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{% for m in messages %}{% set content = m.content %}
{% if m.role == 'assistant' %}{% set reasoning = '' %}{% if '</think>' in content %}
{% set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}
{{- '<|im_start|>assistant\\n' }}{% if loop.index0 > ns.last and reasoning %}
{{- '<think>\\n' + reasoning + '\\n</think>\\n\\n' }}{% endif %}
{{- content + '<|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}{%- endif %}{% endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{%- endif %}"""

# Like Llama 2: the system message joins the first user's, texts are trimmed, there is no generation prompt.
LLAMA = """{% set system, rest = '', messages %}
{%- if messages[0].role == 'system' %}{% set system = '<<SYS>>' + messages[0].content + '<</SYS>>' %}
{%- set rest = messages[1:] %}{% endif %}{% for m in rest %}
{%- if m.role == 'user' %}{{ '[INST] ' + (system if loop.first else '') + m.content.strip() + ' [/INST]' }}
{%- elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' <|im_end|>' }}
{%- else %}{{ raise_exception('no ' + m.role) }}{% endif %}{% endfor %}"""

# Calls of tools as JSON, in a turn without content.
TOOLS = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}{% for call in m.tool_calls or [] %}
{{- '<call>' + (call.function | tojson) + '</call>' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}{{ tools | tojson if tools else '' }}"""

FAMILIES = {CHATML: TALK, QWEN: REASONED, LLAMA: TALK, TOOLS: CALLED}
WRITTEN = {
    CHATML: ["1<|im_end|>", "2<|im_end|>"],
    # the generation prompt opens with <think>, so that is not written
    QWEN: ["It is 1.<|im_end|>", "hm, hm\n</think>\n\nIt is 2.<|im_end|>"],
    LLAMA: ["1 <|im_end|>", "2 <|im_end|>"],
    TOOLS: ['<call>{"name": "sum", "arguments": {"of": [1, 2]}}</call><|im_end|>', "3 it is.<|im_end|>"],
}


@pytest.mark.parametrize("source", FAMILIES, ids=["chatml", "qwen", "llama", "tools"])
@pytest.mark.parametrize("metadata", [byte_level, scored], ids=["byte-level", "sentencepiece"])
def test_spans_are_what_the_model_writes(source: str, metadata: Any) -> None:
    tokenizer = from_gguf({**metadata(), "tokenizer.chat_template": source})
    messages = FAMILIES[source]
    ids, spans = tokenizer.spans(messages)
    assert ids == tokenizer.chat(messages, generation_prompt=False)
    assert len(spans) == len(messages) and all(a.stop <= b.start for a, b in pairwise(spans))
    written = [
        b"".join(tokenizer.piece(ids[i]) for i in span).decode()
        for span, message in zip(spans, messages, strict=True)
        if message["role"] == "assistant"
    ]
    if metadata is scored and source is LLAMA:  # the answer's first token holds the blank before it
        written = [text.removeprefix(" ") for text in written]
    expected = WRITTEN[source]
    assert [text.replace("\n ", "\n") if metadata is scored else text for text in written] == expected


@given(st.lists(st.text("ab <|im_end|>\n é", max_size=8), min_size=1, max_size=5), st.booleans())
@settings(max_examples=100)
def test_turns_of_any_text(contents: list[str], system: bool) -> None:
    roles = ["system"] * system + ["user", "assistant"] * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    template = ChatTemplate(CHATML)
    text, found = turns(lambda part, prompt: template.render(part, generation_prompt=prompt), messages)
    at = 0
    for message, turn in zip(messages, found, strict=True):
        header = f"<|im_start|>{message['role']}\n"
        begin, end = at + len(header), at + len(header) + len(message["content"])
        core = message["content"].strip()
        if core:
            lead = len(message["content"]) - len(message["content"].lstrip())
            assert turn.start == (begin if message["role"] == "assistant" else begin + lead)
            assert turn.stop == begin + lead + len(core)
        at = end + len("<|im_end|>\n")
    assert at == len(text)


def spelled(tokenizer: Any, messages: Sequence[Message], special: bool = False) -> list[str]:
    """What each message's tokens say."""
    ids, spans = tokenizer.spans(messages)
    return [tokenizer.decode(ids[span.start : span.stop], special=special) for span in spans]


def said(*turns: str) -> list[Message]:
    return [{"role": ["user", "assistant"][i % 2], "content": text} for i, text in enumerate(turns)]


PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
SHOWN: list[tuple[str, list[Message], list[str]]] = [
    # a message that is not shown has no tokens
    (PLAIN.replace("messages", "messages if m.role != 'system'").replace("}}{%", "}}<|im_end|>{%"), TALK,
     ["", "One?", "1", " Two? ", "2"]),
    (PLAIN, said("😀", "😱", "x"), ["😀", "😱", "x"]),  # a character of several tokens stays whole
    # half of a token that straddles the end is the answer's: who has to write that has to write the token
    (PLAIN.replace("}}{%", "}}e\n{%"), said("go", "see th"), ["go", "see the"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "messages", "expected"), SHOWN)
def test_spans_hold_what_is_of_a_message(source: str, messages: list[Message], expected: list[str]) -> None:
    tokenizer = from_gguf(byte_level(**{"tokenizer.chat_template": source}))
    found = spelled(tokenizer, messages)
    assert [found[0].removesuffix("e\n"), *found[1:]] == expected


def test_a_turn_reaches_through_its_end() -> None:
    """One that is no end of text too; and an empty message does not hide the end of the one before."""
    messages = said("One?", "1", "", "Well?")
    for more in ({}, {"tokenizer.ggml.eos_token_id": 0}):
        tokenizer = from_gguf({**byte_level(), **more})
        assert spelled(tokenizer, messages, special=True)[1::2] == ["1<|im_end|>", "Well?<|im_end|>"]
