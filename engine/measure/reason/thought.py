"""`Thought`: how a question is asked so that a model reasons, and how its answer is found: data, by name or in a file.

A file is TOML: `before` and `after` the question, `system`, `extract` (a rule of `Extraction`) and `[[examples]]`, each
with a `question` and an `answer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.options import read_toml
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Thought:
    """A template of questions."""

    before: str = ""
    after: str = ""
    system: str = ""
    extract: str = "number"
    examples: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        Extraction(self.extract)

    def ask(self, question: str, *, chat: bool) -> Prompt:
        """The question as turns, or as a text to be gone on with."""
        turns = [(self.before + q + self.after, a) for q, a in (*self.examples, (question, ""))]
        if chat:
            messages = [(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)]
            return Prompt(tuple(messages[:-1]), system=self.system)
        shown = [f"Question: {q}\nAnswer: {a}\n\n" for q, a in turns[:-1]]
        head = f"{self.system}\n\n" if self.system else ""
        return Prompt(parts=(f"{head}{''.join(shown)}Question: {turns[-1][0]}\nAnswer:",))


THOUGHTS: dict[str, Thought] = {
    "plain": Thought(),
    "step-by-step": Thought(after="\nLet's think step by step. End with: The answer is", extract="number"),
    "boxed": Thought(after="\nReason step by step, and put the final answer within \\boxed{}.", extract="boxed"),
    "choice": Thought(after="\nThink, and end with the letter of the answer in parentheses.", extract="choice"),
    "few-shot": Thought(
        after="",
        examples=(
            ("A box holds 4 rows of 6 eggs, and 5 are broken. How many are whole?",
             "4 rows of 6 are 4 * 6 = 24 eggs. 24 - 5 = 19. The answer is 19."),
            ("Ann has 12 pears, gives away 7 and buys 3. How many has she?",
             "She keeps 12 - 7 = 5 pears. 5 + 3 = 8. The answer is 8."),
        ),
    ),
}  # fmt: skip


def thought(name: str) -> Thought:
    """The thought of a name or of a TOML file. ParameterError where there is neither, DataError for a damaged file."""
    if name in THOUGHTS:
        return THOUGHTS[name]
    path = Path(name)
    if path.suffix != ".toml":
        raise ParameterError(f"{name!r} is no template: one of {', '.join(THOUGHTS)}, or a .toml file")
    return _read(read_toml(path), path)


def _read(values: Mapping[str, Any], path: Path) -> Thought:
    names = [f.name for f in fields(Thought)]
    for key, value in values.items():
        if key not in names:
            near = get_close_matches(key, names, 1)
            raise DataError(f"{path}: unknown key {key!r}" + (f": did you mean {near[0]}?" if near else ""))
        if not isinstance(value, list if key == "examples" else str):
            raise DataError(f"{path}: {key} must be {'a list of tables' if key == 'examples' else 'a text'}")
    examples = []
    for example in values.get("examples", ()):
        if not (isinstance(example, dict) and all(isinstance(example.get(k), str) for k in ("question", "answer"))):
            raise DataError(f"{path}: each of [[examples]] must have a question and an answer, both texts")
        examples.append((example["question"], example["answer"]))
    return Thought(**{**values, "examples": tuple(examples)})
