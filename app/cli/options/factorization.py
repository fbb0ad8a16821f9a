"""Factorisation of a model: options of drawing from left to right or by diffusion, each refused by name for the other.

Which way a model has is known when it is loaded. Knows nothing of what options do.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.unmasking import Unmasking

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

UNMASKING = tuple(f.name for f in fields(Unmasking))
SEARCHES = (
    *("beam", "length_penalty", "early_stopping", "groups", "diversity"),
    *("stochastic_beam", "exact_mode", "budget"),
)
LEFT_TO_RIGHT = (  # options of `run` that have no meaning, or none yet, where tokens come in any order
    *("strategy", "draft_model", "ngram", "prefix_cache", "kv_bits", "kv_budget", "activation_bits", "parallel"),
    *SEARCHES,
    *("regex", "json_schema", "choice", "answers", "resample"),
)


def unmasking(values: Mapping[str, Any]) -> Unmasking:
    """The options of unmasking among the values of a verb; ParameterError where they contradict each other."""
    return Unmasking(**{name: values[name] for name in UNMASKING if values[name] is not None}).checked()


def is_diffusion(session: "Session", flags: Collection[str]) -> bool:
    """Whether the session's model is a diffusion model; ParameterError for one of `flags`, by parameter name, that
    is of the other kind of model, and where several processes share it."""
    name, of_diffusion = session.info.name, getattr(session.model.config, "diffusion", None) is not None
    for option in LEFT_TO_RIGHT if of_diffusion else UNMASKING:
        if option in flags:
            flag = f"--{option.replace('_', '-')}"
            raise ParameterError(
                f"{flag} is of drawing from left to right, and {name} is a diffusion model: leave it out"
                if of_diffusion
                else f"{flag} is of diffusion models, and {name} is autoregressive: leave it out"
            )
    if of_diffusion and session.ranks is not None:
        raise ParameterError(f"{name} is a diffusion model, which one process runs: start it without mlx.launch")
    return of_diffusion
