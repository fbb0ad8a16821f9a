"""The loss on rows that are not trained on, with an error bar, and the best weights so far kept."""

from collections.abc import Sequence

from engine.evaluate.estimates import Estimate, ratio
from engine.tune import adapters, batches, losses, objectives
from engine.tune.config import Config
from engine.tune.control import Validated
from engine.tune.objectives import Trained
from engine.tune.run import TrainingRun, settings
from engine.tune.samples import Pair, TrainingSample
from metal import mx
from models import Transformer


def validate(run: TrainingRun) -> Validated:
    """The loss on the validation rows; keeps the weights if they are the best so far."""
    counters = run.counters
    estimate, right = evaluate(run.model, run.trained, run.rows.valid, run.config)
    best = counters.best is None or estimate.mean < counters.best
    if best:
        counters.best, counters.best_step, counters.waited = estimate.mean, counters.step, 0
        if run.leads:
            adapters.save(run.folder / "best", run.trained, run.model, settings(run))
    else:
        counters.waited += 1
    return Validated(counters.step, estimate.mean, *estimate.interval, best, right)


def evaluate(
    model: Transformer, trained: Trained | None, items: Sequence[TrainingSample | Pair], config: Config
) -> tuple[Estimate, float]:
    """The mean loss of rows with its standard error clustered by row, and the share of pairs ranked as wanted.

    `trained` is asked for by preferences alone.
    """
    items = items[: config.eval_rows] if config.eval_rows else items
    rows: list[tuple[float, float, int]] = []
    right = 0.0
    for indices in batches.plan(items, size=config.batch, length=config.length, packing=True, seed=0, epoch=0):
        part = [items[i] for i in indices]
        if config.objective == "sft":
            batch = batches.collate(objectives.samples_of(part))
            hidden = model.hidden(batch.tokens, documents=batch.documents)[0][batch.at]
            lost = losses.nll(model.head, hidden, batch.targets)
            sums, squares = objectives.by_sample(lost, batch), objectives.by_sample(mx.square(lost), batch)
            mx.eval(sums, squares)
            rows += zip(sums.tolist(), squares.tolist(), batch.counts, strict=True)  # type: ignore[arg-type]
        else:
            assert trained is not None
            for item in part:
                found = objectives.value(model, trained, [item], config)
                right += float(found.right)
                rows.append((float(found.lost), float(found.lost) ** 2, 1))
    return ratio(rows), right / len(items)
