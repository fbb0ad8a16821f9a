"""Subject of a look inside: a model whose blocks can be taken one by one, and the tokens that it reads.

What is looked at are the last `rows` positions: those before them are read as always, and nothing of them is kept but
their keys and values. So the memory of a look is bounded, however long the text is. Knows nothing of the looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from likely.engine.base.errors import ContextOverflow, ParameterError
from likely.engine.decode.session import Session
from likely.metal import mx
from likely.models.caches.kv_cache import Cache
from likely.models.model import LanguageModel
from likely.models.native_path.native import NativeCache, as_graph
from likely.models.tap import CHUNK, TappedPass
from likely.models.transformer import Transformer

ROWS = 512  # positions that are looked at together
WEIGHTS = 1 << 28  # bytes that the attention of one layer may take


@dataclass(frozen=True, slots=True)
class InspectedText:
    """A model and the ids [T] it reads; the positions that are looked at are first..T-1.

    `reader` is the same model as it reads faster, if it does.
    """

    model: Transformer
    ids: tuple[int, ...]
    first: int = 0
    reader: LanguageModel | None = None

    @property
    def positions(self) -> range:
        return range(self.first, len(self.ids))

    @property
    def reading(self) -> LanguageModel:
        """The model for whoever needs no more than its states and logits."""
        return self.model if self.reader is None else self.reader

    def before(self) -> Cache | None:
        """The cache of `reading` that has read what stands before the positions that are looked at."""
        if not self.first:
            return None
        cache = self.reading.make_cache(capacity=len(self.ids))
        cache.expected = len(self.ids)  # frequencies that follow the length are those of the whole text
        for low in range(0, self.first, CHUNK):
            part = self.ids[low : min(low + CHUNK, self.first)]
            mx.eval(self.reading.hidden(mx.array([part]), cache))
        return cache

    def open(self) -> TappedPass:
        """A pass over the positions that are looked at, after those before them."""
        cache = self.before()
        if isinstance(cache, NativeCache):
            cache = cache.carried(self.model)
        return TappedPass(self.model, mx.array([self.ids[self.first :]]), cache)

    def whole(self, dtype: mx.Dtype | None = mx.float32) -> TappedPass:
        """A pass over all positions from the first, in float32 unless said otherwise: for sums that must come out."""
        return TappedPass(self.model, mx.array([self.ids]), dtype=dtype)


def subject(session: Session, ids: Sequence[int], rows: int = ROWS) -> InspectedText:
    """The session's model and these ids, of which the last `rows` are looked at, or fewer of a very long text.

    ParameterError for no ids and for a model whose blocks are not ours, ContextOverflow for more than it has positions.
    """
    if not ids:
        raise ParameterError("there is nothing to look into: the text is empty")
    if len(ids) > session.context:
        raise ContextOverflow(
            f"the text has {len(ids)} tokens and this model reads at most {session.context}: shorten it"
        )
    model = transformer(session)
    rows = min(rows, max(1, WEIGHTS // (4 * model.config.heads * len(ids))))
    return InspectedText(model, tuple(ids), max(0, len(ids) - rows), session.model)


def transformer(session: Session) -> Transformer:
    """The session's model, if it is one whose inside can be seen; ParameterError that says what can be, if not."""
    if (model := as_graph(session.model)) is None:
        raise ParameterError(
            f"{session.info.name} runs as {type(session.model).__name__}, whose layers and heads cannot be seen here: "
            "likely explain shows what it says at every token; for the inside take a model of a family that likely "
            "knows itself"
        )
    return model
