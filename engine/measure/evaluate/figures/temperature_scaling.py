"""Temperature scaling of choices: one number, fitted on items that nothing is reported of, and its effect. No mlx."""

from collections.abc import Iterable

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.evaluate.figures import calibration
from likely.engine.measure.evaluate.figures.figures import CALIBRATION, Tally
from likely.engine.measure.evaluate.tasks.tasks import Result

MEASURES = ("brier_score", "nll", *CALIBRATION)


def fit(validation: Iterable[Result]) -> float:
    """The temperature with the least -log p of the right choice, of results of choices; DataError without any."""
    rows = list(validation)
    if not rows:
        raise DataError("a temperature is fitted on choices: the validation task has none that were scored")
    return calibration.temperature([row.detail["loglikelihoods"] for row in rows], [row.detail["gold"] for row in rows])


def scaled(answered: Iterable[Result], temperature: float) -> dict[str, Estimate]:
    """The measures that a temperature changes; which choice is taken it does not."""
    tally = Tally()
    for row in answered:
        tempered = [logp / temperature for logp in row.detail["loglikelihoods"]]
        tally.add(row.number, row.cluster, calibration.of_choice(tempered, row.detail["gold"]))
    if not tally.numbers:
        return {}
    figures = tally.figures()
    return {f"{name}_scaled": figures[name] for name in MEASURES}
