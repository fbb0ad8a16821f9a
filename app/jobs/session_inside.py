"""Inside of a session's model, in the engine's thread: looks into it, on one text at a time.

The residual streams of the text that was looked at last are kept, 4 bytes a number, so that the lens at other positions
and the heads of another layer need no pass from the beginning. Attention is made for one layer at a time, and only its
weights leave. Everything that is given is plain data (`engine.inside.looks`).
"""

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from likely.app.jobs.interpretability import Ids, InsideQuestion, WhyEnded
from likely.app.jobs.worker import WORKED
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.session import Session
from likely.engine.inside import attribution, causes, heads, importance, lens, patching, tuned_lens
from likely.engine.inside.embeddings import EmbeddingTable
from likely.engine.inside.layer import layer_pass
from likely.engine.inside.merges import merges
from likely.engine.inside.questions import (
    Ablation,
    Attribution,
    HeadScores,
    Importance,
    InspectedModel,
    LayerPass,
    Lens,
    Neighbourhood,
    Patching,
    WordMap,
    WordSpellings,
    WordSum,
)
from likely.engine.inside.relations import accuracies, family_tokens
from likely.engine.inside.subject import InspectedText, subject, transformer
from likely.engine.inside.tokenization import tokenisation
from likely.engine.inside.why import Omission, Why
from likely.engine.train.posterior.averaged import UncertainText
from likely.metal import mx

PART = 32  # positions of the lens in one turn
BEST = 5  # tokens of every cell, and of a sum


class SessionInside:
    """The `Inside` of a session; `forget` when its model computes something else."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.text: InspectedText | None = None
        self.hidden: list[mx.array] = []
        self._tables: dict[str, EmbeddingTable] = {}  # each keeps its mean row
        self._maps: dict[str, WordMap] = {}
        self._kinds: HeadScores | None = None
        self._uncertain: UncertainText | None = None

    def forget(self) -> None:
        """The model computes something else now."""
        self.text, self.hidden, self._kinds, self._uncertain = None, [], None, None
        self._tables.clear()
        self._maps.clear()

    def answer(self, ids: Ids, look: InsideQuestion[Any], control: RunControl) -> Iterator[Any]:
        """Answer a question by its method, in pieces; ends early where `control` is cancelled."""
        answer = getattr(self, look.method)(ids, *look.args)
        for event in answer if isinstance(answer, Iterator) else (answer,):
            if control.cancelled:
                return
            yield event

    def opened(self, ids: Ids) -> InspectedModel:
        text = self._read(ids)
        config = text.model.config
        return InspectedModel(
            text.ids,
            text.first,
            len(text.model.blocks),
            config.heads,
            config.kv_heads,
            config.head_size,
            config.width,
            config.tied,
            tuned_lens.file_of(self.session.info.weights).exists(),
        )

    def lens(
        self, ids: Ids, tuned: bool = False, start: int = 0, stop: int = 0, known: tuple[int, ...] = ()
    ) -> Iterator[Lens]:
        text = self._read(ids)
        hidden = self._states(text)
        if tuned:
            hidden = tuned_lens.kept(self.session.info).translate(hidden)
        there = {position - text.first for position in known}
        for span in spans(len(text.positions), start - text.first, stop - text.first):
            for low, high in without(span, there):
                yield lens.lens(text, hidden, slice(low, high), BEST)

    def pattern(self, ids: Ids, layer: int) -> np.ndarray:
        text = self._read(ids)
        heads.check(text.model, layer)
        return heads.pattern(text, layer, self._states(text))

    def kinds(self, ids: Ids) -> HeadScores:
        if self._kinds is None:
            bos = self.session.tokenizer.encode("", bos=True)
            self._kinds = heads.kinds(transformer(self.session), bos=bos)
        return self._kinds

    def rollout(self, ids: Ids) -> np.ndarray:
        return heads.rolled_out(self._read(ids))

    def attribution(self, ids: Ids, position: int, against: int | None, token: int | None) -> Attribution:
        return attribution.attribution(self._until(ids, position), token=token, against=against)

    def importance(self, ids: Ids, position: int, token: int | None) -> Importance:
        return importance.importance(self._until(ids, position), token)

    def ablation(self, ids: Ids, position: int, layer: int, head: int, token: int | None = None) -> Ablation:
        return patching.ablate(self._until(ids, position), layer, head, token=token)

    def layer(
        self, ids: Ids, position: int, layer: int, head: int, target: int | None = None, silent: bool = False
    ) -> LayerPass:
        return layer_pass(self._until(ids, position), layer, head, target, silent)

    def patching(self, ids: Ids, position: int, corrupted: Prompt, part: str) -> Patching:
        clean, other = self._until(ids, position), subject(self.session, corrupted.ids(self.session.tokenizer))
        return patching.patch(patching.pair(clean, other), part)

    def word_map(self, ids: Ids, table: str) -> WordMap:
        if table not in self._maps:
            self._maps[table] = self._map(self._table(table))
        return self._maps[table]

    def neighbours(self, ids: Ids, token: int, table: str) -> Neighbourhood:
        return self._table(table).neighbourhood(token)

    def word_sum(self, ids: Ids, plus: tuple[int, ...], minus: tuple[int, ...], table: str) -> WordSum:
        return self._table(table).word_sum(plus, minus, BEST)

    def spellings(self, ids: Ids, start: int, stop: int) -> WordSpellings:
        tokenizer = self.session.tokenizer
        steps: list[tuple[bytes, ...]] = []
        try:
            word = b"".join(map(tokenizer.piece, ids[start:stop])).decode()
            steps = merges(tokenizer, word)
            before = tokenizer.decode(ids[:start], special=True)
            return WordSpellings(steps, tokenisation(self.session, word, before=before))
        except (ParameterError, UnicodeDecodeError) as error:
            return WordSpellings(steps, refused=str(error))

    def why(self, ids: Ids, target: int, foil: int | None) -> Iterator[Why | Omission | WhyEnded | None]:
        yield from causes.why(self.session, ids, target, foil)
        yield WhyEnded()

    def uncertainty(self, ids: Ids, tokens: tuple[int, ...]) -> Iterator[Any]:
        if self.session.average is None:
            raise ParameterError("no adapter on the model has a posterior")
        began = perf_counter()
        if self._uncertain is None:
            self._uncertain = UncertainText(self.session.average(0))
        text = self._uncertain
        for _ in text.read(ids):
            yield WORKED
            if self._uncertain is not text:  # other adapters are on the model
                return
        (after,) = text.after(len(ids) - 1, len(ids), [tokens])
        yield replace(after, elapsed_s=perf_counter() - began)

    def _read(self, ids: Ids) -> InspectedText:
        if self.text is None or self.text.ids != tuple(ids):
            self.text, self.hidden = None, []
            self.text = subject(self.session, ids)
        return self.text

    def _states(self, text: InspectedText) -> list[mx.array]:
        if not self.hidden:
            self.hidden = lens.states(text)
        return self.hidden

    def _until(self, ids: Ids, position: int) -> InspectedText:
        """The text up to a position, which is its last then."""
        return subject(self.session, ids[: position + 1])

    def _table(self, name: str) -> EmbeddingTable:
        if name not in self._tables:
            self._tables[name] = EmbeddingTable(transformer(self.session), name)
        return self._tables[name]

    def _map(self, table: EmbeddingTable) -> WordMap:
        words = family_tokens(self.session.tokenizer)
        tokens = [id for family in words.values() for id, _ in family]
        if len(tokens) < 3:
            raise ParameterError(
                f"a map needs words that are one token, and {self.session.info.name} has {len(tokens)}"
            )
        points, kept = table.shadow(tokens)
        families = tuple((family, tuple(id for id, _ in members)) for family, members in words.items())
        relations = accuracies(table, self.session.tokenizer)
        return WordMap(points, kept, families, table.norms(), table.alikeness(), relations)


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
