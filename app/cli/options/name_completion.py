"""Completion of names in a shell: models and adapters that are here, and what can be fetched. A path is completed as a
path, and so is a word that no name begins with.
"""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models that are here."""
    return _offered(_models, incomplete)


def adapters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Adapters that were made here."""
    return _offered(_adapters, incomplete)


def both(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models and adapters that are here."""
    return _offered(lambda: [*_models(), *_adapters()], incomplete)


def known(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Short names of the catalogue."""
    from likely.engine.weights.sources.fetch import catalogue

    return _offered(lambda: catalogue.KNOWN, incomplete)


def _offered(names: Callable[[], Iterable[str]], incomplete: str) -> list[CompletionItem]:
    from shlex import quote

    found = [] if incomplete.startswith(("/", ".", "~")) else [n for n in names() if n.startswith(incomplete)]
    return [CompletionItem(quote(name)) for name in found] or [CompletionItem(incomplete, type="file")]


def _models() -> list[str]:
    from likely.engine.weights.sources import store

    return [info.name for info in store.list()]


def _adapters() -> list[str]:
    from likely.engine.base.files import artifacts

    return [one.name for one in artifacts.all() if one.kind == artifacts.ADAPTER and one.there]
