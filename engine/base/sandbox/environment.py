"""The environment that chat templates are written for, as a place that untrusted programs can be run in.

It is that of transformers' `apply_chat_template`: blocks trimmed, `raise_exception`, `strftime_now`, `tojson` without
escapes, loop controls, a `generation` block that changes nothing. jinja2's immutable sandbox keeps templates from
Python; here they are also kept from running or growing without end. Importing this imports jinja2.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["Refusal", "Sandbox", "SecurityError"]

MAX_SIZE = 1 << 24  # characters written, items repeated, any number passed to a call: ten times the longest contexts
MAX_STEPS = 1 << 18  # of `range`, and calls


class Refusal(TemplateError):
    """The template called `raise_exception`."""


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks what an assistant says; here it is its body alone."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for one template, run in one thread at a time."""

    intercepted_binops = frozenset(("*", "**"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.filters["tojson"] = _tojson
        self.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now, range=self._range)
        self._budget = 0

    def run(self, template: Template, values: Mapping[str, Any]) -> str:
        """The template's text. Raises Refusal, SecurityError, or whatever the template makes Python raise."""
        self._budget = MAX_STEPS
        return "".join(self._bounded(template.generate(values)))

    def reads(self, source: str) -> frozenset[str]:
        """The names that a template reads from outside."""
        return frozenset(meta.find_undeclared_variables(self.parse(source)) - self.globals.keys())

    def _bounded(self, parts: Iterator[str]) -> Iterator[str]:
        size = 0
        for part in parts:
            size += len(part)
            if size > MAX_SIZE:
                raise SecurityError(f"it wrote more than {MAX_SIZE} characters")
            yield part

    def _spend(self, steps: int) -> None:
        self._budget -= steps
        if self._budget < 0:
            raise SecurityError(f"it took more than {MAX_STEPS} steps")

    def _range(self, *bounds: int) -> range:
        # One loop's bound is no bound: nested loops multiply.
        numbers = range(*bounds)
        self._spend(len(numbers))
        return numbers

    def call(self, context: Any, obj: Any, /, *args: Any, **options: Any) -> Any:
        self._spend(1)
        if any(isinstance(value, int) and value > MAX_SIZE for value in (*args, *options.values())):
            raise SecurityError(f"it asked for something of more than {MAX_SIZE} items")
        return super().call(context, obj, *args, **options)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(x) if hasattr(x, "__len__") else abs(x) for x in (left, right)]
        repeated = any(hasattr(x, "__len__") for x in (left, right))
        if operator == "**" and (sizes[0] > MAX_SIZE or sizes[1] > 64):
            raise SecurityError("it raised a number to a power without measure")
        if operator == "*" and repeated and sizes[0] * sizes[1] > MAX_SIZE:
            raise SecurityError(f"it repeated something into more than {MAX_SIZE} items")
        return super().call_binop(context, operator, left, right)


def _raise_exception(message: str) -> None:
    raise Refusal(message)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
