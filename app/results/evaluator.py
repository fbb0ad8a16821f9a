"""Evaluator: models asked one after another, each all tasks, and every item's result kept as it comes.

What the verb and the screen's worker share. A model is opened when its turn comes and let go after it.
"""

import time
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from likely.app.results.task_sources import TaskSource, TextFile
from likely.app.store.evaluations import Evaluation, Evaluations, asked_of
from likely.engine.base import distributed
from likely.engine.base.errors import ParameterError
from likely.engine.base.files import artifacts
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import parse
from likely.engine.measure.evaluate import evaluation
from likely.engine.measure.evaluate.scoring.protocol import Protocol, diffuses
from likely.engine.measure.evaluate.tasks.conditional import JUDGE, JudgedPair, RestatedText
from likely.engine.measure.evaluate.tasks.spread import spread
from likely.engine.measure.evaluate.tasks.task_files import digest
from likely.engine.measure.evaluate.tasks.tasks import Outcome, Problem, Question, Result, Task
from likely.engine.train.tuned_models import open_model
from likely.engine.weights.adapters.stored import CONFIG
from likely.engine.weights.sources.fetch.progress import Report

KEEP_S = 1.0  # results are written that often

Opener = Callable[[str], tuple[Session, str]]  # a model's name -> a session, and what its weights are known by


@dataclass(frozen=True)
class Evaluator:
    """Settings of a run: how items are asked, and where their results go."""

    store: Evaluations
    open: Opener
    protocol: Protocol
    limit: int | None = None
    fresh: bool = False  # measure again what is known
    command: Sequence[str] = ()  # to measure it again
    counts: bool = True  # items are counted before they are asked, which reads a task's file once more
    adapters: Sequence[tuple[str, float]] = ()  # (folder, weight) that `open` puts on a model, to find them again

    def run(self, sources: Sequence[TaskSource], models: Sequence[str]) -> Generator[Evaluation | Outcome]:
        """An `Evaluation` at the beginning of each task by each model, then its items' outcomes.

        Closing it, or whatever is raised in it, keeps what came until then.
        """
        some = False
        for i, model in enumerate(models, 1):
            session, identity = self.open(model)
            some = some or diffuses(session)
            if self.protocol.draws and not some and i == len(models):
                raise ParameterError("--draws is of diffusion models, and none of these is one: leave it out")
            rounding = session.checkpoint.precision.rounding
            # what measures is the model with these
            on = [*(adapter.rpartition(" ")[0] for adapter in session.adapters), *filter(None, [rounding])]
            base = model or session.info.name
            for source in sources:
                if self.adapters or rounding:
                    source = replace(source, place={**source.place, "model": base, "adapters": self.adapters})
                yield from self._one(session, " + ".join([base, *on]), identity, source)
            del session

    def _one(
        self, session: Session, name: str, identity: str, task_source: TaskSource
    ) -> Iterator[Evaluation | Outcome]:
        source, protocol = task_source.source, self.protocol.of_model(session)
        text = source.read() if isinstance(source, TextFile) else None
        if text is not None:
            seed = protocol.seed if protocol.paths or protocol.draws else 0
            whole = not protocol.draws
            protocol = replace(protocol, strategy="", samples=1, temperature=0.0, seed=seed, unconditional=whole)
        strategy = parse(protocol.strategy)
        if strategy.SEARCHES and protocol.samples == 1:  # several are refused where they are asked for
            strategy = strategy.best(1)
            protocol = replace(protocol, strategy=str(strategy))
        form = source.form.NAME if isinstance(source, Task) else "text"
        token = protocol.token(session.tokenizer)
        settings = asked_of(protocol, form=form, source=source.identity, weights=identity, prefix_token=token,
                         likely=version("likely"))  # fmt: skip
        aside = source.aside if isinstance(source, Task) else 0
        below = None if self.limit is None else self.limit + aside
        begun = Evaluation(
            source.name, name, settings, self.command, task_source.place, _shown_protocol(settings, source), below
        )

        def ask(done: Container[int]) -> Iterator[Outcome]:
            if text is not None:
                return evaluation.document(session, text, protocol, done=done, limit=self.limit)
            assert isinstance(source, Task)
            bound = strategy.bind({}, session.tokenizer)
            return evaluation.evaluate(session, source, protocol, strategy=bound, done=done, limit=self.limit)

        together = distributed.joined()
        if together is not None and not together.leads:
            yield from spread(together, begun.id, set(), ask)
            return
        known = self.store.begin(begun, fresh=self.fresh)
        yield replace(begun, known=len(known), total=self._total(source))
        yield from self._kept(begun, ask(known) if together is None else spread(together, begun.id, known, ask))

    def _kept(self, begun: Evaluation, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        rows: list[Result] = []
        problems: list[Problem] = []

        def write() -> None:
            self.store.keep(begun, rows, problems)
            rows.clear()
            problems.clear()

        last = time.monotonic()
        try:
            for outcome in outcomes:
                if isinstance(outcome, Problem):
                    problems.append(outcome)
                else:
                    rows.append(outcome)
                if time.monotonic() - last >= KEEP_S:
                    write()
                    last = time.monotonic()
                yield outcome
        finally:
            write()

    def _total(self, source: Task | TextFile) -> int:
        """Items; 0 where nobody looks, or it is not known before."""
        if not self.counts or isinstance(source, TextFile):
            return 0
        count = sum(1 for _ in source.rows()) - source.aside
        return count if self.limit is None else min(count, self.limit)


def _shown_protocol(settings: Mapping[str, Any], source: Task | TextFile) -> dict[str, Any]:
    """The protocol as far as the items of a form depend on it."""
    drawn = ("strategy", "samples", "temperature", "seed")
    read = ("window", "stride", "paths")
    form, protocol = settings["form"], settings["protocol"]
    names = {"questions": drawn, "text": read, "documents": read}.get(form, ())
    shown = {"form": form, **{name: protocol[name] for name in ("chat", *names)}}
    if form == Question.NAME and parse(protocol["strategy"]).SEARCHES:
        shown["answers"] = "the best text that the search finds, one a question"
    if protocol.get("draws"):
        shown |= {"likelihoods": "bounds", "draws": protocol["draws"], "seed": protocol["seed"]}
    shown |= {"prefix_token": settings["prefix_token"], "likely": settings["likely"]}
    if isinstance(source, Task):
        own = {"shots": source.settings.shots, "cluster": source.settings.cluster}
        shown |= {name: value for name, value in own.items() if value}
        if source.entropy is not None:
            shown["entropy"] = source.entropy  # nats a symbol, which no model can be below but by luck
        shown |= {"about": source.about} if source.about else {}
        if form == JudgedPair.NAME:
            shown["judge"] = source.settings.judge or JUDGE
        if form == RestatedText.NAME:
            shown["embedding"] = "mean-pooled last hidden states of this model"
    else:
        shown["items"] = "windows"
    return shown


def weights(session: Session) -> str:
    """The weights and how they are computed with: packed weights and the graph differ by rounding."""
    rounding = session.checkpoint.precision.rounding
    computed = f"{type(session.model).__name__} {getattr(session.model, 'dtype', '')}"
    return " ".join([session.info.weights, computed, *filter(None, [rounding])])


def is_adapter(name: str) -> bool:
    """Whether a model is named by an adapter's folder."""
    return bool(name) and (artifacts.place(name) / CONFIG).exists()


def open_adapter(name: str, progress: Report, activation_bits: int | None = None) -> tuple[Session, str]:
    """A session on an adapter's folder, over the model that it was trained on, and what its weights are known by.

    `activation_bits` as `engine.sources.checkpoint.load` has them.
    """
    checkpoint = open_model(name, progress)
    session = Session(checkpoint if activation_bits is None else checkpoint.with_activations(activation_bits))
    return session, f"{weights(session)} {files(artifacts.place(name))}"


def files(folder: Path) -> str:
    """Identity of an adapter's folder."""
    return digest(*sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors")))
