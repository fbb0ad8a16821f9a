"""Inside of a model while it reads a text: the lens, what heads read, why a token was said. Plain numpy comes out."""

from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.errors import ParameterError
from likely.notebook import heat_map

if TYPE_CHECKING:
    from likely.engine.inside.looks import Lens
    from likely.language_model import Model


class Inside:
    """Views of one text; layers and heads are counted from 0, position i is what follows token i."""

    def __init__(self, model: "Model", ids: list[int]) -> None:
        """ParameterError for a model whose layers cannot be seen, and for no text."""
        from likely.engine.inside.subject import subject

        self.model, self.ids = model, tuple(ids)
        self._subject = subject(model.session, ids)
        self._states: list[Any] | None = None

    @property
    def layers(self) -> int:
        return len(self._subject.model.blocks)

    @property
    def heads(self) -> int:
        return int(self._subject.model.config.heads)

    def lens(self, best: int = 1) -> "LensTable":
        """What the model would say next, had it stopped after each layer (logit lens): rows from the embedding up."""
        from likely.engine.inside import lens

        return LensTable(lens.lens(self._subject, self._hidden(), best=best), self)

    def attention(self, layer: int, head: int | None = None) -> np.ndarray:
        """Weights of a layer's heads, float32 [H, N, T], or of one head, [N, T]: a row sums to 1 over what it reads."""
        from likely.engine.inside import heads

        heads.check(self._subject.model, layer, head or 0)
        pattern = heads.pattern(self._subject, layer, self._hidden())
        return pattern if head is None else pattern[head]

    def residual(self, layer: int) -> np.ndarray:
        """The residual stream after a layer, float32 [N, C]; layer -1 is the embedding."""
        if not -1 <= layer < self.layers:
            raise ParameterError(f"no layer {layer}: -1 (the embedding) to {self.layers - 1}")
        return np.array(self._hidden()[layer + 1][0].astype(_float32()))

    def text(self, token: int) -> str:
        return self.model.tokenizer.piece(token).decode(errors="replace")

    def __repr__(self) -> str:
        return f"{len(self.ids)} tokens in {self.model.name}: {self.layers} layers of {self.heads} heads"

    def _hidden(self) -> list[Any]:
        from likely.engine.inside import lens

        if self._states is None:
            self._states = lens.states(self._subject)
        return self._states


class LensTable:
    """The lens of a text. `lens` has arrays [layers + 1, N]: top (ids), p, rank and kl (nats), of the model's own last
    distribution."""

    def __init__(self, lens: "Lens", inside: Inside) -> None:
        self.lens, self._inside = lens, inside

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The KL to the last layer, nats, [layers + 1, N]."""
        return np.array(self.lens.kl, dtype)

    def __repr__(self) -> str:
        rows = ["  ".join(f"{self._inside.text(int(t))!r:>12}" for t in row[-6:]) for row in self.lens.top]
        return "\n".join(f"{i:>3} {row}" for i, row in enumerate(rows))

    def _repr_html_(self) -> str:
        inside, lens = self._inside, self.lens
        shown = inside.ids[lens.start :]
        cells = [
            [
                (inside.text(int(lens.top[i, j])), float(lens.p[i, j]), f"{lens.p[i, j]:.2%} · rank of the final token "
                 f"{lens.rank[i, j]} · KL {lens.kl[i, j] / np.log(2):.2f} bits")
                for j in range(lens.top.shape[1])
            ]
            for i in range(lens.top.shape[0])
        ][::-1]  # fmt: skip
        names = ["embedding", *(f"layer {i}" for i in range(inside.layers))][::-1]
        return heat_map(names, [inside.text(token) for token in shown], cells, "what it would say next, layer by layer")


def _float32() -> Any:
    from likely.metal import mx

    return mx.float32
