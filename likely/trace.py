"""Trace of a text in a model: a sequence of its tokens' records, drawn or read. Plain Python and numpy.

Nothing is asked of a model: every number was captured when the token was. Log-probabilities in nats, bits on a page.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from likely.app.words.heat import level
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.scores import perplexity
from likely.engine.sampling.thinking import end_of, opens
from likely.engine.sampling.thought_information import part_figures
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.replay import replay, states_at
from likely.engine.sampling.trace.run_trace import Trace as Record
from likely.engine.sampling.trace.step import TokenStep
from likely.notebook import words
from likely.sampling import Sampling
from likely.table import Table

FIGURES = ("tokens", "perplexity", "entropy")  # of a part
TOLD = 5  # candidates that are said of a word


class Trace(Sequence[TokenStep]):
    """One text: `trace[i]` is the record of a token, `trace.record` what a file keeps of the run."""

    def __init__(self, record: Record, tail: str = "") -> None:
        """`tail` is what of the text stands behind its last token: characters that never became whole."""
        self.record, self._tail = record, tail

    @classmethod
    def load(cls, path: str | Path) -> "Trace":
        """The first run of a file that `save` or `likely run --save` wrote. DataError for one that is damaged."""
        return cls(file.load(Path(path))[0])

    def save(self, path: str | Path) -> None:
        """Write it to a file, which `likely run --replay` reads too."""
        file.save([self.record], Path(path))

    @overload
    def __getitem__(self, index: int) -> TokenStep: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenStep]: ...
    def __getitem__(self, index: int | slice) -> TokenStep | Sequence[TokenStep]:
        return self.record.steps[index]

    def __len__(self) -> int:
        return len(self.record.steps)

    @property
    def text(self) -> str:
        return "".join(step.text for step in self) + self._tail

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(step.token for step in self)

    @property
    def prompt(self) -> tuple[int, ...]:
        """The ids before the text."""
        return self.record.prompt

    @property
    def seed(self) -> int:
        return self.record.seed

    @property
    def finish(self) -> str:
        """eot | stop | length | cancelled; "" of a text that was given."""
        return self.record.finish

    @property
    def logprob(self) -> float:
        """The model's own log-probability of the text, nats: a first token that nothing precedes has none."""
        return math.fsum(step.logprob for step in self if step.logprob is not None)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean surprisal; None where no token was predicted."""
        return perplexity(step.logprob for step in self)

    def candidates(self, i: int, k: int = TOLD) -> Table:
        """The k likeliest tokens at a place: id, token, p, logprob (nats), all the model's own. Where two distributions
        were combined, p and `logprob_combined` are the combination's."""
        step = self[i]
        if step.snapshot is None:
            raise ParameterError(f"nothing stands before token {i}: it has no candidates")
        best = np.argsort(-step.snapshot.logits, kind="stable")[:k]
        ids, logp = step.snapshot.ids[best], step.snapshot.logits[best] - step.snapshot.lse
        texts = [self.record.lexicon.piece(int(j)).decode(errors="replace") for j in ids]
        name = "logprob" if step.logprob_combined is None else "logprob_combined"
        return Table({"id": ids, "token": texts, "p": np.exp(logp), name: logp}, bar="p")

    def under(self, sampling: Sampling) -> Table:
        """The same tokens as they would have been drawn under other parameters, without the model: for each, the bounds
        of its probability there, and of how many tokens are left. Equal bounds are exact.

        ParameterError for parameters that have no bounds.
        """
        transforms, greedy = sampling.recipe.transforms, sampling.recipe.greedy
        rows = []
        for i, step in enumerate(self):
            if step.snapshot is None:
                continue
            states = states_at(transforms, self.record.lexicon, self.prompt, self[:i])
            bounds = replay(step.snapshot, transforms, states, (self.seed, step.position), greedy=greedy)
            own = int((bounds.ids == step.token).argmax())
            rows.append((step.text, float(bounds.low[own]), float(bounds.high[own]), *bounds.kept))
        names = ("token", "p_low", "p_high", "kept_low", "kept_high")
        return Table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}, f"{sampling!r}")

    def table(self) -> Table:
        """A row a token: position, id, text, logprob, entropy and rank of the model, and what it was drawn from: kept,
        logprob_after; nats; and their precision. With `logprob_combined` where two distributions were combined."""
        names = {"position": "position", "token": "id", "text": "text", "logprob": "logprob", "entropy": "entropy",
                 "rank": "rank", "kept": "kept", "logprob_after": "logprob_after", "origin": "origin",
                 "precision": "precision"}  # fmt: skip
        if any(step.logprob_combined is not None for step in self):
            names["logprob_combined"] = "logprob_combined"
        return Table({shown: [getattr(step, name) for step in self] for name, shown in names.items()})

    @property
    def parts(self) -> Table:
        """A row for the thought, marks included, and one for the answer behind it: tokens, perplexity, mean entropy
        (nats). Empty where the model did not think."""
        found = part_figures(self, self.opened)
        rows = {"part": list(found)} | {name: [getattr(part, name) for part in found.values()] for name in FIGURES}
        return Table(rows if found else {})

    @property
    def opened(self) -> bool:
        """Whether the prompt ends within a thought."""
        return opens(end_of(self.prompt, self.record.lexicon.piece))

    def to_pandas(self) -> Any:
        """`table` as a pandas DataFrame."""
        return self.table().to_pandas()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"{self.text}\n[{self._caption()}]"

    def _repr_html_(self) -> str:
        return words([self._word(i) for i in range(len(self))], self._caption())

    def _caption(self) -> str:
        known = sum(step.logprob is not None for step in self)
        said = "" if self.perplexity is None else f" · perplexity {self.perplexity:.2f}"
        drawn = f" · {self.finish} · seed {self.seed}" if self.finish else ""
        return f"{len(self)} tokens, predicted {known}{said}{drawn}"

    def _word(self, i: int) -> tuple[str, int, str]:
        step = self[i]
        text = step.text or (step.piece.decode(errors="replace") if step.special else "")
        if step.logprob is None:
            return text, 0, "nothing stands before it"
        bits = -step.logprob / math.log(2)
        lines = [f"{math.exp(step.logprob):.2%} · {bits:.2f} bits · rank {step.rank}"]
        if step.snapshot is not None:
            lines += [f"{row['p']:7.2%}  {row['token']!r}" for row in self.candidates(i)]
        return text, level(bits), "\n".join(lines)
