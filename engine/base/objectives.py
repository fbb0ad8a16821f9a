"""Objectives: the one table of what a training makes small, of which rows, in which unit, and beside what.

A new one is an entry here, with its loss where that is not -log p itself. Plain data: losses are computed by the array
namespace that they are given. Knows neither models nor batches (`engine.tune.batch_losses`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from likely.engine.base.arrays import Array, Namespace


@dataclass(frozen=True, slots=True)
class Pairs:
    """Log-probabilities [2, n] of the chosen answers, then of the rejected ones, each summed over its tokens; nats."""

    policy: Array
    reference: Array | None  # by the model as it was, where the objective asks for it
    tokens: Array  # of each answer


PairLoss = Callable[[Pairs, float, Namespace], tuple[Array, Array]]  # with beta: losses [n], and margins [n] to be > 0


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss, and what it is of. Losses are in nats: of a token, or of a pair."""

    name: str
    reference: bool = False  # reads with the model as it was, too
    bound: bool = False  # of masked diffusion: the loss is a bound on -log p, by random masks
    blocks: bool = False  # by blocks, each of which sees those before as they are
    options: tuple[str, ...] = ()  # that go with it, and not with every other
    of_pairs: PairLoss | None = None  # of rows with chosen and rejected; without, it is -log p of rows of text
    drawn: bool = False  # of answers that the model draws, each by its reward (`engine.rewards`)

    @property
    def unit(self) -> str:
        """Unit that its loss is counted by."""
        return "answer" if self.drawn else "token" if self.of_pairs is None else "pair"


def dpo(pairs: Pairs, beta: float, xp: Namespace) -> tuple[Array, Array]:
    """-log sigmoid(beta margin), the margin by the reference's (arXiv:2305.18290, eq. 7)."""
    assert pairs.reference is not None
    margin = (pairs.policy[0] - pairs.policy[1]) - (pairs.reference[0] - pairs.reference[1])
    return _softplus(-beta * margin, xp), margin


def orpo(pairs: Pairs, beta: float, xp: Namespace) -> tuple[Array, Array]:
    """-log p of a token of the chosen answer, and beta times -log sigmoid of the log odds ratio
    (arXiv:2403.07691, eq. 6-7)."""
    mean = pairs.policy / pairs.tokens
    certain = xp.minimum(mean, -1e-6)  # p = 1 has no odds
    odds = certain - xp.log(-xp.expm1(certain))
    return -mean[0] + beta * _softplus(-(odds[0] - odds[1]), xp), mean[0] - mean[1]


def _softplus(x: Array, xp: Namespace) -> Array:
    return xp.logaddexp(x, xp.zeros_like(x))


OF_REWARDS = (
    "kl", "answers", "tokens", "advantage", "share", "reuse", "verifier", "timeout", "look_first", "eval_answers",
    "expert",
)  # fmt: skip
OBJECTIVES: tuple[Objective, ...] = (
    Objective("sft", options=("kl", "kl_data", "rehearsal", "reword", "label_smoothing")),
    Objective("mdlm", bound=True, options=("anneal",)),
    Objective("block", bound=True, blocks=True),
    Objective("dpo", reference=True, options=("beta",), of_pairs=dpo),
    Objective("orpo", options=("beta",), of_pairs=orpo),
    Objective(
        "reward",
        options=OF_REWARDS,
        drawn=True,
    ),
)
NAMES = tuple(objective.name for objective in OBJECTIVES)
OF_PAIRS = tuple(objective.name for objective in OBJECTIVES if objective.of_pairs is not None)
# a pretraining's words
FROM_NOTHING = {
    "autoregressive": "sft",
    **{objective.name: objective.name for objective in OBJECTIVES if objective.bound},
}


def of(name: str) -> Objective:
    """The objective of that name, by a pretraining's words too."""
    return next(objective for objective in OBJECTIVES if objective.name == FROM_NOTHING.get(name, name))


def with_option(option: str) -> Sequence[str]:
    """Names of the objectives that an option goes with."""
    return [objective.name for objective in OBJECTIVES if option in objective.options]
