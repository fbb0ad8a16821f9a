"""Evaluator on this machine. Imported in its worker's thread and nowhere else: everything of mlx hangs on it."""

from collections.abc import Generator

from likely.app.jobs.model_provider import loaded
from likely.app.jobs.requests import Evaluate
from likely.app.results.awake import kept_awake
from likely.app.results.evaluator import Evaluator, is_adapter, open_adapter, weights
from likely.app.results.task_sources import sources, with_variations
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.tasks.tasks import Outcome
from likely.engine.weights.sources import store
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.fetch.progress import Report


class LocalEvaluator:
    """The models of this machine, over the weights that are in memory already where one is loaded to be talked to."""

    def run(self, request: Evaluate, store: Evaluations, progress: Report) -> Generator[Evaluation | Outcome]:
        tasks = with_variations(sources(request.tasks), request.vary, request.variants)
        models = request.models or (_default(),)
        command = ("likely", "eval", *request.tasks, *(word for name in models for word in ("-M", name)))
        limit = ("--limit", str(request.limit)) if request.limit is not None else ()
        vary = ("--vary", request.vary, "--variants", str(request.variants)) if request.vary else ()
        evaluator = Evaluator(
            store, lambda name: _open(name, progress), Protocol(), request.limit, command=(*command, *limit, *vary)
        )
        with kept_awake():
            yield from evaluator.run(tasks, models)


def _default() -> str:
    model = store.default()
    return model.name if model is not None else ""


def _open(name: str, progress: Report) -> tuple[Session, str]:
    if is_adapter(name):
        return open_adapter(name, progress)
    session = Session(loaded(name) or load(name, progress))
    return session, weights(session)
