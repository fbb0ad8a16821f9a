"""Type of an option that is a real number in a range."""

import math
from typing import Any

import click


class FloatRange(click.FloatRange):
    """A finite number in a range: click's own lets nan through, which no bound excludes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"takes a finite number, got {value}", param, ctx)
        return number
