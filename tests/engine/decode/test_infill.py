"""Infilling from left to right on a law whose every conditional is known: the walk goes to the exact one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from likely.engine.decode.infill import Holes
from likely.engine.errors import ParameterError
from likely.engine.trace.step import Recipe
from likely.engine.transforms import MirostatV2, Temperature
from tests.engine.decode.test_without_replacement import chi_square_bound

TOKENS, MASK = 3, 9


@dataclass
class Pairs:
    """Log p of a token after the two before it."""

    table: np.ndarray = field(
        default_factory=lambda: np.log(np.random.default_rng(4).dirichlet(np.full(TOKENS, 0.7), (TOKENS, TOKENS)))
    )

    def logits_after(self, ids: Sequence[int], /) -> np.ndarray:
        found: np.ndarray = self.table[ids[-2] if len(ids) > 1 else 0, ids[-1]]
        return found

    def score(self, ids: Sequence[int], /, *, start: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(logprob=float(self.logits_after(ids[:at])[ids[at]])) for at in range(start, len(ids))]

    def conditional(self, canvas: Sequence[int], sharp: float = 1.0) -> dict[tuple[int, ...], float]:
        """The law of the text given what is given, by adding up; tokens of holes at temperature 1 / sharp."""
        free = [at for at, token in enumerate(canvas) if token == MASK]
        found = {}
        for tokens in product(range(TOKENS), repeat=len(free)):
            text = list(canvas)
            for at, token in zip(free, tokens, strict=True):
                text[at] = token
            total = 0.0
            for at in range(free[0], len(text)):
                row = self.logits_after(text[:at])
                row = row * sharp - np.log(np.exp(row * sharp).sum()) if at in free else row
                total += row[text[at]]
            found[tuple(text)] = float(np.exp(total))
        mass = sum(found.values())
        return {text: p / mass for text, p in found.items()}


def distance(counts: "Counter[tuple[int, ...]]", law: dict[tuple[int, ...], float]) -> float:
    """Chi-square over its bound."""
    n = sum(counts.values())
    cells = [(n * p, counts[text]) for text, p in law.items() if n * p >= 5]
    rest = n - sum(wanted for wanted, _ in cells), n - sum(seen for _, seen in cells)
    cells += [rest] if rest[0] >= 1 else []
    return float(sum((seen - wanted) ** 2 / wanted for wanted, seen in cells) / chi_square_bound(len(cells)))


@pytest.mark.parametrize(
    ("canvas", "sharp"), [((0, 1, MASK, MASK, 2, 0), 1.0), ((1, MASK, 2, MASK, 1), 1.0), ((0, MASK, MASK, 2), 2.0)]
)
def test_the_walk_has_the_exact_law_of_the_hole_given_both_sides(canvas: tuple[int, ...], sharp: float) -> None:
    model, n = Pairs(), 200
    recipe = Recipe(() if sharp == 1 else (Temperature(1 / sharp),))
    law = model.conditional(canvas, sharp)
    ends, begins = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    for seed in range(n):
        taken = [a for a in Holes(model, canvas, MASK, recipe, seed).mcmc(16) if a.taken]
        begins[taken[0].text.ids] += 1
        ends[taken[-1].text.ids] += 1
    assert distance(ends, law) < 1 < distance(begins, law)  # which the first draw, that sees the left alone, has not


def test_the_best_of_n_is_the_likeliest_text_of_those_drawn() -> None:
    model, canvas = Pairs(), (0, 1, MASK, 2, MASK, 0)
    law = model.conditional(canvas)
    attempts = list(Holes(model, canvas, MASK, Recipe(), 1).nbest(60))
    best = [a for a in attempts if a.taken][-1].text
    assert law[best.ids] == max(law[a.text.ids] for a in attempts) == max(law.values())
    assert [a.number for a in attempts] == list(range(1, 61)) and attempts[0].taken
    for a in attempts:
        assert [x in (MASK, y) for x, y in zip(canvas, a.text.ids, strict=True)] == [True] * 6
    for seed in range(6):  # taken is what is likelier than all before it
        totals = [(a.text.total, a.taken) for a in Holes(model, canvas, MASK, Recipe(), seed).nbest(8)]
        assert [taken for _, taken in totals] == [
            i == 0 or total > max(before for before, _ in totals[:i]) for i, (total, _) in enumerate(totals)
        ]


def test_what_cannot_be_filled_from_left_to_right_is_refused() -> None:
    for canvas, recipe, line in (
        ((0, 1), Recipe(), "nothing to fill"),
        ((MASK, 1), Recipe(), "begin the text with a word"),
        ((1, MASK), Recipe((MirostatV2(5.0),)), "MirostatV2 follows the surprisals"),
    ):
        with pytest.raises(ParameterError, match=line):
            Holes(Pairs(), canvas, MASK, recipe)
