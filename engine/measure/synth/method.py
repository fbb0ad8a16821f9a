"""`RowMethod`: what every method of making rows offers: jobs by their numbers, each with rows that follow from the
seed, the job and the rows before it alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zlib import crc32

from likely.engine.base.errors import ParameterError
from likely.engine.measure.reason.paths import ReasoningPath
from likely.engine.measure.synth.config import GenerateOptions, PipelineConfig
from likely.engine.measure.synth.row import RowSource, SynthRow
from likely.engine.measure.synth.writer import Writer
from likely.engine.sampling.presets import OFF, values

LONG = "generate: longer than max_tokens"


@dataclass
class RowMethod(ABC):
    """A method on the inputs of a pipeline. `writer` is None for one that draws nothing."""

    config: PipelineConfig
    writer: Writer | None = None

    @property
    def options(self) -> GenerateOptions:
        return self.config.generate

    @property
    @abstractmethod
    def jobs(self) -> int:
        """How many jobs the method has."""

    @property
    def identity(self) -> str:
        """A fingerprint of the inputs: different inputs have another."""
        return ""

    @abstractmethod
    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        """The rows of a job, where these were made before it."""

    def remarks(self, rows: Sequence[SynthRow]) -> Iterator[str]:
        """Lines about how the rows were made that a person should know."""
        return iter(())

    @property
    def draws(self) -> Writer:
        if self.writer is None:
            raise ParameterError(f"{self.options.method} draws, so it needs a model")
        return self.writer

    def seed(self, job: int, phase: int = 0) -> int:
        """The seed of a job's draws: branch b draws with this + b."""
        return crc32(f"{self.config.seed} {job} {phase}".encode()) >> 1

    @cached_property
    def recipe(self) -> dict[str, float]:
        return {} if self.writer is None else {k: v for k, v in values(self.writer.recipe).items() if v != OFF[k]}

    def row(
        self,
        content: Mapping[str, Any],
        job: int,
        branch: int,
        parent: str,
        *,
        seed: int | None = None,
        path: ReasoningPath | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> SynthRow:
        """A row and where it came from; of one that was drawn also the mean log-probability of its tokens, in nats."""
        options, model = self.options, ""
        if self.writer is not None:
            model = " + ".join([options.model or self.writer.session.info.name, *options.adapters])
        seed = self.seed(job) + branch if seed is None else seed
        source = RowSource(
            options.method, job, branch, seed, parent, model, options.strategy, self.recipe, attributes or {}
        )
        row = SynthRow(content, source)
        if path is None:
            return row
        row = row.scored(logprob=path.logprob / max(path.tokens, 1), tokens=path.tokens)
        return row.out(LONG) if path.finish == "length" else row
