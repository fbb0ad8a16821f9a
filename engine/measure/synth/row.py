"""A synthetic row: what is trained on, in a form of `engine.rows`, and where it came from. Plain data, no mlx."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from likely.engine.measure.evaluate.figures.contamination import words
from likely.engine.text.rows.training_row import TrainingRow, parse, sides


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where a row came from: with the pipeline's seed all that it takes to draw it again."""

    method: str
    job: int  # of the pipeline
    branch: int  # of the job
    seed: int  # with which the branch drew
    parent: str  # the problem, row, document or cell that it was made from
    model: str = ""  # and the adapters on it
    strategy: str = ""
    recipe: Mapping[str, float] = field(default_factory=dict)  # parameters that are not off
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SynthRow:
    """`content` is the row itself. `scores` are the numbers that filters look at; `dropped` is why it is kept aside."""

    content: Mapping[str, Any]
    source: RowSource
    scores: Mapping[str, float] = field(default_factory=dict)
    dropped: str = ""  # STAGE: reason

    @property
    def id(self) -> str:
        return f"{self.source.job:06}-{self.source.branch:03}"

    @property
    def parsed(self) -> TrainingRow:
        """The row of training that it is."""
        return parse(dict(self.content), self.id)

    @property
    def sides(self) -> tuple[str, str]:
        return sides(self.parsed)

    @property
    def text(self) -> str:
        """Both sides of the row as one text."""
        return "\n".join(side for side in self.sides if side)

    @property
    def completion(self) -> str:
        """The part that a model is to learn to say."""
        return self.sides[1]

    def scored(self, **scores: float) -> "SynthRow":
        return replace(self, scores={**self.scores, **scores})

    def out(self, why: str) -> "SynthRow":
        """The row, dropped for a reason."""
        return replace(self, dropped=why)

    def value(self) -> dict[str, Any]:
        """The JSON object of the row: its own keys, and beside them its id, source and scores."""
        more = {"dropped": self.dropped} if self.dropped else {}
        return {**self.content, "id": self.id, "source": asdict(self.source), "scores": dict(self.scores), **more}


SOURCE = {
    **dict.fromkeys(("method", "parent", "model", "strategy"), str),
    **dict.fromkeys(("job", "branch", "seed"), int),
    "recipe": {str: float},
    "attributes": {str: str},
}
SCHEMA = {"source": SOURCE, "scores": dict, "dropped?": str}  # of `SynthRow.value`; scores can be NaN


def of_value(value: Mapping[str, Any]) -> SynthRow:
    """The row that `SynthRow.value` wrote, by SCHEMA. ValueError for scores that are no numbers."""
    if not are_scores(value["scores"]):
        raise ValueError("scores are numbers")
    content = {k: v for k, v in value.items() if k not in ("id", "source", "scores", "dropped")}
    source = RowSource(**{name: value["source"][name] for name in SOURCE})
    return SynthRow(content, source, value["scores"], value.get("dropped", ""))


def are_scores(values: Mapping[str, Any]) -> bool:
    """Whether they are numbers; NaN and infinity are."""
    return all(isinstance(value, int | float) for value in values.values())


def digest(text: str) -> str:
    """Equal for texts of the same words."""
    return hashlib.sha256(" ".join(words(text)).encode("utf-8", "replace")).hexdigest()[:16]


def line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
