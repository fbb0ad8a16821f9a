"""Temperature scaling of choices: one number, fitted on items that nothing is reported of, and its effect. No mlx."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from likely.engine.errors import DataError
from likely.engine.evaluate import calibration
from likely.engine.evaluate.figures import CALIBRATION, Tally
from likely.engine.statistics.estimates import Estimate

MEASURES = ("brier_score", "nll", *CALIBRATION)


@dataclass(frozen=True, slots=True)
class ScoredChoices:
    """Choices as they were scored: log-probabilities in nats, and the number of the right one."""

    number: int
    cluster: str | None
    loglikelihoods: Sequence[float]
    gold: int


def fit(validation: Iterable[ScoredChoices]) -> float:
    """The temperature with the least -log p of the right choice; DataError without items."""
    rows = list(validation)
    if not rows:
        raise DataError("a temperature is fitted on choices: the validation task has none that were scored")
    return calibration.temperature([row.loglikelihoods for row in rows], [row.gold for row in rows])


def scaled(answered: Iterable[ScoredChoices], temperature: float) -> dict[str, Estimate]:
    """The measures that a temperature changes; which choice is taken it does not."""
    tally = Tally()
    for row in answered:
        said = [each / temperature for each in row.loglikelihoods]
        tally.add(row.number, row.cluster, calibration.of_choice(said, row.gold))
    if not tally.numbers:
        return {}
    figures = tally.figures()
    return {f"{name}_scaled": figures[name] for name in MEASURES}
