"""The table of models: what runs of the architectures that the tests prove, and how it thinks and calls.

python docs/models.py > docs/models.md
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from likely.engine.chat.tools.call_format import call_format
from likely.engine.sampling.thinking import thinking_of
from likely.engine.weights.sources.gguf.mapping import ARCHITECTURES, MIXTRAL
from tests.support.dialects import DIALECTS, SPOKEN
from tests.support.popular import NOBODY, POPULAR, Popular

IN_GGUF = {found.model_type for found in (*ARCHITECTURES.values(), MIXTRAL)} | {
    "mistral"
}  # which says that it is a llama
ABOUT = """\
# Models

Made by `python docs/models.py > docs/models.md` from the table that `tests/models/test_popular.py` proves: of each
architecture a small random model is made by mlx-lm's class, saved as mlx-lm saves it (numbers, 4 bits, mxfp4), opened
here, and read whole and token by token. Where mlx-lm's class runs, the logits are the same to the bit; where ours does,
to 1e-4 of the largest; the likeliest text is the same. No model of the full size was run for this table.

- **here**: written here: the caches, kernels, views of the inside, adapters and training of this program.
- **mlx-lm**: mlx-lm's own class: sampling, searches, constraints and what reads logits; no view of its inside, no
  packed or windowed cache, no training ([passes](passes.md)).
- **GGUF**: such a file of it is read too. Folders may be float32, bfloat16, float16, mlx's 2 to 8 bits, mxfp4, mxfp8,
  nvfp4, AWQ or GPTQ; FP8 where mlx-lm's class reads it.
- **thinks**, **calls**: the marks between which it thinks and calls tools, as published templates have them: each was
  compared with the file or, of SmolLM3, OLMo 3, EXAONE 4 and Hunyuan, the text that `tests/support/dialects.py` names
  as its source (`LIKELY_TEMPLATES=FOLDER` has the tests read such files again). The template of a checkpoint decides:
  Qwen3-Coder and Nemotron Nano 3 call as Qwen3.5 does, and models of a family that do not think have no such marks.
  Empty: its template has none, or none that is read here; of tools it is told in words then, and a grammar binds its
  calls ([tools](tools.md)). A dash: not looked at.

"""
LACKING = """
Kimi K2 is DeepSeek V3's class with other sizes, Mistral Llama's, and a Gemma 3 with pictures is `gemma3`.
Of those with pictures or sound the text is read, as mlx-lm does; layers for predicting several tokens (DeepSeek, GLM,
Qwen3.5) are left out by it too. DeepSeek's templates before V3.2 are not told of tools, and Llama 3's calls stand
between no marks. A folder of DeepSeek V3.2 has a program in the place of a chat template: a template of ours, which
writes the same, is read then, and a `chat_template.jinja` in the folder replaces it. Hunyuan's `<answer>` and the marks
of gpt-oss around words before a call are no part of an answer: the chat hides them as it does control tokens, and
`--hide-thinking`, tools, the server, evaluations and votes leave them out. Windows that mlx-lm's class leaves out
are kept here ([families](decisions/families.md)).

Neither here nor in mlx-lm, and refused by name:
"""


def row(popular: Popular) -> tuple[str, ...]:
    runs = "here" if popular.native else "mlx-lm"
    gguf = "yes" if popular.kind in IN_GGUF else ""
    if popular.kind not in SPOKEN:
        return popular.models, f"`{popular.kind}`", runs, gguf, "-", "-", popular.beside
    tokenizer = DIALECTS[SPOKEN[popular.kind]].tokenizer()
    thinking, calls = thinking_of(tokenizer), call_format(tokenizer)
    between = [marks(found.begin, found.end) if found else "" for found in (thinking, calls and calls.marks)]
    return popular.models, f"`{popular.kind}`", runs, gguf, *between, popular.beside


def marks(begin: str, end: str) -> str:
    return " ".join(f"`{mark}`" for mark in (begin, end) if mark).replace("|", "\\|")


def table() -> str:
    head = ("models", "`model_type`", "runs", "GGUF", "thinks", "calls", "not read")
    rows = [head, ("---",) * len(head), *map(row, POPULAR)]
    lines = "".join("| " + " | ".join(cells) + " |\n" for cells in rows)
    return ABOUT + lines + LACKING + "; ".join(f"{models} (`{kind}`)" for kind, models in NOBODY.items()) + ".\n"


if __name__ == "__main__":
    print(table(), end="")
