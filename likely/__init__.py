"""The package that all of the program stands in, and its API for Python: fifteen names (docs/api.md).

    import likely
    m = likely.load("smollm2")
    m.next("The capital of France is")

In a wheel the four folders are in this folder; in a clone they are one level up, and links in this folder lead to
them. This file runs before every other module of the program, so it imports nothing: it looks a name of the API up when
somebody asks for it (PEP 562).
"""

TYPE_CHECKING = False  # as typing's, which is not imported
if TYPE_CHECKING:
    from likely.chat import Chat
    from likely.comparison import Comparison, compare
    from likely.distribution import Distribution
    from likely.engine.base.errors import LikelyError
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.sampling.trace.step import TokenStep as Step
    from likely.inside import Inside
    from likely.language_model import Model, catalogue, load
    from likely.sampling import Sampling
    from likely.trace import Trace
    from likely.training import TrainingRun, tune

_PLACES = {
    "Chat": "likely.chat:Chat",
    "Comparison": "likely.comparison:Comparison",
    "Distribution": "likely.distribution:Distribution",
    "Inside": "likely.inside:Inside",
    "LikelyError": "likely.engine.base.errors:LikelyError",
    "Model": "likely.language_model:Model",
    "Sampling": "likely.sampling:Sampling",
    "Step": "likely.engine.sampling.trace.step:TokenStep",
    "Strategy": "likely.engine.decode.loop.strategy:Strategy",
    "Trace": "likely.trace:Trace",
    "TrainingRun": "likely.training:TrainingRun",
    "catalogue": "likely.language_model:catalogue",
    "compare": "likely.comparison:compare",
    "load": "likely.language_model:load",
    "tune": "likely.training:tune",
}

__all__ = [
    "Chat", "Comparison", "Distribution", "Inside", "LikelyError", "Model", "Sampling", "Step", "Strategy", "Trace",
    "TrainingRun", "catalogue", "compare", "load", "tune",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'likely' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _PLACES[name].partition(":")
    value: object = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__name__", "__path__"]
