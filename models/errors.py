"""Errors of a model's configuration, files and caches. Imports no mlx."""

from likely.metal.errors import LikelyError


class CheckpointError(LikelyError):
    """A model that cannot be found, fetched, verified or loaded."""


class ConfigError(CheckpointError):
    """A configuration that is incomplete, contradicts itself or asks for what no family here knows."""


class CacheError(LikelyError):
    """A cache asked for what its kind cannot do, or a file of one that belongs to something else."""


class ContextOverflow(LikelyError):
    """More tokens than the model has positions for."""
