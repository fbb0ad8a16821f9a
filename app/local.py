"""Makers of what works on this machine: models, a trainer, an evaluator. Imports no mlx before they are asked."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likely.app.evaluation_jobs import RunEvaluator
    from likely.app.jobs import ModelProvider, Trainer


def local_models() -> "ModelProvider":
    """The models of this machine. Called in the engine's thread: everything of mlx hangs on this import."""
    from likely.app.model_provider import LocalModelProvider

    return LocalModelProvider()


def local_trainer() -> "Trainer":
    """A trainer on this machine. Called in a training's thread: everything of mlx hangs on this import."""
    from likely.app.local_trainer import LocalTrainer

    return LocalTrainer()


def local_evaluator() -> "RunEvaluator":
    """An evaluator on this machine. Called in its own thread: everything of mlx hangs on this import."""
    from likely.app.local_evaluator import LocalEvaluator

    return LocalEvaluator()
