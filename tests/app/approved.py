"""Long texts that a verb or a report writes, beside ones that were looked at.

After a change that is meant: `LIKELY_PICTURES=write pytest tests/app`, then look at the difference.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

PICTURES = Path(__file__).with_name("pictures")


def same(name: str, text: str) -> None:
    """The text is that of the file, to the last character."""
    path = PICTURES / name
    if os.environ.get("LIKELY_PICTURES") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    wanted = path.read_text(encoding="utf-8")
    assert text.splitlines() == wanted.splitlines(), f"{name} reads differently"
    assert text == wanted


@contextmanager
def coloured(monkeypatch: pytest.MonkeyPatch, columns: int) -> Iterator[None]:
    """As on a dark terminal of so many columns that shows all colours: what is written to no terminal has none."""
    for name, value in (("COLUMNS", str(columns)), ("FORCE_COLOR", "1"), ("LIKELY_THEME", "dark")):
        monkeypatch.setenv(name, value)
    with click.Context(click.Command("likely")) as ctx:
        ctx.color = True
        yield
