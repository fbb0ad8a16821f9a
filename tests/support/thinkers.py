"""Models that think, tiny and scripted: the marks of published families, in templates of our own.

What is published is named beside each: what its template leaves at the end of a prompt and what it reads, and which
words are single tokens. `write` makes a folder of one that says the same after any prompt as long as "hi", whatever
stands there: a GPT-2 without a thought of its own, whose table of positions has the script.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer

from likely.engine.decode.prompt import Prompt
from likely.engine.text.tokenizer import from_folder
from likely.metal import mx
from tests.engine import tiny

TURNS = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"


@dataclass(frozen=True)
class Thinker:
    """A family: how its template ends, behind `turns`, the words that are single tokens, and an answer as it writes it,
    of a thought and of what is said. `control`: these words are control tokens but for those of letters."""

    end: str
    words: tuple[str, ...]
    answer: str
    control: bool = False
    turns: str = TURNS

    def says(self, thought: str, said: str) -> str:
        return self.answer.format(thought, said)


LOUD = 60.0  # of the script in a table of positions: nothing else is likely
THINK = ("<think>", "</think>")
THINKERS = {
    # Qwen/Qwen3-8B, tokenizer_config.json: an empty thought where it is told not to think, else nothing
    "qwen3": Thinker(
        "a:{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
        THINK, "<think>\n{}\n</think>\n\n{}",
    ),
    # Qwen/Qwen3-4B-Thinking-2507, tokenizer_config.json: opens one, and cannot be told
    "qwen3-thinking": Thinker("a:{{ '<think>\n' }}", THINK, "{}\n</think>\n\n{}"),
    # openai/gpt-oss-20b, chat_template.jinja: channels of the Harmony format
    "gpt-oss": Thinker(
        "{% if false %}<|channel|>final<|message|>{% endif %}{{ reasoning_effort }}<|start|>assistant",
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>",
         "assistant", "analysis", "final"),
        "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}", control=True,
    ),
    # google/gemma-4-31B-it, chat_template.jinja: an empty thought unless it is told to think
    "gemma4": Thinker(
        "a:{% if not enable_thinking | default(false) %}<|channel>thought\n<channel|>{% endif %}",
        ("<|channel>", "<channel|>", "thought"), "<|channel>thought\n{}<channel|>{}", control=True,
    ),
    # zai-org/GLM-4.7, chat_template.jinja: opens one, or ends it where it is told not to think
    "glm4.7": Thinker(
        "a:{{ '</think>' if (enable_thinking is defined and not enable_thinking) else '<think>' }}", THINK,
        "{}</think>{}",
    ),
    # deepseek-ai/DeepSeek-R1-Distill-Qwen-32B, tokenizer_config.json: opens one, and drops those of earlier answers
    "r1": Thinker("a:{{ '<think>\n' }}", THINK, "{}\n</think>\n\n{}"),
}  # fmt: skip

# tencent/Hunyuan-7B-Instruct: what it says stands between marks, too
HUNYUAN = Thinker(
    "{#- <answer> -#}a:{{ '<think>\n\n</think>\n' if enable_thinking is defined and not enable_thinking }}", THINK,
    "<think>\n{}\n</think>\n<answer>\n{}\n</answer>",
)  # fmt: skip


def write(
    folder: Path,
    thinker: Thinker,
    script: str,
    thinking: bool | None = None,
    asked: str = "hi",
    then: tuple[Prompt, str] | None = None,
) -> Path:
    """A model of the family that answers what is `asked` by `script`, where its template was told of `thinking`; its
    text then ends. `then`: a longer prompt, and the answer to that."""
    width, context = 2 * tiny.LLAMA["vocab_size"], 256
    config = {
        "model_type": "gpt2", "n_embd": width, "n_head": 2, "n_layer": 1, "n_positions": context, "n_inner": 8,
        "vocab_size": tiny.LLAMA["vocab_size"], "tie_word_embeddings": True,
    }  # fmt: skip
    vocabulary = config["vocab_size"]
    block = {"attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width), "mlp.c_fc": (width, 8),
             "mlp.c_proj": (8, width)}  # fmt: skip
    arrays = {f"h.0.{name}.weight": np.zeros(shape) for name, shape in block.items()}
    arrays |= {f"h.0.{name}.bias": np.zeros(shape[1]) for name, shape in block.items()}
    arrays |= {f"{name}.{what}": np.full(width, what == "weight")
               for name in ("h.0.ln_1", "h.0.ln_2", "ln_f") for what in ("weight", "bias")}  # fmt: skip
    arrays["wte.weight"], arrays["wpe.weight"] = np.eye(vocabulary, width), np.zeros((context, width))
    tiny.write_folder(folder, config, {name: mx.array(array.astype(np.float32)) for name, array in arrays.items()})
    written = (folder / "tokenizer.json").read_text()
    for i, word in enumerate(thinker.words):
        written = written.replace(f'"<|{i}|>"', json.dumps(word))
    (folder / "tokenizer.json").write_text(written)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([tiny.PIECES[tiny.EOS]])
    for word in thinker.words:
        kind = tokenizer.add_special_tokens if thinker.control and not word.isalpha() else tokenizer.add_tokens
        kind([AddedToken(word, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {
        "chat_template": thinker.turns + thinker.end
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    found = from_folder(folder)
    scripts = [(Prompt((("user", asked),), thinking=thinking), script), *([then] if then else [])]
    for prompt, words in scripts:
        for at, token in enumerate([*found.encode(words, special=True), tiny.EOS], len(prompt.ids(found)) - 1):
            arrays["wpe.weight"][at, token] = LOUD
    mx.save_safetensors(
        str(folder / "model.safetensors"), {name: mx.array(a.astype(np.float32)) for name, a in arrays.items()}
    )
    return folder


def logprobs(script: list[int], start: int, ids: list[int]) -> np.ndarray:
    """The log-probability of each of `ids` but the first behind those before it, float64, of a model whose script
    begins at position `start` - 1."""
    logits = np.zeros((len(ids) - 1, tiny.LLAMA["vocab_size"]))
    for at, last in enumerate(ids[:-1]):
        hidden = np.zeros(2 * tiny.LLAMA["vocab_size"])
        hidden[last] += 1
        if 0 <= at - start + 1 < len(script):
            hidden[script[at - start + 1]] += LOUD
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
        logits[at] = hidden[: logits.shape[1]]
    logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return logits[np.arange(len(ids) - 1), ids[1:]]
