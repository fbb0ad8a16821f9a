"""Comparison of two models on a text: KL at every token, and what rose and fell. Log-probabilities in nats."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from likely.app.words.heat import moved_level
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.difference import Difference
from likely.notebook import BLUE, words
from likely.table import Table

if TYPE_CHECKING:
    from likely.engine.text.tokenizer import Tokenizer
    from likely.language_model import Asked, Model

TOP = 5  # tokens that rose, and as many that fell, a position


def compare(a: "Model", b: "Model", text: "Asked", *, top: int = TOP) -> "Comparison":
    """Two models, or one before and now, on a text (a prompt as `Model.next` takes it): KL(b || a) of the token after
    each of its tokens. ParameterError for two vocabularies, or no text."""
    from likely.engine.base.statistics import compare as comparing

    if a.tokenizer.fingerprint != b.tokenizer.fingerprint:
        raise ParameterError(f"{a.name} and {b.name} have different vocabularies: only models of one can be compared")
    names = a.title, b.title
    one, two = (comparing.logits(x.session.model, name=x.title) for x in (a, b))
    return Comparison(comparing.compare(one, two, a.encode(text), names, top=top), a.tokenizer)


class Comparison:
    """`kl`: mean KL(b || a) a token, nats; `difference` has all of it, position by position."""

    def __init__(self, difference: Difference, tokenizer: "Tokenizer") -> None:
        self.difference, self.tokenizer = difference, tokenizer

    @property
    def kl(self) -> float:
        return self.difference.kl

    @property
    def same_top(self) -> float:
        """Share of positions at which both have the same likeliest token."""
        return self.difference.same_top

    def __len__(self) -> int:
        return len(self.difference.positions)

    def table(self) -> Table:
        """A row a position: the token before, KL(b || a) of the next, entropies, the likeliest of each, and the
        log-probabilities of the token that came (NaN at the end); nats."""
        at = self.difference.positions
        ours = [p.next or (math.nan, math.nan) for p in at]
        return Table(
            {
                "after": [self._text(p.token) for p in at],
                "kl": [p.kl for p in at],
                "entropy_a": [p.entropy[0] for p in at],
                "entropy_b": [p.entropy[1] for p in at],
                "top_a": [self._text(p.top[0]) for p in at],
                "top_b": [self._text(p.top[1]) for p in at],
                "logprob_a": [a for a, _ in ours],
                "logprob_b": [b for _, b in ours],
            },
            self._caption(),
        )

    def to_pandas(self) -> Any:
        """`table` as a pandas DataFrame."""
        return self.table().to_pandas()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        at = self.difference.positions
        rows = []
        for side, name in enumerate(self.difference.names):
            pieces = [(self._text(at[0].token), 0, "")]
            for before, here in pairwise(at):
                assert before.next is not None
                share = math.exp(before.next[side])
                title = f"{share:.2%} under {name} · KL {before.kl / math.log(2):.3f} bits · likeliest " + repr(
                    self._text(before.top[side])
                )
                pieces.append((self._text(here.token), moved_level(before.kl), title))
            rows.append(words(pieces, name, BLUE))
        return "".join([words([], self._caption()), *rows])

    def _caption(self) -> str:
        a, b = self.difference.names
        return f"KL({b} || {a}) {self.kl / math.log(2):.4f} bits a token · the same likeliest at {self.same_top:.0%}"

    def _text(self, token: int) -> str:
        return self.tokenizer.piece(token).decode(errors="replace")
