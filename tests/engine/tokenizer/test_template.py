"""Chat templates: rendered as transformers renders them, in a sandbox that holds, and where each message stands."""

import os
import shutil
import signal
import sys
import venv
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.errors import ParameterError, TemplateError
from likely.engine.sandbox import process
from likely.engine.tokenizer import ChatTemplate, Message, from_folder, from_gguf
from likely.engine.tokenizer.turns import turns
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
@pytest.mark.slow
def test_a_process_that_takes_too_long_is_ended_and_another_begins() -> None:
    assert render("{{ 1 }}") == render("{{ 1 }}") == "1"
    (first,) = children()
    with pytest.raises(TemplateError, match="more than 3 seconds"):
        render(HOSTILE[0])
    assert children() == set() and render("{{ 2 }}") == "2"
    (second,) = children()
    assert second != first


@pytest.mark.linux
def test_a_process_that_was_killed_or_does_not_begin_costs_no_other_template(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert render("{{ 1 }}") == "1"
    (child,) = children()
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert render("{{ 3 }}") == "3" and len(children()) == 1
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")  # without jinja2
    for executable, why in ((shutil.which("true"), "status 0"), (python, "ModuleNotFoundError: .*'jinja2'")):
        process.end()
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", executable)
            with pytest.raises(TemplateError, match=f"cannot be run: its process did not begin: .*{why}; talk"):
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
@settings(max_examples=100, deadline=None)
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


def test_a_message_that_is_not_shown_has_no_tokens() -> None:
    source = "{% for m in messages if m.role != 'system' %}{{ m.content }}<|im_end|>{% endfor %}"
    tokenizer = from_gguf(byte_level(**{"tokenizer.chat_template": source}))
    ids, spans = tokenizer.spans(TALK)
    assert list(map(len, spans)) == [0, *(len(ids[span.start : span.stop]) for span in spans[1:])]
    assert [tokenizer.decode(ids[s.start : s.stop]) for s in spans] == ["", "One?", "1", " Two? ", "2"]


def test_an_empty_message_does_not_hide_the_end_of_the_one_before() -> None:
    tokenizer = from_gguf(byte_level())
    messages = [*TALK[1:3], {"role": "user", "content": ""}, {"role": "assistant", "content": "Well?"}]
    ids, spans = tokenizer.spans(messages)
    written = [tokenizer.decode((ids[i] for i in span), special=True) for span in spans]
    assert (written[1], written[3]) == ("1<|im_end|>", "Well?<|im_end|>")


def test_a_character_of_several_tokens_stays_whole() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    tokenizer = from_gguf(byte_level(**{"tokenizer.chat_template": source}))
    messages = [
        {"role": "user", "content": "😀"}, {"role": "assistant", "content": "😱"}, {"role": "user", "content": "x"},
    ]  # fmt: skip
    ids, spans = tokenizer.spans(messages)
    assert [tokenizer.decode(ids[s.start : s.stop]) for s in spans] == ["😀", "😱", "x"]


def test_a_token_that_straddles_the_end_of_a_turn_is_the_turns() -> None:
    """Half of it is the answer's: a model that has to write that has to write the token."""
    tokenizer = from_gguf(
        {**byte_level(), "tokenizer.chat_template": "{% for m in messages %}{{ m['content'] }}e\n{% endfor %}"}
    )
    ids, (_, answered) = tokenizer.spans(
        [{"role": "user", "content": "go"}, {"role": "assistant", "content": "see th"}]
    )
    written = b"".join(tokenizer.piece(ids[i]) for i in answered)
    assert tokenizer.encode(" the") == ids[answered.stop - 1 : answered.stop] and written == b"see the"


def test_a_turn_reaches_through_its_end_that_is_no_end_of_text() -> None:
    metadata = {**byte_level(), "tokenizer.chat_template": CHATML, "tokenizer.ggml.eos_token_id": 0}
    metadata.pop("tokenizer.ggml.eot_token_id", None)
    tokenizer = from_gguf(metadata)
    ids, spans = tokenizer.spans(TALK)
    ends = [ids[span.stop - 1] for span, message in zip(spans, TALK, strict=True) if message["role"] == "assistant"]
    assert {tokenizer.piece(token) for token in ends} == {b"<|im_end|>"}
