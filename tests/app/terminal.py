"""A terminal of some width that shows colours, to write to in a test."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import pytest


@contextmanager
def coloured(monkeypatch: pytest.MonkeyPatch, columns: int) -> Iterator[None]:
    """As on a dark terminal of so many columns that shows all colours: what is written to no terminal has none."""
    for name, value in (("COLUMNS", str(columns)), ("FORCE_COLOR", "1"), ("LIKELY_THEME", "dark")):
        monkeypatch.setenv(name, value)
    with click.Context(click.Command("likely")) as ctx:
        ctx.color = True
        yield
