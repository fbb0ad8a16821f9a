"""Handlers are found by Textual by name alone: one whose message was renamed is never called, and nobody says so."""

import importlib
import pkgutil
from collections.abc import Iterator

from textual.message import Message

import likely.app.tui as tui


def below(kind: type) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def test_every_handler_has_a_message() -> None:
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(tui.__path__, f"{tui.__name__}.")]
    known = {getattr(kind, "handler_name", "") for kind in below(Message)}
    classes = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    handlers = {
        (kind.__qualname__, name)
        for kind in classes
        if kind.__module__.startswith(tui.__name__)
        for name in vars(kind)
        if name.startswith("on_")
    }
    assert len(handlers) > 50 and {name for _, name in handlers} <= known, [it for it in handlers if it[1] not in known]
