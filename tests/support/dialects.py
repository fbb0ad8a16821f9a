"""How families write a conversation: the marks that they publish, in templates of our own.

What is published is named beside each. Of tools a template here says nothing, it reads whether there are any.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from likely.engine.tokenizer.template import ChatTemplate

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
JSON_CALL = '{"name": "{{ c.name }}", "arguments": {{ c.arguments | tojson }}}'
XML_CALL = """<function={{ c.name }}>
{% for k, v in c.arguments | items %}<parameter={{ k }}>
{{ v }}
</parameter>
{% endfor %}</function>"""
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
PYTHON_CALL = """{{ c.name }}({% for k, v in c.arguments | items %}{{ ", " if not loop.first }}{{ k }}={{ v | tojson }}
{%- endfor %})"""


@dataclass(frozen=True)
class Dialect:
    """A family's marks; `{}` is where the words stand. `answer` begins an answer and `end` ends it; `call` is a
    template's text for `c`; `written` is weather(city="12", days=3) as a model writes it, and `kept` as later prompts
    have it, where that is something else."""

    system: str
    user: str
    answer: str
    end: str
    thought: str = ""
    call: str = ""
    result: str = ""
    written: str = ""
    kept: str = ""

    @property
    def tokenizer(self) -> Any:
        """One that has the template, and no mark for a token."""
        return SimpleNamespace(
            chat_template=self.template,
            templates={"default": ChatTemplate(self.template)},
            encode=lambda text, special: [0, 0],
        )

    @property
    def conversation(self) -> str:
        """The prompt behind "Be brief.", "Rain?", the thought "hm", the call and what it came to, "no"."""
        said = [self.system.format("Be brief."), self.user.format("Rain?"), self.answer, self.thought.format("hm")]
        call = (self.kept or self.written, self.end, self.result.replace("{}", "no"), self.answer)
        return "".join((*said, *(call if self.call else (self.end, self.answer))))

    @property
    def template(self) -> str:
        def of(role: str, text: str) -> str:
            return f"{{%- elif m.role == '{role}' %}}{quoted(text)}"

        thought = f"{{%- if m.reasoning_content %}}{quoted(self.thought, 'm.reasoning_content')}{{%- endif %}}"
        calls = f"{{%- for call in m.tool_calls %}}{{%- set c = call.function %}}{self.call}{{%- endfor %}}"
        answer = f"{quoted(self.answer)}{thought if self.thought else ''}{{{{- m.content }}}}"
        answer += f"{{%- if tools and m.tool_calls %}}{calls}{{%- endif %}}" if self.call else ""
        turns = of("system", self.system) + of("user", self.user) + of("tool", self.result)
        return (
            "{%- for m in messages %}{%- if false %}" + turns + "{%- else %}" + answer + quoted(self.end)
            + "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}" + quoted(self.answer) + "{%- endif %}"
        )  # fmt: skip


def quoted(text: str, words: str = "m.content") -> str:
    """A template's text that writes a text to the letter, but for the words in it."""
    before, _, after = text.partition("{}")
    return f"{{{{- {before!r} }}}}" + (f"{{{{- {words} }}}}{{{{- {after!r} }}}}" if "{}" in text else "")


CHATML = {
    "system": "<|im_start|>system\n{}<|im_end|>\n", "user": "<|im_start|>user\n{}<|im_end|>\n",
    "answer": "<|im_start|>assistant\n", "end": "<|im_end|>\n", "thought": "<think>\n{}\n</think>\n\n",
    "result": "<|im_start|>user\n<tool_response>\n{}\n</tool_response><|im_end|>\n",
}  # fmt: skip
TAGGED = ("<tool_call>\n", "\n</tool_call>")
DIALECTS = {
    # Qwen/Qwen3-8B and HuggingFaceTB/SmolLM3-3B, chat templates
    "qwen3": Dialect(**CHATML, call=JSON_CALL.join(TAGGED), written=HERMES.join(TAGGED)),
    # Qwen/Qwen2.5-7B-Instruct, tokenizer_config.json
    "qwen2.5": Dialect(**CHATML | {"thought": ""}, call=JSON_CALL.join(TAGGED), written=HERMES.join(TAGGED)),
    # Qwen/Qwen3.5-9B and Qwen/Qwen3-Coder-30B-A3B-Instruct, chat_template.jinja
    "qwen3.5": Dialect(**CHATML, call=XML_CALL.join(TAGGED), written=CODER.join(TAGGED)),
    # meta-llama/Llama-3.1-8B-Instruct, tokenizer_config.json; its calls are JSON without a mark
    "llama3": Dialect(
        "<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>",
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>",
    ),
    # openai/gpt-oss-20b, chat_template.jinja
    "gpt-oss": Dialect(
        "<|start|>developer<|message|># Instructions\n\n{}<|end|>", "<|start|>user<|message|>{}<|end|>",
        "<|start|>assistant", "", "<|channel|>analysis<|message|>{}<|end|><|start|>assistant",
        ' to=functions.{{ c.name }}<|channel|>commentary json<|message|>{{ c.arguments | tojson }}<|call|>'
        "{{- '' if true else '<|channel|>final<|message|>' }}",
        "<|start|>functions.weather to=assistant<|channel|>commentary<|message|>{}<|end|>",
        f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>",
        f" to=functions.weather<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>",
    ),
    # google/gemma-3-4b-it, chat_template.json
    "gemma3": Dialect("<start_of_turn>user\n{}\n\n", "{}<end_of_turn>\n", "<start_of_turn>model\n", "<end_of_turn>\n"),
    # google/gemma-4-31B-it, chat_template.jinja
    "gemma4": Dialect(
        "<|turn>system\n{}<turn|>\n", "<|turn>user\n{}<turn|>\n", "<|turn>model\n", "",
        "<|channel>thought\n{}\n<channel|>", f"<|tool_call>{GEMMA_CALL}<tool_call|>",
        '<|tool_response>response:weather{value:<|"|>{}<|"|>}<tool_response|>',
        '<|tool_call>call:weather{city:<|"|>12<|"|>,days:3}<tool_call|>',
    ),
    # mistralai/Ministral-3-8B-Reasoning-2512, chat_template.jinja
    "mistral": Dialect(
        "[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]", "[INST]{}[/INST]", "", "</s>", "[THINK]{}[/THINK]",
        "[TOOL_CALLS]{{ c.name }}[ARGS]{{ c.arguments | tojson }}", "[TOOL_RESULTS]{}[/TOOL_RESULTS]",
        f"[TOOL_CALLS]weather[ARGS]{ARGUMENTS}",
    ),
    # mistralai/Mistral-7B-Instruct-v0.3 and Mistral-Nemo-Instruct-2407, tokenizer_config.json
    "mistral-v3": Dialect(
        "{}\n\n", "[INST] {}[/INST]", "", "</s>", "",
        f"[TOOL_CALLS] [{JSON_CALL}]", "[TOOL_RESULTS] {}[/TOOL_RESULTS]", f"[TOOL_CALLS] [{HERMES}]",
    ),
    # allenai/Olmo-3-7B-Instruct, chat_template.jinja, and vLLM's reader for it
    "olmo3": Dialect(
        **CHATML | {"thought": "", "result": "<|im_start|>environment\n{}<|im_end|>\n"},
        call=f"<function_calls>{PYTHON_CALL}</function_calls>",
        written='<function_calls>weather(city="12", days=3)</function_calls>',
    ),
    # CohereForAI/c4ai-command-r7b-12-2024, the template for tools
    "command": Dialect(
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{}<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>",
        "<|START_THINKING|>{}<|END_THINKING|>",
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "{{ c.name }}", "parameters": {{ c.arguments | tojson }}}]'
        "<|END_ACTION|>",
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><|START_TOOL_RESULT|>{}<|END_TOOL_RESULT|><|END_OF_TURN_TOKEN|>",
        f'<|START_ACTION|>[{{"tool_call_id": "0", "tool_name": "weather", "parameters": {ARGUMENTS}}}]<|END_ACTION|>',
    ),
    # microsoft/phi-4, tokenizer_config.json
    "phi4": Dialect(
        "<|im_start|>system<|im_sep|>{}<|im_end|>", "<|im_start|>user<|im_sep|>{}<|im_end|>",
        "<|im_start|>assistant<|im_sep|>", "<|im_end|>",
    ),
    # zai-org/GLM-4.7, chat_template.jinja
    "glm": Dialect(
        "[gMASK]<sop><|system|>\n{}", "<|user|>\n{}", "<|assistant|>", "", "<think>{}</think>",
        f"<tool_call>{GLM_CALL}</tool_call>", "<|observation|>\n<tool_response>{}</tool_response>",
        f"<tool_call>{GLM}</tool_call>",
    ),
    # deepseek-ai/DeepSeek-V3.1, chat_template.jinja: it is not told of tools
    "deepseek": Dialect(
        "{}", "<\uff5cUser\uff5c>{}", "<\uff5cAssistant\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<think>{}</think>",
    ),
    # moonshotai/Kimi-K2-Thinking, chat_template.jinja
    "kimi": Dialect(
        "<|im_system|>system<|im_middle|>{}<|im_end|>", "<|im_user|>user<|im_middle|>{}<|im_end|>",
        "<|im_assistant|>assistant<|im_middle|>", "<|im_end|>", "<think>{}</think>",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.{{ c.name }}:0<|tool_call_argument_begin|>"
        "{{ c.arguments | tojson }}<|tool_call_end|><|tool_calls_section_end|>",
        "<|im_system|>tool<|im_middle|>{}<|im_end|>",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
        f"{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>",
    ),
    # LiquidAI/LFM2-1.2B, chat_template.jinja
    "lfm2": Dialect(
        **CHATML | {"thought": "", "result": "<|im_start|>tool\n<|tool_response_start|>{}<|tool_response_end|>"
                    "<|im_end|>\n"}, call=f"<|tool_call_start|>[{PYTHON_CALL}]<|tool_call_end|>",
        written='<|tool_call_start|>[weather(city="12", days=3)]<|tool_call_end|>',
    ),
    # ibm-granite/granite-4.0-h-tiny, chat_template.jinja
    "granite4": Dialect(
        "<|start_of_role|>system<|end_of_role|>{}<|end_of_text|>\n",
        "<|start_of_role|>user<|end_of_role|>{}<|end_of_text|>\n",
        "<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>\n", "", JSON_CALL.join(TAGGED),
        "<|start_of_role|>user<|end_of_role|>\n<tool_response>\n{}\n</tool_response><|end_of_text|>\n",
        HERMES.join(TAGGED),
    ),
    # LGAI-EXAONE/EXAONE-4.0-32B, chat_template.jinja
    "exaone4": Dialect(
        "[|system|]\n{}[|endofturn|]\n", "[|user|]\n{}[|endofturn|]\n", "[|assistant|]\n", "[|endofturn|]\n",
        "<think>\n{}\n</think>\n\n", "<tool_call>" + JSON_CALL + "</tool_call>",
        '[|tool|]\n<tool_result>{"result": "{}"}</tool_result>[|endofturn|]\n', f"<tool_call>{HERMES}</tool_call>",
    ),
    # ByteDance-Seed/Seed-OSS-36B-Instruct, chat_template.jinja
    "seed": Dialect(
        "<seed:bos>system\n{}<seed:eos>", "<seed:bos>user\n{}<seed:eos>", "<seed:bos>assistant\n", "<seed:eos>",
        "<seed:think>{}</seed:think>", XML_CALL.join(("<seed:tool_call>\n", "\n</seed:tool_call>")),
        "<seed:bos>tool\n{}<seed:eos>", CODER.join(("<seed:tool_call>\n", "\n</seed:tool_call>")),
    ),
    # nvidia/NVIDIA-Nemotron-Nano-9B-v2, chat_template.jinja
    "nemotron": Dialect(
        "<SPECIAL_10>System\n{}\n\n", "<SPECIAL_11>User\n{}\n", "<SPECIAL_11>Assistant\n", "\n<SPECIAL_12>\n\n",
        "<think>\n{}\n</think>\n", f"<TOOLCALL>[{JSON_CALL}]</TOOLCALL>",
        "<SPECIAL_11>User\n<TOOL_RESPONSE>[{}]</TOOL_RESPONSE>\n\n",
        f"<TOOLCALL>[{HERMES}]</TOOLCALL>",
    ),
    # MiniMaxAI/MiniMax-M2, chat_template.jinja
    "minimax": Dialect(
        "]~!b[]~b]system\n{}[e~[\n", "]~b]user\n{}[e~[\n", "]~b]ai\n", "[e~[\n", "<think>\n{}\n</think>\n\n",
        f"{{{{- '\\n' }}}}<minimax:tool_call>\n{MINIMAX_CALL}\n</minimax:tool_call>",
        "]~b]tool\n<response>{}</response>[e~[\n", f"\n<minimax:tool_call>\n{MINIMAX}\n</minimax:tool_call>",
    ),
}  # fmt: skip
SPOKEN = {  # model_type: the dialect of most of its models that chat
    "llama": "llama3", "qwen2": "qwen2.5", "qwen3": "qwen3", "qwen3_moe": "qwen3", "qwen3_next": "qwen3",
    "qwen3_5": "qwen3.5", "qwen3_5_moe": "qwen3.5", "gemma2": "gemma3", "gemma3_text": "gemma3", "gemma3n": "gemma3",
    "gemma4": "gemma4", "mistral": "mistral-v3", "mistral3": "mistral", "olmo3": "olmo3", "cohere2": "command",
    "lfm2_moe": "lfm2", "phi3": "phi4", "gpt_oss": "gpt-oss", "glm4_moe": "glm",
    "glm4_moe_lite": "glm", "deepseek_v3": "deepseek", "kimi_k2": "kimi", "smollm3": "qwen3", "lfm2": "lfm2",
    "granitemoehybrid": "granite4", "exaone4": "exaone4", "seed_oss": "seed", "nemotron_h": "nemotron",
    "minimax_m2": "minimax",
}  # fmt: skip
