"""Parameter of a transform: its slider, its flag and its switch, as the screen and the command line read them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number of a transform that a person sets.

    `off` is the value at which its transform is left out; None for a parameter of a transform that another one
    switches. `low`, `high` and `step` are the slider's; a transform may allow more.
    """

    name: str  # in dicts of values; the flag is the same with dashes
    label: str
    field: str
    low: float
    high: float
    step: float
    default: float
    off: float | None
    help: str
    whole: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")
