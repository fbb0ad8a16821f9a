"""`likely eval --generated FILE --reference FILE`: one set of texts against another, by sample metrics."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import DataError
from likely.engine.base.files.whole_file import read_whole

if TYPE_CHECKING:
    from likely.engine.base.statistics.estimates import Estimate
    from likely.engine.decode.session import Session

SPECTRUM = "bigrams"


def measured(
    generated: Path, reference: Path, training: Path | None, model: str | None, open_model: "Callable[[str], Session]"
) -> "list[tuple[str, Estimate, dict[str, Any]]]":
    """Measures by name with what they depend on. Features are a model's, or without one the spectra of bigrams.

    Both sets are cut to the smaller one's size, on which most of these depend.
    """
    from likely.engine.measure.evaluate.figures import sample_metrics, samples

    drawn, real = texts(generated), texts(reference)
    known = texts(training) if training is not None else real
    n = min(len(drawn), len(real))
    words = [text.split() for text in drawn[:n]]
    judged = {}
    if model is None:
        name = SPECTRUM
        features = [samples.spectrum(words), samples.spectrum([text.split() for text in real[:n]])]
    else:
        from likely.engine.measure.evaluate.scoring.features import pooled, scored

        session = open_model(model)
        judged = sample_metrics.of_judge(scored(session, drawn[:n]))
        name = f"mean-pooled hidden states of {model or session.info.name}"
        features = [pooled(session, some[:n]) for some in (drawn, real)]
    details = dict(sample_metrics.protocol(name, n))
    details |= {"texts": [len(drawn), len(real)], "known": str(training or reference)}
    figures = sample_metrics.of_features(*features) | sample_metrics.of_texts(words, [text.split() for text in known])
    figures |= judged
    return [(measure, figure, details) for measure, figure in figures.items()]


def texts(path: Path) -> Sequence[str]:
    """The `text` of each row of a JSONL or CSV file, or the lines of any other; DataError for none."""
    from likely.engine.measure.evaluate.tasks.task_files import rows

    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind in (".jsonl", ".csv"):
        lines = []
        for number, row in enumerate(rows(path), 1):
            if not isinstance(row.get("text"), str):
                raise DataError(f"{path}, row {number}: expected a text, got {', '.join(map(str, row)) or 'nothing'}")
            lines.append(str(row["text"]))
    else:
        lines = read_whole(path).splitlines()
    lines = [text for text in lines if text.strip()]
    if not lines:
        raise DataError(f"{path} has no texts: a .jsonl or .csv file with a column text, or a line each")
    return lines
