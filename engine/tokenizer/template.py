"""Chat templates: programs that come with a checkpoint and write a conversation as its model was trained on it.

They are untrusted code, and run in `engine.tokenizer.sandbox`, which is imported when the first template is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engine.errors import ParameterError, TemplateError

if TYPE_CHECKING:
    import jinja2

    from engine.tokenizer.sandbox import Sandbox

__all__ = ["ChatTemplate", "Message"]

# {"role": ..., "content": ...}, and what else the template reads: tool_calls, reasoning_content, ...
Message = Mapping[str, Any]

# What templates may read that is no option.
_GIVEN = frozenset(("messages", "add_generation_prompt", "bos_token", "eos_token", "unk_token", "pad_token"))


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
        """The conversation as text.

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
        return self._program[0].reads(self.source)

    @cached_property
    def _program(self) -> "tuple[Sandbox, jinja2.Template]":
        from engine.tokenizer.sandbox import Sandbox

        sandbox = Sandbox()
        try:
            return sandbox, sandbox.from_string(self.source)
        except Exception as error:  # compiling what strangers wrote: syntax, depth, size, Python's own limits
            raise TemplateError(f"the model's chat template cannot be read: {_line(error)}; {_INSTEAD}") from error

    def _run(self, values: Mapping[str, Any]) -> str:
        sandbox, program = self._program
        from engine.tokenizer.sandbox import Refusal, SecurityError

        try:
            return sandbox.run(program, values)
        except Refusal as error:
            raise TemplateError(f"the model's chat template refuses this conversation: {_line(error)}") from error
        except SecurityError as error:
            line = f"the model's chat template was stopped at the edge of its sandbox: {_line(error)}; {_INSTEAD}"
            raise TemplateError(line) from error
        except Exception as error:  # a program can raise anything
            line = f"the model's chat template failed: {type(error).__name__}: {_line(error)}; {_INSTEAD}"
            raise TemplateError(line) from error


_INSTEAD = "talk to the model without it (--raw)"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
