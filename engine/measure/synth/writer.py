"""`Writer`: a session that draws texts, several side by side over one prompt, as the pipeline says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.loop.texts import search_answers
from likely.engine.decode.prompt import Prompt, single_turn
from likely.engine.measure.reason.paths import PathCollector, ReasoningPath
from likely.engine.sampling.trace.step import SamplingConfig

if TYPE_CHECKING:
    from likely.engine.decode.session import Session


@dataclass(frozen=True, slots=True)
class Writer:
    """Draws with a recipe and a strategy."""

    session: "Session"
    recipe: SamplingConfig
    strategy: Strategy
    max_tokens: int
    chat: bool = False

    def prompt(self, text: str) -> Prompt:
        """One text as the model is asked."""
        return single_turn(text, self.session.tokenizer, raw=not self.chat)

    def draw(self, prompt: Prompt, n: int, seed: int, stop: Sequence[str] = ()) -> list[ReasoningPath]:
        """`n` answers in the order of their branches; a search gives its n best, a strategy that forks its own number.

        Branch b draws what it would alone with seed + b. ContextOverflow where the prompt leaves no room.
        """
        strategy = self.strategy
        if strategy.SEARCHES:
            strategy, n = strategy.best(n), 1
        elif strategy.FORKS:
            n = 1
        control = RunControl(self.recipe)
        events = self.session.generate(
            prompt.ids(self.session.tokenizer), control, n=n, seed=seed, max_tokens=self.max_tokens, stop=tuple(stop),
            strategy=strategy,
        )  # fmt: skip
        paths = list(PathCollector(Extraction("all"), n, control).watch(events))
        by_branch = sorted(paths, key=lambda path: path.branch)
        return search_answers(by_branch, strategy.most) if strategy.SEARCHES else by_branch

    def once(self, prompt: Prompt, seed: int, stop: Sequence[str] = ()) -> ReasoningPath:
        """The most likely answer."""
        greedy = replace(self, recipe=SamplingConfig(greedy=True))
        return greedy.draw(prompt, 1, seed, stop)[0]
