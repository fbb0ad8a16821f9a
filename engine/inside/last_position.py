"""Last position of a text: every activation of the pass there, which is where a next token's causes are read.

One pass answers which parts wrote a logit, how a token's rank grew from layer to layer and what each head reads. What
stands before the position is read as the session reads any text, so a long one costs little more. Knows no page.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.decode.session import Session
from likely.engine.inside.subject import InspectedText, subject
from likely.metal import mx
from likely.metal.attention import Emit
from likely.models.native_path.native import NativeCache, NativeModel
from likely.models.tap import TappedPass
from likely.models.transformer import Transformer


@dataclass(frozen=True, eq=False, slots=True)
class LastPosition:
    """The activations after the last of T tokens, float32, and the logits of the token that follows."""

    model: Transformer
    ids: tuple[int, ...]
    states: mx.array  # [layers + 1, C]: the residual stream before the first layer and after each
    heads: list[mx.array]  # by layer, [H, D]: what each head read
    mlp: list[mx.array]  # by layer, [C]: what the MLP added
    attention: np.ndarray  # [layers, H, T]: the weights of each head, which sum to 1
    logits: np.ndarray  # [V]

    def check(self, token: int, what: str = "the token") -> None:
        """ParameterError for an id that the model has not."""
        if not 0 <= token < len(self.logits):
            raise ParameterError(f"{what} must be an id from 0 to {len(self.logits) - 1}, got {token}")

    @property
    def favourite(self) -> int:
        """The most likely next token."""
        return int(np.argmax(self.logits))

    def other(self, token: int) -> int:
        """The most likely next token but this one: what `token` was said instead of, or before."""
        self.check(token)
        rest = self.logits.copy()
        rest[token] = -np.inf
        return int(np.argmax(rest))

    def ranks(self, tokens: Sequence[int]) -> np.ndarray:
        """The rank of each token by the logit lens (`engine.inside.lens`), 1 the most likely: int32 [layers + 1, n]."""
        for token in tokens:
            self.check(token)
        logits = np.asarray(self.model.lens(self.states).astype(mx.float32))
        logits[-1] = self.logits
        return np.stack([arrays.rank(logits, np.full(len(logits), t), np) for t in tokens], axis=1).astype(np.int32)


def last_position(text: InspectedText) -> LastPosition:
    """By a pass over the whole text in float32."""
    return _read_out(text.whole(), text.ids)


def read(session: Session, ids: Sequence[int]) -> Generator[None, None, LastPosition]:
    """By a pass over the last position, behind what the session's model has read to measure, where that is exact to
    float32 rounding (`models.native`); over the whole text else. In pieces: others have turns between two.

    Raises as `subject` does.
    """
    text = InspectedText(subject(session, ids).model, tuple(ids))
    if not isinstance(session.model, NativeModel) or len(ids) < 2:
        return last_position(text)
    here = yield from session.branch_after(ids[:-1])
    cache = here.cache.carried(text.model) if isinstance(here.cache, NativeCache) else here.cache
    return _read_out(TappedPass(text.model, mx.array([ids[-1:]]), cache, dtype=mx.float32), text.ids)


def _read_out(tapped: TappedPass, ids: tuple[int, ...]) -> LastPosition:
    model = tapped.model
    by_name: dict[str, mx.array] = {}
    states, weights = [], []

    def keep(name: str, x: mx.array) -> mx.array:
        by_name[name] = x[0, -1]
        return x

    states.append(tapped.run(keep, range(0))[0, -1])
    for index in range(len(model.blocks)):
        report = tapped.layer(index, keep, Emit(lse=True, scores=True))
        assert report is not None and report.scores is not None and report.lse is not None
        weights.append(
            _padded(mx.exp(report.scores[0, :, -1].astype(mx.float32) - report.lse[0, :, -1, None]), len(ids))
        )
        states.append(tapped.x[0, -1])
    stream = mx.stack(states)
    logits = model.head(model.norm(stream[-1:]))[0].astype(mx.float32)
    heads, mlp = ([by_name[f"layers.{i}.{part}"] for i in range(len(model.blocks))] for part in ("heads", "mlp"))
    attention = mx.stack(weights)
    mx.eval(stream, logits, heads, mlp, attention)
    return LastPosition(model, ids, stream, heads, mlp, np.array(attention), np.array(logits))


def _padded(weights: mx.array, length: int) -> mx.array:
    """Of what a layer that slides has let go of, nothing is read."""
    gone = length - weights.shape[-1]
    return mx.pad(weights, [(0, 0), (gone, 0)]) if gone else weights
