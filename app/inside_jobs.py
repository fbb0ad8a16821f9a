"""Jobs of the inside view, in the engine's thread: looks into one model, on one text at a time.

The residual streams of the text that was looked at last are kept, 4 bytes a number, so that the lens at other positions
and the heads of another layer need no pass from the beginning. Attention is made for one layer at a time, and only its
weights leave. Everything that is given is plain data (`app.looks`).
"""

import math
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from likely.app import looks
from likely.app.scoreboard import half
from likely.engine.decode.control import RunControl
from likely.engine.errors import ParameterError
from likely.engine.inside import heads, patching, tuned_lens
from likely.engine.inside.attribution import attribution
from likely.engine.inside.causes import why
from likely.engine.inside.embeddings import NEAREST, EmbeddingTable, Neighbour, nearest, units
from likely.engine.inside.importance import importance
from likely.engine.inside.lens import LensRow, rows, states
from likely.engine.inside.merges import merges
from likely.engine.inside.relations import accuracies, family_tokens
from likely.engine.inside.subject import InspectedText, subject, transformer
from likely.engine.inside.tokenisation import tokenisation
from likely.engine.posterior.averaged import UncertainText
from likely.engine.session import Session
from likely.metal import mx

PART = 32  # positions of the lens in one turn
LN2 = math.log(2)
BEST = 5  # tokens of every cell


class InsideJobs:
    """Looks into the model of a session; `forget` when it computes something else."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.text: InspectedText | None = None
        self.hidden: list[mx.array] = []
        self._tables: dict[str, EmbeddingTable] = {}  # each keeps its mean row
        self._maps: dict[str, looks.WordMap] = {}
        self._kinds: looks.Kinds | None = None
        self._uncertain: UncertainText | None = None

    def forget(self) -> None:
        """The model computes something else now."""
        self.text, self.hidden, self._kinds, self._uncertain = None, [], None, None
        self._tables.clear()
        self._maps.clear()

    def look(self, ids: Sequence[int], look: looks.Look, control: RunControl) -> Iterator[Any]:
        """Answer a look in pieces; ends early where `control` is cancelled. Raises what the engine raises."""
        if isinstance(look, looks.NearLook):  # what is kept of a text stays
            yield self._near(look)
            return
        if isinstance(look, looks.WhyLook):
            marks = frozenset(id for id in {*ids} if self.session.tokenizer.is_special(id))
            for event in why(self.session, ids, look.target, look.foil, skipped=marks):
                if control.cancelled:
                    return
                yield event
            yield looks.WhyEnded()
            return
        if isinstance(look, looks.DoubtLook):
            yield from self._doubt(ids, look, control)
            return
        if self.text is None or self.text.ids != tuple(ids):
            self.text, self.hidden = None, []
            self.text = subject(self.session, ids)
        text = self.text
        match look:
            case looks.OpenLook():
                yield self._opened(text)
            case looks.LensLook():
                yield from self._lens(text, look, control)
            case looks.PatternLook(layer):
                heads.check(text.model, layer)
                yield looks.Pattern(layer, heads.pattern(text, layer, self._states(text)))
            case looks.KindsLook():
                if self._kinds is None:
                    found = heads.kinds(text.model, bos=self.session.tokenizer.encode("", bos=True))
                    names = (*heads.HeadScores.KINDS, "distance", "entropy")
                    self._kinds = looks.Kinds({name: getattr(found, name) for name in names})
                yield self._kinds
            case looks.RolloutLook():
                yield looks.Rollout(heads.rolled_out(text))
            case looks.MapLook(table):
                if table not in self._maps:
                    self._maps[table] = self._map(table)
                yield self._maps[table]
            case looks.AttributionLook(position, against):
                made = attribution(self._until(text, position), against=against)
                yield looks.LogitAddends(
                    made.token, made.embedding, made.heads, made.mlp, made.bias, made.total, made.logit
                )
            case looks.ImportanceLook(position):
                owed = importance(self._until(text, position))
                yield looks.TokenImportance(owed.token, owed.left_out, owed.agreement)
            case looks.AblationLook(position, layer, head):
                gone = patching.ablate(self._until(text, position), layer, head)
                yield looks.HeadAblation(gone.token, gone.logit, gone.effect)
            case looks.PatchLook():
                yield self._patched(text, look)
            case looks.SpellingsLook():
                yield self._spelled(text, look)

    def _opened(self, text: InspectedText) -> looks.InspectedModel:
        config = text.model.config
        return looks.InspectedModel(
            text.ids,
            text.first,
            len(text.model.blocks),
            config.heads,
            config.kv_heads,
            config.head_size,
            config.width,
            config.tied,
            tuned_lens.place(self.session.info.weights).exists(),
        )

    def _states(self, text: InspectedText) -> list[mx.array]:
        if not self.hidden:
            self.hidden = states(text)
        return self.hidden

    def _lens(self, text: InspectedText, look: looks.LensLook, control: RunControl) -> Iterator[looks.LensPart | None]:
        hidden = self._states(text)
        if look.tuned:
            hidden = tuned_lens.kept(self.session.info).translate(hidden)
        known = {position - text.first for position in look.known}
        for span in spans(len(text.positions), look.start - text.first, look.stop - text.first):
            for start, stop in without(span, known):
                if control.cancelled:
                    return
                found = list(rows(text, hidden, slice(start, stop), BEST))
                yield looks.LensPart(text.first + start, *_stacked(found[::-1]))

    def _until(self, text: InspectedText, position: int) -> InspectedText:
        """The text up to a position, which is its last then."""
        return subject(self.session, text.ids[: position + 1])

    def _table(self, name: str) -> EmbeddingTable:
        if name not in self._tables:
            self._tables[name] = EmbeddingTable(transformer(self.session), name)
        return self._tables[name]

    def _map(self, name: str) -> looks.WordMap:
        table = self._table(name)
        words = family_tokens(self.session.tokenizer)
        ids = [id for family in words.values() for id, _ in family]
        if len(ids) < 3:
            raise ParameterError(f"a map needs words that are one token, and {self.session.info.name} has {len(ids)}")
        points, kept = table.shadow(ids)
        found = accuracies(table, self.session.tokenizer)
        return looks.WordMap(
            points,
            kept,
            tuple((family, tuple(id for id, _ in members)) for family, members in words.items()),
            table.norms(),
            table.alikeness(),
            tuple(looks.RelationRow(a.name, a.sums, a.kept.mean, a.left_out.mean, half(a.left_out)) for a in found),
        )

    def _doubt(self, ids: Sequence[int], look: looks.DoubtLook, control: RunControl) -> Iterator[Any]:
        if self.session.average is None:
            raise ParameterError("no adapter on the model has a posterior")
        began = perf_counter()
        if self._uncertain is None:
            self._uncertain = UncertainText(self.session.average(0))
        text = self._uncertain
        for done in text.read(ids):
            yield looks.DoubtPart(done, len(ids))
            if control.cancelled or self._uncertain is not text:  # broken off, or other adapters are on the model
                return
        found = text.after(len(ids) - 1, len(ids), [look.tokens])[0]
        spreads = tuple(zip(look.tokens, found.spread.tolist(), strict=True))
        parts = found.aleatoric / LN2, found.epistemic / LN2
        yield looks.Doubt(*parts, spreads, found.samples, perf_counter() - began)

    def _near(self, look: looks.NearLook) -> looks.NearestTokens:
        table = self._table(look.table)
        if look.minus or len(look.plus) > 1:
            kept, rest = (table.sum_neighbours(look.plus, look.minus, 5, inputs=inputs) for inputs in (True, False))
            return looks.NearestTokens(_pairs(rest), _pairs(kept))
        token = look.plus[0]
        cosines = table.cosines(table.rows([token])[0], centred=True)
        others, found = np.delete(cosines, token), nearest(cosines, NEAREST, [token])
        rows = units(table.rows([token, *(near.id for near in found)]))
        return looks.NearestTokens(
            _pairs(found),
            (),
            tuple(np.array(rows[1:] @ rows[0]).tolist()),
            float(np.median(others)),
            float(np.quantile(others, 0.99)),
        )

    def _patched(self, text: InspectedText, look: looks.PatchLook) -> looks.PatchEffects:
        clean = self._until(text, look.position)
        corrupted = subject(self.session, look.corrupted.ids(self.session.tokenizer))
        found = patching.patch(patching.pair(clean, corrupted), look.part)
        return looks.PatchEffects(
            corrupted.ids,
            found.answer,
            found.foil,
            found.clean,
            found.corrupted,
            found.effects,
            found.correlation,
        )

    def _spelled(self, text: InspectedText, look: looks.SpellingsLook) -> looks.WordSpellings:
        tokenizer = self.session.tokenizer
        ids = list(text.ids[look.start : look.stop])
        word = b"".join(map(tokenizer.piece, ids))
        made, ways, refused = [], None, ""
        try:
            made = merges(tokenizer, word.decode())
            ways = tokenisation(
                self.session, word.decode(), before=tokenizer.decode(text.ids[: look.start], special=True)
            )
        except (ParameterError, UnicodeDecodeError) as error:
            refused = str(error)
        return looks.WordSpellings(
            word,
            tuple(made),
            tuple((way.ids, way.logprob, way.own) for way in ways.spellings) if ways is not None else (),
            ways.logprob if ways is not None else 0.0,
            ways.complete if ways is not None else False,
            refused,
        )


def spans(n: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """0..n in parts: what is on the screen first and at once, then outwards, the nearer side first."""
    start, stop = max(0, min(start, n - 1)), max(1, min(stop, n))
    yield start, stop
    low, high = start, stop
    while low > 0 or high < n:
        if low > 0:
            yield (next_low := max(0, low - PART)), low
            low = next_low
        if high < n:
            yield high, (next_high := min(n, high + PART))
            high = next_high


def without(span: tuple[int, int], known: set[int]) -> Iterator[tuple[int, int]]:
    """The runs of a span that are not known."""
    start: int | None = None
    for i in range(span[0], span[1] + 1):
        if i < span[1] and i not in known:
            start = i if start is None else start
        elif start is not None:
            yield start, i
            start = None


def _stacked(found: list[LensRow]) -> Iterator[np.ndarray]:
    for name in ("top", "p", "kl", "rank", "best", "shares"):
        yield np.stack([getattr(row, name) for row in found])


def _pairs(found: Sequence[Neighbour]) -> tuple[tuple[int, float], ...]:
    return tuple((near.id, near.cosine) for near in found)
