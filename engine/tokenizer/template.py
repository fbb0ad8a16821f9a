"""Chat templates: jinja2 programs that come with a checkpoint, run as the untrusted code that they are.

The environment is the one templates are written for (transformers' `apply_chat_template`): blocks trimmed,
`raise_exception`, `strftime_now`, `tojson` without escapes, loop controls, a `generation` block that changes nothing.
The sandbox is immutable, and bounded in what it loops over, multiplies and prints. jinja2 is imported when the first
template is read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from engine.errors import ParameterError, TemplateError

if TYPE_CHECKING:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["ChatTemplate", "Message"]

Message = Mapping[
    str, Any
]  # {"role": ..., "content": ...}, and what else the template reads: tool_calls, reasoning_content, ...

MAX_CHARACTERS = 1 << 24  # of output; the longest contexts hold a tenth of it
MAX_ITERATIONS = 1 << 20  # of `range` in one rendering


@dataclass(frozen=True)
class ChatTemplate:
    """A template and the special tokens, by name, that it may read (`bos_token`, `eos_token`, ...)."""

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def render(
        self,
        messages: Sequence[Message],
        *,
        generation_prompt: bool,
        tools: Sequence[Any] | None = None,
        **options: Any,
    ) -> str:
        """The conversation as the text that the model was trained on.

        generation_prompt  end with the opening of the assistant's turn
        options            what else the template reads, such as `enable_thinking`

        Raises TemplateError where the template refuses, fails or reaches outside its sandbox, and ParameterError for an
        option that it does not read.
        """
        wanted = set(options) if tools is None else {*options, "tools"}
        if wanted and (unknown := sorted(wanted - self.variables)):
            reads = ", ".join(sorted(self.variables - _GIVEN)) or "no options"
            raise ParameterError(f"this model's chat template has no {unknown[0]!r}: it reads {reads}")
        values = {**self.tokens, "documents": None, **options, "messages": messages, "tools": tools}
        return self._run({**values, "add_generation_prompt": generation_prompt})

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names that the template reads from outside."""
        from jinja2 import meta

        environment = self._program.environment
        return frozenset(meta.find_undeclared_variables(environment.parse(self.source)) - environment.globals.keys())

    @cached_property
    def _program(self) -> "jinja2.Template":
        import jinja2

        try:
            return _environment().from_string(self.source)
        except (jinja2.TemplateError, RecursionError, MemoryError, ValueError) as error:
            raise TemplateError(
                f"the model's chat template cannot be read: {_line(error)}; talk to it without one (--raw)"
            ) from error

    def _run(self, values: Mapping[str, Any]) -> str:
        from jinja2.exceptions import SecurityError

        program = self._program
        parts, length = [], 0
        try:
            for part in program.generate({**values, "range": _Range()}):
                parts.append(part)
                length += len(part)
                if length > MAX_CHARACTERS:
                    raise SecurityError(f"it wrote more than {MAX_CHARACTERS} characters")
        except SecurityError as error:
            raise TemplateError(
                f"the model's chat template was stopped at the edge of its sandbox: {_line(error)}"
            ) from error
        except _refusal() as error:
            raise TemplateError(f"the model's chat template refuses this conversation: {_line(error)}") from error
        except Exception as error:  # a template is a program: it can raise anything
            what = f"{type(error).__name__}: {_line(error)}"
            raise TemplateError(f"the model's chat template failed: {what}; talk to it without one (--raw)") from error
        return "".join(parts)


# What every template may read and no caller passes.
_GIVEN = frozenset(("messages", "add_generation_prompt", "bos_token", "eos_token", "unk_token", "pad_token"))


class _Range:
    """`range` with a budget for a whole rendering: nested loops multiply, so that each one's own bound is none."""

    def __init__(self) -> None:
        self._left = MAX_ITERATIONS

    def __call__(self, *bounds: int) -> range:
        from jinja2.exceptions import SecurityError

        numbers = range(*bounds)
        self._left -= len(numbers)
        if self._left < 0:
            raise SecurityError(f"it looped more than {MAX_ITERATIONS} times")
        return numbers


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@cache
def _refusal() -> type[Exception]:
    import jinja2

    class Refusal(jinja2.TemplateError):
        """`raise_exception` was called."""

    return Refusal


@cache
def _environment() -> "ImmutableSandboxedEnvironment":
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}...{% endgeneration %}` marks what the assistant says; here it is its body alone."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Any) -> list[nodes.Node]:
            next(parser.stream)
            body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return body

    class Sandbox(ImmutableSandboxedEnvironment):
        """A sandbox in which no product or power is larger than what may be written."""

        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            sizes = [len(x) if hasattr(x, "__len__") else abs(x) for x in (left, right)]
            numbers = all(isinstance(x, int | float) for x in (left, right))
            if operator == "**" and (sizes[0] > MAX_CHARACTERS or sizes[1] > 64):
                raise SecurityError("it raised a number to a power without measure")
            if operator == "*" and not numbers and sizes[0] * sizes[1] > MAX_CHARACTERS:
                raise SecurityError(f"it repeated something into more than {MAX_CHARACTERS} items")
            return super().call_binop(context, operator, left, right)

    def raise_exception(message: str) -> None:
        raise _refusal()(message)

    def strftime_now(layout: str) -> str:
        return datetime.now().strftime(layout)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return environment
