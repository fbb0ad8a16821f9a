"""Step-level beam search: from the best beginnings, several ways to go on by a step, of which a value keeps the best.

A step is a text up to `end`, a line as a rule (Yao et al., arXiv:2305.10601; Xie et al., arXiv:2305.00633). The caches
of kept beginnings are the pool's: only steps are read. Knows no particular value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likely.engine.answers.extraction import Extraction
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted
from likely.engine.errors import ParameterError
from likely.engine.reason.paths import Path, answer_in
from likely.engine.trace.step import TokenStep

if TYPE_CHECKING:
    from likely.engine.session import Session

Value = Callable[[str, Sequence[TokenStep], bool], float | None]  # of a text, its tokens, whether it is whole


@dataclass(frozen=True, slots=True)
class StepText:
    """A text that a search has come to."""

    text: str
    steps: tuple[TokenStep, ...]
    finish: str = ""  # "" while it can go on


@dataclass(frozen=True, slots=True)
class StepBeam:
    """Keep `beams` beginnings, and try `ways` steps from each."""

    beams: int = 4
    ways: int = 4
    end: str = "\n"
    max_tokens: int = 512  # of a text
    stop: tuple[str, ...] = ()  # what ends a text

    def __post_init__(self) -> None:
        if not 1 <= self.beams <= 64 or not 1 <= self.ways <= 64:
            raise ParameterError(f"beams and ways must be in [1, 64], got {self.beams} and {self.ways}")
        if not self.end:
            raise ParameterError("a step must end with a text, got an empty one")

    def search(
        self,
        session: "Session",
        ids: Sequence[int],
        control: RunControl,
        value: Value,
        *,
        extract: Extraction,
        seed: int = 0,
    ) -> list[Path]:
        """The texts kept at the end, the best first; the first says how many tokens were drawn in all. Those that are
        still open when it is cancelled are among them."""
        kept, drawn, turn = [StepText("", ())], 0, 0
        scores: dict[str, float | None] = {}
        while any(not each.finish for each in kept) and not control.cancelled:
            found = [each for each in kept if each.finish]
            for each in kept:
                if not each.finish:
                    fresh = self._go_on(session, ids, control, each, seed + turn)
                    drawn += sum(len(other.steps) - len(each.steps) for other in fresh)
                    turn += self.ways
                    found += fresh
            different = {" ".join(each.text.split()): each for each in reversed(found)}
            scores = {  # what was whole before has been judged
                text: scores[text]
                if any(each is old for old in kept)
                else value(each.text, each.steps, bool(each.finish))
                for text, each in different.items()
            }
            order = sorted(different, key=lambda text: -_or_worst(scores[text]))
            kept = [different[text] for text in order[: self.beams]]
        paths = []
        for i, each in enumerate(kept):
            answer, trouble = answer_in(each.text, extract) if each.finish else (None, "")
            finish = each.finish or "cancelled"
            paths.append(Path(i, each.steps, each.text, answer, finish, drawn * (not i), trouble=trouble))
        return paths

    def _go_on(
        self, session: "Session", ids: Sequence[int], control: RunControl, at: StepText, seed: int
    ) -> list[StepText]:
        """A step from a beginning, several times."""
        left = self.max_tokens - len(at.steps)
        read = [*ids, *session.tokenizer.encode(at.text)] if at.text else list(ids)
        steps: dict[int, list[TokenStep]] = {branch: [] for branch in range(self.ways)}
        own, found = RunControl(control.recipe), []
        run = session.generate(read, own, n=self.ways, seed=seed, max_tokens=left, stop=(self.end, *self.stop))
        for event in run:
            match event:
                case Emitted(branch, step):
                    steps[branch].append(step)
                    if control.cancelled:
                        own.cancel()
                case Done(branch, reason, _, rest):
                    text = at.text + "".join(step.text for step in steps[branch]) + rest
                    stepped = reason == "stop" and not self._stopped(steps[branch])
                    more = stepped and len(at.steps) + len(steps[branch]) < self.max_tokens
                    finish = "" if more or reason == "cancelled" else "length" if stepped else reason
                    found.append(StepText(text + self.end * more, (*at.steps, *steps[branch]), finish))
        return found

    def _stopped(self, steps: Sequence[TokenStep]) -> bool:
        """Whether it is one of `stop` that ended a step, not its own end: the text is cut before either, the bytes of
        the tokens are not."""
        said = b"".join(step.piece for step in steps).decode(errors="replace")
        places = {text: at for text in (self.end, *self.stop) if (at := said.find(text)) >= 0}
        return bool(places) and min(places, key=lambda text: places[text]) != self.end


def _or_worst(value: float | None) -> float:
    return -float("inf") if value is None else value
