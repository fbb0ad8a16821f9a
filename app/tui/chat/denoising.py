"""A canvas in the course of its denoising: what stood at each position after each step, and what was thought there.

What a diffusion model decides never goes away, so any step can be looked at, while more come. A person's choices are
kept like passes of the model. Plain data; knows no session and no screen.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from likely.app.jobs.requests import CanvasLaid, ModelFacts
from likely.app.tui.chat.live_run import CANCELLED
from likely.engine.chat.conversation import Node
from likely.engine.sampling.trace.record import DenoisingRecord
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep, TokenStrings
from likely.engine.sampling.trace.unmasking import DenoisingStep, Disagreement, OpenMask, Unmasked, Unmasking

LN2 = math.log(2)
DIFFUSION = "diffusion"  # a word on how an answer was drawn
KEPT = 8  # steps whose cells are kept


@dataclass(frozen=True, slots=True)
class HandPlaced:
    """A person has put a token at a position, or None: it is masked again."""

    token: int | None


Thought = OpenMask | Unmasked | HandPlaced


@dataclass(frozen=True, slots=True)
class CanvasCell:
    """A position after a step. Without a `token` it is a mask."""

    position: int
    token: int | None
    step: int | None = None  # at which it was decided; None for what was given
    guess: int | None = None  # of a mask: its best candidate, as far as it was looked at
    entropy: float | None = None  # nats, when it was looked at last
    was: int | None = None  # revised at this very step: the token that stood there
    by_person: bool = False


@dataclass(frozen=True, slots=True)
class MaskCandidate:
    """A candidate of a position: its raw probability, and whether the transforms had taken it away."""

    token: int
    p: float
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Retraction:
    """A word that was taken back at a step, and what took its place."""

    step: int
    position: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class CanvasRun:
    """A run that filled a canvas, or went on with one that a person had changed."""

    canvas: tuple[int, ...]
    how: Unmasking
    seed: int
    passes: list[DenoisingStep]


@dataclass
class Denoising:
    """The canvas of one answer, step by step. Step 0 is before the first pass."""

    laid: CanvasLaid
    mask: int
    planned: int = 0  # passes in all; 0 where nobody knows
    model: str = ""  # whose tokens these are
    steps: int = 0  # that have come
    decided: list[int] = field(default_factory=list)  # masks that became tokens, step by step
    revised: list[Retraction] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # the run's own, until each step
    off: list[Disagreement | None] = field(default_factory=list)  # of each step by an approximate cache
    history: dict[int, list[tuple[int, Thought]]] = field(default_factory=dict)
    again: dict[int, Unmasked] = field(default_factory=dict)  # masked again by the model, and what stood there
    looked_at: dict[int, list[CanvasCell]] = field(default_factory=dict)  # by step
    offset: int = 0  # steps before the run that goes on now
    spent_s: float = 0.0  # by runs before it
    runs: list[CanvasRun] = field(default_factory=list)  # whose passes the steps are; none where they were not kept

    @classmethod
    def of(cls, laid: CanvasLaid, mask: int, how: Unmasking, model: str = "", seed: int = 0) -> "Denoising":
        """A canvas before its first pass; its length in steps is known where no threshold decides it."""
        masks, planned = laid.ids.count(mask), 0
        if masks and not how.threshold and not how.remask and masks % (how.block or masks) == 0:
            planned = (how.steps or masks) + how.revise * (masks // (how.block or masks))
        return cls(laid, mask, planned, model, runs=[CanvasRun(laid.ids, how, seed, [])])

    @classmethod
    def of_traces(cls, traces: Sequence[Trace]) -> "Denoising":
        """An answer as it was kept by `traces`: a person changed one position between two runs."""
        canvas: Denoising | None = None
        for trace in traces:
            record = trace.denoising
            assert record is not None
            if canvas is None:
                special = frozenset({record.mask, *trace.lexicon.eos})
                laid = CanvasLaid(trace.prompt, record.start, special)
                canvas = cls.of(laid, record.mask, record.how, trace.model, trace.seed)
            else:
                changes = zip(canvas.ids(canvas.steps), trace.prompt, strict=True)
                canvas = canvas._until(canvas.steps)
                for at, (was, now) in enumerate(changes):
                    if was != now:
                        canvas._put(at, HandPlaced(None if now == canvas.mask else now))
                canvas.go_on(record.how, trace.seed)
            for step in record.passes:
                canvas.add(step)
        assert canvas is not None
        canvas.planned *= traces[-1].finish == CANCELLED
        return canvas

    @classmethod
    def of_steps(cls, node: Node, facts: ModelFacts) -> "Denoising | None":
        """An answer that was kept without its steps: its tokens as they stood in the end. None for one that was drawn
        from left to right, or of another model's tokens."""
        steps, mask, pieces = node.steps, facts.mask, facts.vocabulary
        drawn = DIFFUSION in node.label.split(" · ") and bool(steps) and mask is not None
        if mask is None or not drawn or any(s.token >= len(pieces) or s.piece != pieces[s.token] for s in steps):
            return None
        special = frozenset({mask, *facts.eos})
        canvas = cls(CanvasLaid(tuple(step.token for step in steps), 0, special), mask)
        for i, step in enumerate(steps):
            if step.token != mask and step.origin == "drawn":
                canvas._put(i, Unmasked(0, step))
        return canvas

    # -- what comes --------------------------------------------------------------------------------------------------

    def go_on(self, how: Unmasking, seed: int) -> None:
        """Another run begins, with the canvas as it stands."""
        self.runs.append(CanvasRun(self.ids(self.steps), how, seed, []))

    def add(self, step: DenoisingStep) -> None:
        """Take in one more pass of the model."""
        self.runs[-1].passes.append(step)
        self.steps += 1
        self.looked_at.clear()
        new = 0
        there = {cell.position for cell in step.open}
        for at in [at for at in self.again if at not in there]:  # drawn anew, maybe as it was
            self._put(at, replace(self.again.pop(at), before=None))
        for draw in step.open:
            thoughts = self.history.get(draw.position)
            if thoughts and isinstance(thoughts[-1][1], Unmasked):
                self.again[draw.position] = thoughts[-1][1]
            self._put(draw.position, draw)
        for unmasked in step.unmasked:
            at = unmasked.token.position
            if unmasked.before is not None:
                self.revised.append(Retraction(self.steps, at, unmasked.before, unmasked.token.token))
            else:
                new += 1
            self._put(at, unmasked)
        self.decided.append(new)
        self.seconds.append(self.spent_s + step.elapsed_s)
        self.off.append(step.disagreement)

    def _put(self, position: int, thought: Thought) -> None:
        self.looked_at.clear()
        self.history.setdefault(position, []).append((self.steps, thought))

    def parted(self, step: int, position: int, token: int | None) -> "Denoising":
        """The canvas after a step, with a person's token at a position (None: a mask again), to denoise on."""
        part = self._until(step)
        part._put(position, HandPlaced(token))
        return part

    def _until(self, step: int) -> "Denoising":
        """The canvas after a step, for another run that goes on from there."""
        part = Denoising(self.laid, self.mask, 0, self.model, step, self.decided[:step])
        part.revised = [revision for revision in self.revised if revision.step <= step]
        part.seconds, part.off = self.seconds[:step], self.off[:step]
        part.history = {
            at: [thought for thought in thoughts if thought[0] <= step] for at, thoughts in self.history.items()
        }
        for run in self.runs:
            left = step - sum(len(before.passes) for before in part.runs)
            if left > 0 or not part.runs:
                part.runs.append(replace(run, passes=run.passes[:left]))
        part.offset, part.spent_s = step, self.seconds[step - 1] if step else 0.0
        return part

    # -- what is seen ------------------------------------------------------------------------------------------------

    @property
    def shown(self) -> range:
        """The positions of the answer."""
        return range(self.laid.first, len(self.laid.ids))

    @property
    def how(self) -> Unmasking:
        """The order in which the last run decided; the usual one where that was not kept."""
        return self.runs[-1].how if self.runs else Unmasking()

    @cached_property
    def free(self) -> list[int]:
        """Positions that the model fills."""
        return [i for i in self.shown if self.laid.ids[i] == self.mask]

    @property
    def scale(self) -> int:
        """The number of steps that a picture of the whole denoising spans: planned, or as many as there are."""
        return max(self.planned, self.steps, 1)

    def thoughts(self, position: int, step: int) -> list[tuple[int, Thought]]:
        """The thoughts of a position until a step, oldest first."""
        thoughts = self.history.get(position, [])
        return thoughts[: bisect_right(thoughts, step, key=lambda thought: thought[0])]

    def cell(self, position: int, step: int) -> CanvasCell:
        """A position as it stands after a step."""
        thoughts = self.thoughts(position, step)
        original = self.laid.ids[position]
        if not thoughts:
            return CanvasCell(position, None if original == self.mask else original)
        when, last = thoughts[-1]
        match last:
            case Unmasked(_, token, before):
                was = before if when == step else None
                return CanvasCell(position, token.token, when, entropy=token.entropy, was=was)
            case OpenMask(_, entropy, ids):
                return CanvasCell(position, None, guess=int(ids[0]), entropy=entropy)
            case HandPlaced(None):
                earlier = next((t for _, t in reversed(thoughts[:-1]) if isinstance(t, Unmasked)), None)
                return CanvasCell(position, None, guess=earlier.token.token if earlier is not None else None)
            case HandPlaced(token):
                return CanvasCell(position, token, when, by_person=True)

    def cells(self, step: int) -> list[CanvasCell]:
        """The canvas of the answer after a step; kept for all who look at it until more comes."""
        if step not in self.looked_at:
            if len(self.looked_at) >= KEPT:
                self.looked_at.clear()
            self.looked_at[step] = [self.cell(position, step) for position in self.shown]
        return self.looked_at[step]

    def until_end(self, step: int) -> list[CanvasCell]:
        """The answer's cells after a step, cut behind its end of text where all cells until there are decided."""
        shown: list[CanvasCell] = []
        known = True  # all of it so far
        for cell in self.cells(step):
            shown.append(cell)
            known = known and cell.token is not None
            if known and self.ends(cell):
                break
        return shown

    def ends(self, cell: CanvasCell) -> bool:
        """Whether an answer ends with a cell."""
        drawn = self.laid.first and cell.step is not None
        return bool(drawn and cell.token in self.laid.special)

    def ids(self, step: int) -> tuple[int, ...]:
        """The whole canvas after a step, masks and all."""
        here = [self.mask if cell.token is None else cell.token for cell in self.cells(step)]
        return (*self.laid.ids[: self.laid.first], *here)

    def drawn(self, position: int, step: int) -> TokenStep | None:
        """The step behind the token of a position, None for one that no pass has drawn."""
        thoughts = self.thoughts(position, step)
        last = thoughts[-1][1] if thoughts else None
        return last.token if isinstance(last, Unmasked) else None

    def guesses(self, position: int, step: int) -> list[MaskCandidate]:
        """The candidates of a position when it was looked at last, the most likely first; () for what was given."""
        for _, thought in reversed(self.thoughts(position, step)):
            match thought:
                case OpenMask(ids=ids, logprobs=logprobs):
                    return [MaskCandidate(int(i), math.exp(p)) for i, p in zip(ids, logprobs, strict=True)]
                case Unmasked(token=token) if token.snapshot is not None:
                    return _snapped(token)
        return []

    def candidates(self, position: int, step: int) -> Iterator[tuple[int, int, float, float]]:
        """The best candidate of a position step by step: step, id, its probability, entropy in nats."""
        for when, thought in self.thoughts(position, step):
            match thought:
                case OpenMask(_, entropy, ids, logprobs):
                    yield when, int(ids[0]), math.exp(logprobs[0]), entropy
                case Unmasked(token=token) if token.logprob is not None:
                    yield when, token.token, math.exp(token.logprob), token.entropy or 0.0

    def order(self) -> list[tuple[int, int]]:
        """Which position was decided at which step, as it stands by now."""
        decided = ((cell.position, cell.step) for cell in self.cells(self.steps))
        return [(position, step) for position, step in decided if step is not None]

    def open_entropy(self, step: int) -> float:
        """Nats of all masks that are left, those counted that were looked at."""
        return sum(cell.entropy or 0.0 for cell in self.until_end(step) if cell.token is None)

    def disagreement(self, step: int) -> Disagreement | None:
        """How far its passes were from those without a cache, until a step; None where that was not measured."""
        measured = [change for change in self.off[:step] if change is not None]
        if not measured:
            return None
        return Disagreement(sum(e.masks for e in measured), sum(e.other for e in measured), sum(e.kl for e in measured))

    def whole(self, step: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The ids of a text that is all decided after a step, until its end, and which of them the model has filled;
        None where masks are left."""
        cells = self.until_end(step)
        ids = tuple(cell.token for cell in cells if cell.token is not None)
        free = tuple(i for i in self.free if i < self.laid.first + len(cells))
        return ((*self.laid.ids[: self.laid.first], *ids), free) if len(ids) == len(cells) and free else None

    def most(self) -> int:
        """The most words that one step has decided."""
        return max(self.decided, default=0)

    def times_revised(self, step: int) -> Counter[int]:
        """How many words were taken back at each step until one."""
        return Counter(revision.step for revision in self.revised if revision.step <= step)

    # -- what is kept ------------------------------------------------------------------------------------------------

    def traces(self, facts: ModelFacts, finish: str) -> tuple[Trace, ...]:
        """The runs as they are kept; the last has ended so, and those before it a person has ended."""
        kept: list[Trace] = []
        for run in self.runs:
            record = DenoisingRecord(self.mask, self.laid.first, run.how, tuple(run.passes))
            words = range(len(facts.vocabulary))  # a model may have more rows
            pieces = {token: facts.vocabulary[token] for token in {*run.canvas, *record.candidates} if token in words}
            end = finish if run is self.runs[-1] else CANCELLED
            kept.append(
                Trace(
                    facts.name, facts.digest, {}, run.seed, run.canvas, record.steps, end,
                    lexicon=TokenStrings(pieces, facts.eos), denoising=record,
                )
            )  # fmt: skip
        return tuple(kept)

    def token_steps(self, pieces: Sequence[bytes], recipe: SamplingConfig) -> tuple[TokenStep, ...]:
        """The answer as the tokens of a text, until one ends it; a mask that is left is a token without text."""
        steps: list[TokenStep] = []
        for cell in self.until_end(self.steps):
            token = self.mask if cell.token is None else cell.token
            piece, special = pieces[token] if token < len(pieces) else b"", token in self.laid.special
            drawn = self.drawn(cell.position, self.steps) if cell.token is not None else None
            if drawn is None:
                origin = "forced" if cell.by_person else "given"
                nothing = (None, None, None, None, None, 0, recipe, None, None)
                drawn = TokenStep(token, piece, "", *nothing, cell.position, origin, special)
            steps.append(drawn)
        return tuple(
            replace(step, text="" if step.special else text)
            for step, text in zip(steps, texts([b"" if s.special else s.piece for s in steps]), strict=True)
        )


def words(how: Unmasking) -> str:
    """The order of a denoising in a few words."""
    order = f"threshold {how.threshold:.2f}" if how.threshold else f"by {how.by}"
    steps = f"{how.steps} steps" if how.steps else ""
    block = f"blocks of {how.block}" if how.block else ""
    again = f"revises {how.revise}x" if how.revise else f"remasks below {how.remask:.2f}" if how.remask else ""
    guided = f"guidance {how.guidance:g}" if how.guidance else ""
    cache = f"cache {how.cache}{', checked' * how.check}" if how.cache != "none" else ""
    return " · ".join(filter(None, (DIFFUSION, order, steps, block, again, guided, cache)))


def _snapped(step: TokenStep) -> list[MaskCandidate]:
    snapshot = step.snapshot
    assert snapshot is not None
    order = np.argsort(-snapshot.logits, kind="stable")
    removed = step.removed_by if step.removed_by is not None else np.full(len(order), -1)
    return [
        MaskCandidate(int(snapshot.ids[i]), math.exp(float(snapshot.logits[i]) - snapshot.lse), bool(removed[i] >= 0))
        for i in order
    ]


def texts(pieces: Sequence[bytes]) -> list[str]:
    """The text that became valid with each piece; a character that is never finished is a replacement at its end."""
    from codecs import getincrementaldecoder

    decoder = getincrementaldecoder("utf-8")(errors="replace")
    strings = [decoder.decode(piece) for piece in pieces]
    if strings:
        strings[-1] += decoder.decode(b"", final=True)
    return strings
