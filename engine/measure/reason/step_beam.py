"""Step-level beam search: from the best beginnings, several ways to go on by a step, of which a value keeps the best.

A step is a text up to `end`, a line as a rule (Yao et al., arXiv:2305.10601; Xie et al., arXiv:2305.00633). The caches
of kept beginnings are the pool's: only steps are read. Knows no particular value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likely.engine.base.errors import ParameterError
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.loop.texts import GrownText, Texts
from likely.engine.measure.reason.paths import ReasoningPath, answer_in
from likely.engine.sampling.trace.step import TokenStep

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

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
    ) -> list[ReasoningPath]:
        """The texts kept at the end, the best first; the first says how many tokens were drawn in all. Those that are
        still open when it is cancelled are among them."""
        beams, drawn, turn = [StepText("", ())], 0, 0
        scores: dict[str, float | None] = {}
        while any(not beam.finish for beam in beams) and not control.cancelled:
            candidates = [beam for beam in beams if beam.finish]
            for beam in beams:
                if not beam.finish:
                    fresh = self._go_on(session, ids, control, beam, seed + turn)
                    drawn += sum(len(other.steps) - len(beam.steps) for other in fresh)
                    turn += self.ways
                    candidates += fresh
            different = {" ".join(text.text.split()): text for text in reversed(candidates)}
            scores = {  # what was whole before has been judged
                text: scores[text]
                if any(beam is old for old in beams)
                else value(beam.text, beam.steps, bool(beam.finish))
                for text, beam in different.items()
            }
            order = sorted(different, key=lambda text: -_or_worst(scores[text]))
            beams = [different[text] for text in order[: self.beams]]
        paths = []
        for i, beam in enumerate(beams):
            answer, trouble = answer_in(beam.text, extract) if beam.finish else (None, "")
            finish = beam.finish or "cancelled"
            paths.append(ReasoningPath(i, beam.steps, beam.text, answer, finish, drawn * (not i), trouble=trouble))
        return paths

    def _go_on(
        self, session: "Session", ids: Sequence[int], control: RunControl, at: StepText, seed: int
    ) -> list[StepText]:
        """A step from a beginning, several times."""
        budget = self.max_tokens - len(at.steps)
        read = [*ids, *session.tokenizer.encode(at.text)] if at.text else list(ids)
        own, grown, texts = RunControl(control.recipe), Texts[GrownText](), []
        stop = (self.end, *self.stop)
        run = session.generate(read, own, n=self.ways, seed=seed, max_tokens=budget, stop=stop, stops_thought=True)
        for event in grown.follow(run):
            if isinstance(event, Emitted) and control.cancelled:
                own.cancel()
            elif isinstance(event, Done):
                step = grown[event.branch]
                stepped = step.reason == "stop" and not self._stopped(step.steps)
                more = stepped and len(at.steps) + len(step.steps) < self.max_tokens
                finish = "" if more or step.reason == "cancelled" else "length" if stepped else step.reason
                texts.append(StepText(at.text + step.text + self.end * more, (*at.steps, *step.steps), finish))
        return texts

    def _stopped(self, steps: Sequence[TokenStep]) -> bool:
        """Whether it is one of `stop` that ended a step, not its own end: the text is cut before either, the bytes of
        the tokens are not."""
        spelled = b"".join(step.piece for step in steps).decode(errors="replace")
        places = {text: at for text in (self.end, *self.stop) if (at := spelled.find(text)) >= 0}
        return bool(places) and min(places, key=lambda text: places[text]) != self.end


def _or_worst(value: float | None) -> float:
    return -float("inf") if value is None else value
