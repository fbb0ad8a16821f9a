"""How families write a conversation: the marks that they publish, in templates of our own.

Where each was read is its `source`: of a file of llama.cpp's `models/templates`, which stand in the source archive of
the package llama-cpp-python, the name alone. Of tools a template here says nothing, it reads whether there are any.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from likely.engine.chat.tools.tool import Tool, ToolCall, ToolResult
from likely.engine.chat.tools.use import ToolAnswer, ToolUse
from likely.engine.decode.prompt import Prompt, Turn
from likely.engine.text.tokenizer.template import ChatTemplate
from likely.engine.text.tokenizer.unpublished import TEMPLATES

PROPERTIES = {"city": {"type": "string"}, "days": {"type": "integer"}}
WEATHER = Tool("", "weather", "", {"type": "object", "properties": PROPERTIES})
CALL = ToolCall("weather", {"city": "12", "days": 3})

ARGUMENTS = '{"city": "12", "days": 3}'
HERMES = f'{{"name": "weather", "arguments": {ARGUMENTS}}}'
CODER = """<function=weather>
<parameter=city>
12
</parameter>
<parameter=days>
3
</parameter>
</function>"""
GLM = """weather
<arg_key>city</arg_key>
<arg_value>12</arg_value>
<arg_key>days</arg_key>
<arg_value>3</arg_value>
"""
MINIMAX = """<invoke name="weather">
<parameter name="city">12</parameter>
<parameter name="days">3</parameter>
</invoke>"""
INLINE = CODER.replace(">\n12\n<", ">12<").replace(">\n3\n<", ">3<")
JSON_CALL = '{"name": "{{ c.name }}", "arguments": {{ c.arguments | tojson }}}'
XML_CALL = """<function={{ c.name }}>
{% for k, v in c.arguments | items %}<parameter={{ k }}>
{{ v }}
</parameter>
{% endfor %}</function>"""
INLINE_CALL = XML_CALL.replace(">\n{{ v }}\n<", ">{{ v }}<")
GLM_CALL = """{{ c.name }}
{% for k, v in c.arguments | items %}<arg_key>{{ k }}</arg_key>
<arg_value>{{ v }}</arg_value>
{% endfor %}"""
GEMMA_CALL = """call:{{ c.name }}{
{%- for k, v in c.arguments | items %}{{ "," if not loop.first }}{{ k }}:
{%- if v is string %}<|"|>{{ v }}<|"|>{% else %}{{ v }}{% endif %}{% endfor %}}"""
MINIMAX_CALL = """<invoke name="{{ c.name }}">
{% for k, v in c.arguments | items %}<parameter name="{{ k }}">{{ v }}</parameter>
{% endfor %}</invoke>"""
BLOCK = f"<tool_calls><tool_call>weather\n```json\n{ARGUMENTS}\n```</tool_call></tool_calls>"
BLOCK_CALL = """{{ '<tool_calls>' if loop.first }}<tool_call>{{ c.name }}
```json
{{ c.arguments | tojson }}
```</tool_call>{{ '</tool_calls>' if loop.last }}"""
DSML = """

<\uff5cDSML\uff5cfunction_calls>
<\uff5cDSML\uff5cinvoke name="weather">
<\uff5cDSML\uff5cparameter name="city" string="true">12</\uff5cDSML\uff5cparameter>
<\uff5cDSML\uff5cparameter name="days" string="false">3</\uff5cDSML\uff5cparameter>
</\uff5cDSML\uff5cinvoke>
</\uff5cDSML\uff5cfunction_calls>"""
PYTHON_CALL = """{{ c.name }}({% for k, v in c.arguments | items %}{{ ", " if not loop.first }}{{ k }}={{ v | tojson }}
{%- endfor %})"""


@dataclass(frozen=True)
class Dialect:
    """A family's marks; `{}` is where the words stand. `answer` begins an answer and `end` ends it; `call` is a
    template's text for `c`; `written` is weather(city="12", days=3) as a model writes it, and `kept` as later prompts
    have it, where that is something else. `reads` is the template's name of a thought, "" where it leaves those of
    earlier answers out."""

    source: str
    system: str
    user: str
    answer: str
    end: str
    thought: str = ""
    call: str = ""
    result: str = ""
    written: str = ""
    kept: str = ""
    reads: str = "m.reasoning_content"
    goes_on: bool = False  # an answer, behind a result
    ends: tuple[str, ...] = ()  # of an answer, beside `end`
    named: tuple[str, ...] = ()  # ends that only a configuration can tell, since they begin something else
    ours: str = ""  # the template, where the program has its own

    @property
    def stops(self) -> tuple[str, ...]:
        """All that may end an answer."""
        return *filter(None, (self.end.strip(),)), *self.ends, *self.named

    def tokenizer(self, template: str = "") -> Any:
        """One that has a template, its own if none is given, and no mark for a token."""
        source = template or self.template
        return SimpleNamespace(
            chat_template=source,
            templates={"default": ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})},
            encode=lambda text, special: [0, 0],
            is_special=lambda token: False,
        )

    def prompt(self, tokenizer: Any) -> str:
        """Behind "Be brief.", "Rain?", the thought "hm", and the call and what it came to, "no", or what was said."""
        use = ToolUse.of(tokenizer, (WEATHER,))
        if self.written:
            called = ToolAnswer("", "hm", (CALL,), "", 0, self.written)
            prompt = use.prompt((("user", "Rain?"), *use.turns(called, [ToolResult("no")], tokenizer)), "Be brief.")
        else:
            said: Turn = {"role": "assistant", "content": "So.", "reasoning_content": "hm"}
            prompt = Prompt((("user", "Rain?"), said, ("user", "Rain?")), system="Be brief.")
        told = {"tools": prompt.tools} if prompt.tools else {}
        return str(tokenizer.templates["default"].render(prompt.messages, generation_prompt=True, **told))

    @property
    def pieces(self) -> tuple[str, ...]:
        """Of that prompt, in order."""
        user, thought = self.user.format("Rain?"), self.thought.format("hm") if self.reads else ""
        begins, _, ends = self.system.partition("{}")
        system = (begins, "Be brief.", ends) if self.system else ()
        after = self.result.replace("{}", "no") if self.written else user
        answer = (self.answer, thought, f"{self.kept or self.written or 'So.'}{self.end}")
        return *system, user, *answer, after, "" if self.goes_on and self.written else self.answer

    @property
    def template(self) -> str:
        if self.ours:
            return self.ours

        def of(role: str, text: str) -> str:
            return f"{{%- elif m.role == '{role}' %}}{quoted(text)}"

        thought = f"{{%- if {self.reads} %}}{quoted(self.thought, self.reads)}{{%- endif %}}"
        thought = thought if self.reads else f"{{#- {self.thought} -#}}"
        calls = f"{{%- for call in m.tool_calls %}}{{%- set c = call.function %}}{self.call}{{%- endfor %}}"
        answer = f"{quoted(self.answer)}{thought}{{{{- m.content }}}}"
        if self.reads.startswith("block"):
            answer = PARTS
        if self.written:
            answer += f"{{%- if tools %}}{calls if 'c.' in self.call else self.call}{{%- endif %}}"
        turns = of("system", self.system) + of("user", self.user) + of("tool", self.result)
        return (
            "{%- for m in messages %}{%- set message = m %}{%- if false %}" + turns + "{%- else %}" + answer
            + quoted(self.end) + "{%- endif %}{%- endfor %}{%- if add_generation_prompt"
            + (" and messages[-1].role != 'tool'" if self.goes_on else "") + " %}" + quoted(self.answer)
            + "{%- endif %}"
        )  # fmt: skip


def quoted(text: str, words: str = "m.content") -> str:
    """A template's text that writes a text to the letter, but for the words in it."""
    before, _, after = text.partition("{}")
    return f"{{{{- {before!r} }}}}" + (f"{{{{- {words} }}}}{{{{- {after!r} }}}}" if "{}" in text else "")


PARTS = """{%- if m.content is string %}{{- m.content }}{%- else %}{%- for block in m.content %}
{%- if block['type'] == 'thinking' %}{{- '[THINK]' ~ block['thinking'] ~ '[/THINK]' }}{%- else %}{{- block['text'] }}
{%- endif %}{%- endfor %}{%- endif %}"""
CHATML: dict[str, Any] = {
    "system": "<|im_start|>system\n{}<|im_end|>\n", "user": "<|im_start|>user\n{}<|im_end|>\n",
    "answer": "<|im_start|>assistant\n", "end": "<|im_end|>\n", "thought": "<think>\n{}\n</think>\n\n",
    "result": "<|im_start|>user\n<tool_response>\n{}\n</tool_response><|im_end|>\n",
}  # fmt: skip
TAGGED = ("<tool_call>\n", "\n</tool_call>")
DIALECTS = {
    "qwen3": Dialect("Qwen-Qwen3-0.6B.jinja", **CHATML, call=JSON_CALL.join(TAGGED), written=HERMES.join(TAGGED),
                     ends=("<|endoftext|>",)),
    "qwen2.5": Dialect("Qwen-Qwen2.5-7B-Instruct.jinja", **CHATML | {"thought": ""}, call=JSON_CALL.join(TAGGED),
                       reads="", written=HERMES.join(TAGGED)),
    "qwen3.5": Dialect("Qwen3.5-4B.jinja", **CHATML, call=XML_CALL.join(TAGGED), written=CODER.join(TAGGED)),
    # its template has no place for a call: it is what the message says
    "smollm3": Dialect("HuggingFaceTB/SmolLM3-3B, its card, and the commit that has its template read tools",
        **CHATML | {"result": "<|im_start|>user\n{}<|im_end|>\n"}, call="{#- <tool_call> -#}",
        written=HERMES.join(TAGGED), reads=""),
    # its calls are JSON without a mark
    "llama3": Dialect("meta-llama-Llama-3.1-8B-Instruct.jinja",
        "<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>",
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", reads="",
        ends=("<|eom_id|>", "<|end_of_text|>"),
    ),
    "gpt-oss": Dialect("openai-gpt-oss-120b.jinja",
        "<|start|>developer<|message|># Instructions\n\n{}", "<|start|>user<|message|>{}<|end|>",
        "<|start|>assistant", "", "<|channel|>analysis<|message|>{}<|end|><|start|>assistant",
        ' to=functions.{{ c.name }}<|channel|>commentary json<|message|>{{ c.arguments | tojson }}<|call|>'
        "{{- '' if true else '<|channel|>final<|message|>' }}",
        '<|start|>functions.weather to=assistant<|channel|>commentary<|message|>"{}"<|end|>',
        f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>",
        f" to=functions.weather<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>", "message.thinking",
        ends=("<|return|>", "<|call|>"),
    ),
    "gemma3": Dialect("gemma-3 in unsloth, unsloth/chat_templates.py",
        "<start_of_turn>user\n{}\n\n", "{}<end_of_turn>\n", "<start_of_turn>model\n", "<end_of_turn>\n", reads="",
        ends=("<eos>",)),
    "gemma4": Dialect("google-gemma-4-31B-it.jinja",
        "<|turn>system\n{}", "<|turn>user\n{}<turn|>\n", "<|turn>model\n", "",
        "<|channel>thought\n{}\n<channel|>", f"<|tool_call>{GEMMA_CALL}<tool_call|>",
        '<|tool_response>response:weather{value:<|"|>{}<|"|>}<tool_response|>',
        '<|tool_call>call:weather{city:<|"|>12<|"|>,days:3}<tool_call|>', goes_on=True,
        ends=("<turn|>", "<|tool_response>"),
    ),
    "mistral": Dialect("mistralai-Ministral-3-14B-Reasoning-2512.jinja",
        "[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]", "[INST]{}[/INST]", "", "</s>", "[THINK]{}[/THINK]",
        "[TOOL_CALLS]{{ c.name }}[ARGS]{{ c.arguments | tojson }}", "[TOOL_RESULTS]{}[/TOOL_RESULTS]",
        f"[TOOL_CALLS]weather[ARGS]{ARGUMENTS}", reads="block['thinking']",
    ),
    "mistral-v3": Dialect("mistralai-Mistral-Nemo-Instruct-2407.jinja",
        "", "[INST]{}[/INST]", "", "</s>", "",
        f'[TOOL_CALLS][{JSON_CALL[:-1]}, "id": "call00000"}}]', '[TOOL_RESULTS]{"content": {}, "call_id": "call00000"}'
        "[/TOOL_RESULTS]", f"[TOOL_CALLS][{HERMES}]", f'[TOOL_CALLS][{HERMES[:-1]}, "id": "call00000"}}]', "",
    ),
    "olmo3": Dialect("ollama, model/renderers/olmo3.go",
        **CHATML | {"thought": "", "result": "<|im_start|>environment\n{}<|im_end|>\n"}, reads="",
        call=f"<function_calls>{PYTHON_CALL}</function_calls>",
        written='<function_calls>weather(city="12", days=3)</function_calls>',
    ),
    "command": Dialect("CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja",
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
        "<|START_THINKING|>{}<|END_THINKING|>",
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "{{ c.name }}", '
        '"parameters": {{ c.arguments | tojson }}}\n]<|END_ACTION|>',
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><|START_TOOL_RESULT|>[\n    {\n        \"tool_call_id\": \"0\",\n"
        '        "results": {\n            "0": "{}"\n        },\n        "is_error": null\n    }\n]<|END_TOOL_RESULT|>'
        "<|END_OF_TURN_TOKEN|>",
        f'<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "weather", "parameters": {ARGUMENTS}}}\n]'
        "<|END_ACTION|>",
    ),
    "phi4": Dialect("phi-4 in llama.cpp, tests/test-chat-template.cpp",
        "<|im_start|>system<|im_sep|>{}<|im_end|>", "<|im_start|>user<|im_sep|>{}<|im_end|>",
        "<|im_start|>assistant<|im_sep|>", "<|im_end|>", reads="", ends=("<|end|>",),  # of Phi-4-mini
    ),
    "glm4.6": Dialect("GLM-4.6.jinja",
        "<|system|>\n{}", "<|user|>\n{}", "<|assistant|>", "", "\n<think>{}</think>",
        f"{{{{- '\\n' }}}}<tool_call>{GLM_CALL}</tool_call>", "<|observation|>\n<tool_response>\n{}\n</tool_response>",
        f"\n<tool_call>{GLM}</tool_call>", ends=("<|endoftext|>",), named=("<|user|>", "<|observation|>"),
    ),
    "glm": Dialect("GLM-4.7-Flash.jinja",
        "<|system|>{}", "<|user|>{}", "<|assistant|>", "", "<think>{}</think>",
        f"<tool_call>{GLM_CALL}</tool_call>".replace("\n", ""), "<|observation|><tool_response>{}</tool_response>",
        f"<tool_call>{GLM}</tool_call>".replace("\n", ""), named=("<|user|>", "<|observation|>"),
    ),
    # it is not told of tools
    "deepseek": Dialect("deepseek-ai-DeepSeek-V3.1.jinja",
        "{}", "<\uff5cUser\uff5c>{}", "<\uff5cAssistant\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<think>{}</think>", reads="",
    ),
    # it closes a conversation's results and its answers by what stands before them
    "hunyuan": Dialect("llama-server's account of the template of a Hunyuan A13B file",
        "{}<|extra_4|>", "{}<|extra_0|>", "", "<|eos|>", "<think>\n{}\n</think>\n<answer>\n", BLOCK_CALL,
        "<tool_responses><tool_response>{}</tool_response></tool_responses><|extra_0|>", BLOCK, reads="",
        named=("<|eos|>",),
    ),
    "hunyuan-dense": Dialect("ms-swift, HunyuanHermesAgentTemplate, and llama.cpp, LLM_CHAT_TEMPLATE_HUNYUAN_DENSE",
        "{}<\uff5chy_place\u2581holder\u2581no\u25813\uff5c>", "<\uff5chy_User\uff5c>{}", "<\uff5chy_Assistant\uff5c>",
        "<\uff5chy_place\u2581holder\u2581no\u25812\uff5c>", "<think>\n{}\n</think>\n<answer>\n", BLOCK_CALL,
        "<\uff5chy_User\uff5c><tool_responses><tool_response>{}</tool_response></tool_responses>", BLOCK, reads="",
        named=("<\uff5chy_place\u2581holder\u2581no\u25812\uff5c>",),
    ),
    # its folder has a program in the place of a template
    "deepseek-v3.2": Dialect("mlx-lm, mlx_lm/chat_templates/deepseek_v32.py",
        "{}", "<\uff5cUser\uff5c>{}<\uff5cAssistant\uff5c>", "<think>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "{}</think>", "", "\n\n<function_results>\n<result>{}</result>\n</function_results>\n\n", DSML,
        ours=TEMPLATES["deepseek_v32"],
    ),
    # an id is all that says what was called
    "kimi": Dialect("moonshotai-Kimi-K2-Thinking.jinja",
        "<|im_system|>system<|im_middle|>{}<|im_end|>", "<|im_user|>user<|im_middle|>{}<|im_end|>",
        "<|im_assistant|>assistant<|im_middle|>", "<|im_end|>", "<think>{}</think>",
        "<|tool_calls_section_begin|><|tool_call_begin|>{{ call.id }}<|tool_call_argument_begin|>"
        "{{ c.arguments | tojson }}<|tool_call_end|><|tool_calls_section_end|>",
        "<|im_system|>weather<|im_middle|>## Return of functions.weather:0\n{}<|im_end|>",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
        f"{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>", ends=("[EOS]",),
    ),
    # its template has no place for a call: it is what the message says
    "lfm2": Dialect("LFM2-8B-A1B.jinja",
        **CHATML | {"thought": "", "result": "<|im_start|>tool\n<|tool_response_start|>{}<|tool_response_end|>"
                    "<|im_end|>\n"},
        reads="", call="{#- <|tool_list_start|> -#}",
        written='<|tool_call_start|>[weather(city="12", days=3)]<|tool_call_end|>',
    ),
    "lfm2.5": Dialect("LFM2.5-8B-A1B.jinja",
        **CHATML | {"thought": "<think>{}</think>",
                    "result": "<|im_start|>tool\n{}<|im_end|>\n"}, reads="message.thinking",
        call=f"<|tool_call_start|>[{PYTHON_CALL}]<|tool_call_end|>".replace(
            "{{ v | tojson", """{{ "'" ~ v ~ "'" if v is string else v"""),
        kept="<|tool_call_start|>[weather(city='12', days=3)]<|tool_call_end|>",
        written='<|tool_call_start|>[weather(city="12", days=3)]<|tool_call_end|>',
    ),
    "granite4": Dialect("ibm-granite-granite-4.0.jinja",
        "<|start_of_role|>system<|end_of_role|>{}<|end_of_text|>\n",
        "<|start_of_role|>user<|end_of_role|>{}<|end_of_text|>\n",
        "<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>\n", "", JSON_CALL.join(TAGGED),
        "<|start_of_role|>user<|end_of_role|>\n<tool_response>\n{}\n</tool_response><|end_of_text|>\n",
        HERMES.join(TAGGED), reads="",
    ),
    "exaone4": Dialect("ollama, model/renderers/exaone4.go",
        "[|system|]\n{}[|endofturn|]\n", "[|user|]\n{}[|endofturn|]\n", "[|assistant|]\n", "[|endofturn|]\n",
        "<think>\n{}\n</think>\n\n", "<tool_call>" + JSON_CALL + "</tool_call>",
        '[|tool|]\n<tool_result>{"result": "{}"}</tool_result>[|endofturn|]\n', f"<tool_call>{HERMES}</tool_call>",
    ),
    "seed": Dialect("ByteDance-Seed-OSS.jinja",
        "<seed:bos>system\n{}", "<seed:bos>user\n{}<seed:eos>", "<seed:bos>assistant\n", "<seed:eos>",
        "<seed:think>{}</seed:think>", "{{- '\\n' }}" + INLINE_CALL.join(("<seed:tool_call>\n", "\n</seed:tool_call>")),
        "<seed:bos>tool\n{}<seed:eos>", INLINE.join(("\n<seed:tool_call>\n", "\n</seed:tool_call>")),
    ),
    "nemotron": Dialect("NVIDIA-Nemotron-Nano-v2.jinja",
        "<SPECIAL_10>System\n{}", "<SPECIAL_11>User\n{}\n", "<SPECIAL_11>Assistant\n", "\n<SPECIAL_12>\n",
        "<think>\n{}\n</think>\n", f"<TOOLCALL>[{JSON_CALL}]</TOOLCALL>",
        "<SPECIAL_11>User\n<TOOL_RESPONSE>[{}]</TOOL_RESPONSE>",
        f"<TOOLCALL>[{HERMES}]</TOOLCALL>", reads="",
    ),
    "minimax": Dialect("MiniMax-M2.jinja",
        "]~!b[]~b]system\n{}", "]~b]user\n{}[e~[\n", "]~b]ai\n", "[e~[\n", "<think>\n{}\n</think>\n\n",
        f"{{{{- '\\n' }}}}<minimax:tool_call>\n{MINIMAX_CALL}\n</minimax:tool_call>",
        "]~b]tool\n<response>{}</response>[e~[\n", f"\n<minimax:tool_call>\n{MINIMAX}\n</minimax:tool_call>",
    ),
}  # fmt: skip
SPOKEN = {  # model_type: the dialect of most of its models that chat
    "llama": "llama3", "qwen2": "qwen2.5", "qwen3": "qwen3", "qwen3_moe": "qwen3", "qwen3_next": "qwen3",
    "qwen3_5": "qwen3.5", "qwen3_5_moe": "qwen3.5", "gemma2": "gemma3", "gemma3_text": "gemma3", "gemma3n": "gemma3",
    "gemma4": "gemma4", "mistral": "mistral-v3", "mistral3": "mistral", "olmo3": "olmo3", "cohere2": "command",
    "lfm2_moe": "lfm2", "phi3": "phi4", "gpt_oss": "gpt-oss", "glm4_moe": "glm4.6",
    "glm4_moe_lite": "glm", "deepseek_v3": "deepseek", "kimi_k2": "kimi", "smollm3": "smollm3", "lfm2": "lfm2",
    "granitemoehybrid": "granite4", "exaone4": "exaone4", "seed_oss": "seed", "nemotron_h": "nemotron",
    "minimax_m2": "minimax", "hunyuan": "hunyuan", "hunyuan_v1_dense": "hunyuan-dense", "deepseek_v32": "deepseek-v3.2",
}  # fmt: skip
