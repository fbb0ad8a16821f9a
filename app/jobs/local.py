"""Makers of what works on this machine: models, a trainer, an evaluator. Imports no mlx before they are asked."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likely.app.jobs.evaluation_jobs import RunEvaluator
    from likely.app.jobs.jobs import ModelProvider, Trainer


def local_models(activation_bits: int | None = None, context: int | None = None) -> "ModelProvider":
    """The models of this machine, with activations of so many bits and texts of at most so many tokens. Imports mlx:
    called in the engine's thread."""
    from likely.app.jobs.model_provider import LocalModelProvider

    return LocalModelProvider(activation_bits, context)


def local_trainer() -> "Trainer":
    """A trainer on this machine. Imports mlx: called in a training's thread."""
    from likely.app.jobs.local_trainer import LocalTrainer

    return LocalTrainer()


def local_evaluator() -> "RunEvaluator":
    """An evaluator on this machine. Imports mlx: called in its own thread."""
    from likely.app.jobs.local_evaluator import LocalEvaluator

    return LocalEvaluator()
