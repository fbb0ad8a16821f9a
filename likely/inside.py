"""Inside of a model while it reads a text: the lens, attention, activations and what replacing them does. Numpy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.distribution import Distribution
from likely.notebook import heat_map

if TYPE_CHECKING:
    from likely.engine.inside.questions import Lens
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

    @property
    def names(self) -> list[str]:
        """Names of the activations: `embedding`, `layers.3.heads`, `.attention`, `.mlp`, `.residual`."""
        from likely.engine.inside import activations

        return activations.names(self._subject.model)

    def nbytes(self, pattern: str = "*") -> int:
        """Bytes that `activations` of a pattern would keep."""
        from likely.engine.inside import activations

        return activations.nbytes(self._subject, activations.matching(self._subject.model, pattern))

    def activations(self, pattern: str = "*", *, most: int = 1 << 30) -> dict[str, np.ndarray]:
        """Activations by name, float32: [T, C], of heads [T, H, D]. A pattern has `*`; TransformerLens' and nnterp's
        names are understood (`blocks.3.hook_mlp_out`, `mlps_output[3]`). ParameterError for a name that there is not,
        and for more than `most` bytes, before they are computed."""
        from likely.engine.inside import activations

        return activations.activations(self._subject, activations.matching(self._subject.model, pattern), most)

    def patch(self, by_name: Mapping[str, Any]) -> Distribution:
        """What follows the text where activations are replaced: by an array of their shape, or by what a function of
        the array gives. ParameterError for a name or a shape that there is not."""
        from likely.engine.inside import activations

        given = {name: new for at, new in by_name.items() for name in activations.matching(self._subject.model, at)}
        logits = activations.replaced(self._subject, given)
        return Distribution(logits, self.model.tokenizer, self.ids)

    def ablate(self, layer: int, head: int) -> Distribution:
        """What follows the text where one head is silenced at every position: its output is 0."""
        from likely.engine.inside import heads

        heads.check(self._subject.model, layer, head)

        def silent(x: np.ndarray) -> np.ndarray:
            x[:, head] = 0
            return x

        return self.patch({f"layers.{layer}.heads": silent})

    def gradients(
        self, token: str | int, pattern: str = "*.residual", *, foil: str | int | None = None, most: int = 1 << 30
    ) -> dict[str, np.ndarray]:
        """Gradients of a token's logit after the text, less that of a foil, with respect to activations, by name."""
        from likely.engine.inside import activations

        law = self.model.next(list(self.ids))
        wanted = activations.matching(self._subject.model, pattern)
        other = None if foil is None else law.token(foil)
        return activations.gradients(self._subject, wanted, law.token(token), other, most)

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
