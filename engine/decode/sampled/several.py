"""Several samples of one prompt, side by side, for a vote among their answers. Draws; who counts has the rule.

Knows nothing of caches; no mlx while it is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.decode.sampled.sample import Sample
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Vote(Strategy):
    """Draw `paths` answers, path i with seed + i; `rule` says how the answer in each is found."""

    NAME: ClassVar[str] = "vote"
    TITLE: ClassVar[str] = "a vote"
    FORKS: ClassVar[bool] = True
    SPANS: ClassVar[Mapping[str, tuple[float, float]]] = {"paths": (1, 64)}
    ABOUT: ClassVar[str] = "several answers at once, and the one that most of them give"

    paths: int = 16
    rule: str = "number"

    def __post_init__(self) -> None:
        within("the number of paths", self.paths, "[1, 256]", whole=True)
        from likely.engine.decode.answers.extraction import Extraction  # a rule can be a program

        Extraction(self.rule)

    @property
    def words(self) -> str:
        return f"a vote of {self.paths}"

    def check(self, n: int) -> None:
        if n > 1:
            raise ParameterError(f"{self.NAME} has several answers by itself: say how many as {self.form()}")

    def width(self, n: int) -> int:
        return self.paths

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        yield from branches.part([0] * self.paths)
        yield from Sample().steps(branches, sampler.select([0] * self.paths), control, limit=limit)
