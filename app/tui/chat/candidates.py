"""Candidate tables: one token's distribution, in rows for the panel. Plain data; how it looks is the widget's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from likely.app.store.sampling_text import BAN
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import Glyphs
from likely.engine.base.arrays import softmax
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.replay import recorded, replay, replay_drawn, states_at
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import STAYS, ChoiceMask, Constraint, LogitBias, Transform, run, start
from likely.engine.sampling.transforms.pipeline import hard
from likely.engine.train.posterior.uncertainty import Uncertainty

LN2 = math.log(2)
SHOWN = 40
KEPT = 1000  # of an outcome's candidates, so that two outcomes know each other's
BANNED = "banned"
Bounds = tuple[float, float]  # the same number twice where it is known


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token that could be drawn. `after` is None while unknown; `removed_by` names a transform, or is `BANNED`.

    Where `after` is of other settings than those that a token was drawn by, `drawn` is the probability under these.
    """

    token: int
    name: str
    before: float
    after: float | None
    removed_by: str = ""
    chosen: bool = False
    more: tuple[str, ...] = ()  # words of columns in the place of `after`
    spread: float | None = None  # of `before`, over samples of a posterior
    drawn: float | None = None


@dataclass(frozen=True, slots=True)
class CandidateTable:
    """Everything the panel shows of a token."""

    title: str
    name: str
    numbers: str
    rows: tuple[Candidate, ...]
    vocab: int
    kept: Bounds  # how many tokens are left to draw from
    mass: Bounds  # what these had before, in all
    cut_by: str  # the transforms that removed something, in words
    exact: bool
    live: bool
    doubt: Uncertainty | None = field(default=None, kw_only=True)  # where an adapter has a posterior
    moved: str = field(default="", kw_only=True)  # what changed of how tokens are drawn, here and since
    OF: ClassVar[str] = "next token"  # over the names
    NAMES: ClassVar[int] = 10  # cells of a name
    HEADS: ClassVar[tuple[str, ...]] = ("raw %", "after %")  # over the figures before and after
    BAR: ClassVar[tuple[str, str]] = ("after sampling", "raw")  # what bar and tick are

    def doubted(self, doubt: Uncertainty | None) -> "CandidateTable":
        """The table with "±" beside the candidates that it knows."""
        if doubt is None:
            return self
        spreads = dict(zip(doubt.ids.tolist(), doubt.spread.tolist(), strict=True))
        return replace(self, rows=tuple(replace(r, spread=spreads.get(r.token)) for r in self.rows), doubt=doubt)

    @property
    def scale(self) -> float:
        """The probability at which a bar is full: the largest of all rows."""
        return max((max(row.after or 0.0, row.before) for row in self.rows), default=0.0) or 1.0

    def share(self, row: Candidate) -> float:
        """A candidate's share of what `numbers` are of: the model's own distribution."""
        return row.before

    def summary(self, glyphs: Glyphs) -> str:
        """`keeps 7 of 49,152 · 76 % of the raw mass`; a range where that is all that is known."""
        count = _between(f"{self.kept[0]:,.0f}", f"{self.kept[1]:,.0f}")
        mass = _between(*("<1" if 0 < share < 0.005 else f"{100 * share:.0f}" for share in self.mass))
        return f"keeps {count} of {self.vocab:,} {glyphs.dot} {mass} % of the raw mass"


@dataclass(frozen=True, slots=True)
class DrawnTable(CandidateTable):
    """The table of a token that was drawn: what it was drawn from."""

    HEADS: ClassVar[tuple[str, ...]] = ("raw %", "drawn %")
    BAR: ClassVar[tuple[str, str]] = ("drawn", "raw")


@dataclass(frozen=True, slots=True)
class MovedTable(CandidateTable):
    """The table of a drawn token under other settings: what it was drawn from, and what it would be drawn from now."""

    HEADS: ClassVar[tuple[str, ...]] = ("raw %", "drawn %", "if moved")
    BAR: ClassVar[tuple[str, str]] = ("if moved", "raw")

    def summary(self, glyphs: Glyphs) -> str:
        text = super(MovedTable, self).summary(glyphs)  # slots: the class is made twice
        return f"if moved {text.replace(' of the raw mass', ' of raw')}"


def _between(low: str, high: str) -> str:
    return low if low == high else f"up to {high}" if low == "0" else f"{low} to {high}"


@dataclass(frozen=True)
class Names:
    """A model's vocabulary by id: the `Vocabulary` that transforms ask, and the names on the screen."""

    pieces: tuple[bytes, ...] = ()
    eos: frozenset[int] = field(default_factory=frozenset)

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {piece: token for token, piece in reversed(list(enumerate(self.pieces)))}

    def piece(self, token: int) -> bytes:
        """The token's bytes; none where the vocabulary is not there."""
        return self.pieces[token] if 0 <= token < len(self.pieces) else b""

    def encode(self, text: str) -> list[int]:
        """The token that is all of a text, where there is one."""
        return [token for token in [self._ids.get(text.encode())] if token is not None]

    def words(self, word: str) -> list[int]:
        """The tokens that are all of a word: after a space, and as it is written."""
        return [*self.encode(f" {word.strip()}"), *self.encode(word)]

    def running(self, token: int) -> str:
        """A token as it stands in running text."""
        text = self.piece(token).decode(errors="replace")
        return cells.clean(text).replace("\n", "⏎").replace("\t", " ") or "∅"

    def name(self, token: int) -> str:
        """A token's piece as a name; its id where the vocabulary is not there."""
        return cells.piece_text(self.pieces[token]) if 0 <= token < len(self.pieces) else f"#{token}"


@dataclass(frozen=True)
class Outcome:
    """A step's candidates under some recipe, most likely first: probabilities before and after, what removed them."""

    ids: np.ndarray  # [n]
    before: np.ndarray  # [n]
    after: np.ndarray  # [n]
    removed_by: np.ndarray  # [n] index of the transform, STAYS
    kept: Bounds
    mass: Bounds  # of the kept, before
    exact: bool
    entropy_bits: float | None = None  # before the transforms, where all of the distribution is known


def exact(
    logits: np.ndarray, recipe: SamplingConfig, ids: Sequence[int], names: Names, key: tuple[int, int]
) -> Outcome:
    """The outcome from the whole raw logits [V], for a token that `ids` precede."""
    states = start(recipe.transforms, names, ids, np)
    after, removed_by = run(recipe.transforms, logits, states, key, np, greedy=recipe.greedy)
    before, then = softmax(logits), softmax(after)
    order = np.lexsort((-before, -then))[:KEPT]
    stays = removed_by == STAYS
    entropy = -float(before[before > 0] @ np.log2(before[before > 0]))
    mass, count = float(before[stays].sum()), int(stays.sum())
    return Outcome(order, before[order], then[order], removed_by[order], (count, count), (mass, mass), True, entropy)


def replayed(
    step: TokenStep, recipe: SamplingConfig, before: Sequence[int], steps: Sequence[TokenStep], names: Names, seed: int
) -> Outcome | None:
    """The outcome from what was kept of a step, without the model; `steps` are those between `before` and it.

    By the recipe that drew it, what it was drawn from. By another the middles of the replay's bounds: exact where they
    meet. None where nothing was kept, and where a transform has no bounds.
    """
    snapshot = step.snapshot
    if snapshot is None:
        return None
    if hard(recipe.transforms):
        again, recipe = recipe is step.recipe, recorded(step, recipe, len(before) + len(steps))
        step = replace(step, recipe=recipe) if again else step
    states, key = states_at(recipe.transforms, names, *_recent(recipe, before, steps)), (seed, step.position)
    try:
        past = replay_drawn(step, states, key) if recipe is step.recipe else None
        past = past or replay(snapshot, recipe.transforms, states, key, greedy=recipe.greedy)
    except ParameterError:
        return None
    raw = np.exp(snapshot.logits.astype(np.float64) - snapshot.lse)
    stays = past.removed_by == STAYS
    order = np.lexsort((-raw, -past.middle))[:KEPT]
    low, high = (max(count, 1) for count in past.kept)  # something is always left to draw
    # the rest is known only in all: where any of it may stay, it may be there whole or not at all
    sure, beside = past.low > 0, low - int(stays.sum())
    rest = max(1.0 - float(raw.sum()), 0.0) if high > int(stays.sum()) else 0.0
    mass = (float(raw[sure].sum()), min(float(raw[stays].sum()) + rest, 1.0))
    whole = past.exact and low == high
    if (whole and not rest) or beside >= snapshot.counts.sum() or low == snapshot.vocab:  # or all of the rest stays
        mass = (mass[1], mass[1])
    return Outcome(past.ids[order], raw[order], past.middle[order], past.removed_by[order], (low, high), mass, whole)


def _recent(
    recipe: SamplingConfig, before: Sequence[int], steps: Sequence[TokenStep]
) -> tuple[Sequence[int], Sequence[TokenStep]]:
    """As much of a text as the transforms look back on, so that a long one costs no more than a short one."""
    reach = max((transform.reach for transform in recipe.transforms), default=0)
    if reach == math.inf:
        return before, steps
    if not reach:
        return (), ()
    window = int(reach)
    recent = steps[-window:]
    return before[len(before) - max(window - len(recent), 0) :] if len(recent) < window else (), recent


def view(
    step: TokenStep,
    outcome: Outcome | None,
    recipe: SamplingConfig,
    names: Names,
    *,
    title: str,
    live: bool,
    drawn: Outcome | None = None,
    moved: str = "",
) -> CandidateTable:
    """The table of a token under a recipe; where that is not what it was drawn by, `drawn` is the outcome of this."""
    name = cells.piece_text(step.piece) if step.piece else names.name(step.token)
    if step.logprob is None:
        numbers = "nothing before it"
    else:
        numbers = f"{bits(-step.logprob)} bits  rank {step.rank}"
    if outcome is None:
        if step.snapshot is not None:
            numbers += "  needs the model to be seen under this recipe"
        return CandidateTable(title, name, numbers, (), 0, (0, 0), (0.0, 0.0), "", True, live)
    vocab = step.snapshot.vocab if step.snapshot is not None else len(names.pieces)
    kind = CandidateTable if step.origin == "given" else DrawnTable if drawn is None else MovedTable
    table = _view(title, name, numbers, outcome, recipe, names, vocab, live, step.token, kind)
    if drawn is not None:
        known = dict(zip(drawn.ids.tolist(), drawn.after.tolist(), strict=True))
        rows = tuple(replace(row, drawn=known[row.token]) for row in table.rows if row.token in known)
        table = replace(table, rows=rows, exact=table.exact and drawn.exact)
    return replace(table, moved=moved)


def next_view(
    outcome: Outcome, recipe: SamplingConfig, names: Names, vocab: int, entropy: float | None = None
) -> CandidateTable:
    """The table of the token that has not been drawn yet; `entropy` in bits."""
    entropy = outcome.entropy_bits if entropy is None else entropy
    numbers = "" if entropy is None else f"{entropy:.1f} bits of entropy"
    return _view("NEXT", "", numbers, outcome, recipe, names, vocab, True, None)


def bits(nats: float | None) -> str:
    """Nats as bits in words."""
    return "?" if nats is None else f"{max(nats, 0.0) / LN2:z.1f}"


def label(transform: Transform) -> str:
    """A transform's short name: `top-p`."""
    if isinstance(transform, LogitBias):
        return "ban"
    if isinstance(transform, Constraint | ChoiceMask):
        return transform.kind if isinstance(transform, Constraint) else "choice"
    named = (p.label for p in transform.parameters if p.off is not None)
    return next(named, type(transform).__name__).split(" ")[0]


def _view(
    title: str,
    name: str,
    numbers: str,
    outcome: Outcome,
    recipe: SamplingConfig,
    names: Names,
    vocab: int,
    live: bool,
    token: int | None,
    kind: type[CandidateTable] = CandidateTable,
) -> CandidateTable:
    shown = (outcome.ids, outcome.before, outcome.after, outcome.removed_by)
    columns = zip(*(column[:SHOWN].tolist() for column in shown), strict=True)
    banned = {id for transform in recipe.transforms if isinstance(transform, LogitBias) for id in bans(transform)}
    cutters = {STAYS: "", **dict(enumerate(map(label, recipe.transforms)))}
    rows = tuple(
        Candidate(
            id,
            names.name(id),
            before,
            after,
            BANNED if id in banned else cutters.get(removed_by, "greedy"),
            id == token,
        )
        for id, before, after, removed_by in columns
    )
    cut_by = ", ".join(dict.fromkeys(row.removed_by for row in rows if row.removed_by not in ("", BANNED)))
    return kind(title, name, numbers, rows, vocab, outcome.kept, outcome.mass, cut_by, outcome.exact, live)


def bans(transform: LogitBias) -> list[int]:
    """The tokens that are never drawn under a bias."""
    return [token for token, value in dict(transform.bias).items() if value <= BAN]
