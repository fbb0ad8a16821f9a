"""Budget forcing: a thought that is cut after so many tokens, and gone on with where it would end too early
(Muennighoff et al., arXiv:2501.19393). An experiment: only models that were trained to think gain by it.

Knows nothing of caches; no mlx while it is loaded.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.sampling.thinking import Thinking, end_of, thinking_of
from likely.engine.sampling.transforms.transform import within

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Budget(Strategy):
    """Draw, but have a thought end after `tokens`; where it would end by itself, the first `waits` times it says "Wait"
    instead. What is put there is forced, and has the log-probability that the model gave it."""

    NAME: ClassVar[str] = "budget"
    TITLE: ClassVar[str] = "a budget of thought"
    ABOUT: ClassVar[str] = "thinking cut short, or made to go on"

    tokens: int = 512
    waits: int = 0
    begin: str = field(default="", repr=False)  # the marks; the model's own where they are not said
    marker: str = field(default="", repr=False)
    word: str = field(default="Wait", repr=False)
    ends: tuple[int, ...] = field(default=(), repr=False, compare=False)  # the marker's tokens, once it is bound
    more: tuple[int, ...] = field(default=(), repr=False, compare=False)  # the word's, likewise

    def __post_init__(self) -> None:
        within("the budget of a thought", self.tokens, "[1, 1000000]", whole=True)
        within("the number of waits", self.waits, "[0, 100]", whole=True)

    @property
    def words(self) -> str:
        return f"a thought of {self.tokens} tokens" + (f", {self.waits} waits" if self.waits else "")

    def check(self, n: int) -> None:
        if n > 1:
            raise ParameterError(f"{self.NAME} watches over one answer: run it {n} times, with other seeds")

    def bind(self, models: Mapping[str, Any], tokenizer: Any) -> "Budget":
        own = Thinking(self.begin, self.marker) if self.marker else thinking_of(tokenizer)
        if own is None:
            raise ParameterError("this model does not think: neither its tokenizer nor its template has </think>")
        ids = tokenizer.encode(own.ends[0], special=True)
        if len(ids) > 1 and not tokenizer.is_special(ids[0]):  # it may be spelled in other ways
            raise ParameterError(f"a budget needs a thought that a token ends, and {own.end} is {len(ids)} tokens here")
        more = tuple(tokenizer.encode(self.word))
        return replace(self, begin=own.begin, marker=own.end, ends=tuple(ids), more=more)

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        vocabulary = sampler.vocabulary
        assert vocabulary is not None
        sampler, (number,) = sampler.on_host(branches.ids), branches.numbers
        ours: deque[int] = deque()
        begun = end_of(branches.ids[0], vocabulary.piece).rstrip().endswith(self.begin)
        waits, thinking, spent, seen, ended = self.waits, begun, 0, "", 0  # of the tokens that end a thought
        for _ in range(limit):
            forced = control.take_forced()
            if forced is None and ours:
                forced = ours.popleft()
            (draw,) = sampler.draw(branches, forced, kernel=False)
            over = thinking and (int(draw.token) == self.ends[ended] or int(draw.token) in vocabulary.eos)
            if thinking and forced is None:
                if spent >= self.tokens and not over:
                    (draw,) = sampler.draw(branches, self.ends[ended], kernel=False)
                elif over and waits and spent < self.tokens and not ended:
                    waits, ours = waits - 1, deque(self.more)
                    (draw,) = sampler.draw(branches, ours.popleft(), kernel=False)
            step = draw.step(branches.ids[0])
            if thinking:
                at = ended if step.token == self.ends[ended] else 0
                ended = at + (step.token == self.ends[at])
                spent, thinking = spent + 1, ended < len(self.ends)
            elif not begun:  # an answer without a thought is left alone
                seen += vocabulary.piece(step.token).decode(errors="replace")
                thinking = begun = seen.strip() == self.begin
            branches.feed([step.token])
            branches.settle([step.token])
            if (yield Emitted(number, step)):
                return
            sampler = sampler.advance([draw]).follow(control, branches.ids)
