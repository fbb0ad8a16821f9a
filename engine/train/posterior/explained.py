"""Explained text under a posterior: uncertainty at every token, of its candidates, and of continuations that are named.

One pass over the text with all samples as rows of a batch; of a Laplace posterior also the choices' Gaussian.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.sampling.trace.step import TokenStep
from likely.engine.train.posterior.averaged import AveragedModel, UncertainText
from likely.engine.train.posterior.choices import ChoiceLogits, choice_logits
from likely.engine.train.posterior.posterior import Laplace
from likely.engine.train.posterior.uncertainty import Uncertainty


@dataclass(frozen=True, eq=False, slots=True)
class ExplainedUncertainty:
    """The uncertainty of each step, None where nothing precedes it; of each continuation the log-probability by each
    sample [M]; of two or more, where the posterior is Laplace's, `choices`. `partings` are the first place of an
    answer where each sample's likeliest token is another, and that token; None of a sample that says the same.
    `elapsed_s` is what all of it took."""

    kind: str
    samples: int
    elapsed_s: float
    tokens: tuple[Uncertainty | None, ...]
    named: tuple[np.ndarray, ...]
    choices: ChoiceLogits | None
    partings: tuple[tuple[int, int] | None, ...] = ()

    @property
    def agree(self) -> float:
        """The share of the samples whose likeliest answer is the one that was explained."""
        return sum(parting is None for parting in self.partings) / self.samples

    def spread_of(self, index: int) -> float:
        """The standard deviation of a continuation's probability over the samples."""
        return float(np.exp(self.named[index]).std(ddof=1))


def uncertainties(
    averaged: AveragedModel,
    steps: Sequence[TokenStep],
    named: Sequence[Sequence[TokenStep]],
    top: int,
    prompt: Sequence[int] = (),
) -> ExplainedUncertainty:
    """Uncertainties of a text's steps, with `top` candidates each, and of continuations after it; of an answer's to a
    prompt, and of other answers."""
    began, ids = time.perf_counter(), [*prompt, *(step.token for step in steps)]
    before = prompt or ids
    text = UncertainText(averaged)
    for _ in text.read(ids):
        pass
    shown = [[] if s.snapshot is None else s.snapshot.ids[:top].tolist() for s in steps]
    if prompt:
        by_token: list[Uncertainty | None] = [*text.after(len(prompt) - 1, len(ids) - 1, shown)]
        partings = text.partings(len(prompt))
    else:
        by_token, partings = [None, *text.after(0, len(ids) - 1, shown[1:])], []
    choices, logprobs = [[step.token for step in continuation] for continuation in named], []
    for choice in choices:
        for _ in text.read([*before, *choice]):
            pass
        logprobs.append(text.logprobs(len(before)))
    gaussian = None
    if len(choices) > 1 and isinstance(averaged.posterior, Laplace):
        gaussian = choice_logits(averaged.model, averaged.adapter, averaged.posterior, before, choices)
    return ExplainedUncertainty(
        averaged.posterior.KIND,
        averaged.samples,
        time.perf_counter() - began,
        tuple(by_token),
        tuple(logprobs),
        gaussian,
        tuple(partings),
    )
