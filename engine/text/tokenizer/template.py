"""Chat templates: programs that come with a checkpoint and write a conversation as its model was trained on it.

They are untrusted code, and run in `engine.sandbox.environment`: those that are known by their text here, all others
in a process that can be ended (`engine.sandbox.process`). Both are imported when the first template is read. What a
known one writes of plain messages is written here without it: the language of templates takes longer to be imported
than a question to be read.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import ParameterError, TemplateError
from likely.engine.text.tokenizer.message_fields import Message, as_read

if TYPE_CHECKING:
    import jinja2

    from likely.engine.base.sandbox.environment import Sandbox

__all__ = ["ChatTemplate", "Message"]

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
        """The conversation as text. A message is {"role": ..., "content": ...}, and what else templates read, as this
        one reads it (`engine.tokenizer.message_fields`).

        generation_prompt  end with the opening of the assistant's turn
        options            what else the template reads, such as `enable_thinking`

        Raises TemplateError where the template refuses, fails or reaches outside its sandbox, and ParameterError for an
        option that it does not read.
        """
        wanted = set(options) if tools is None else {*options, "tools"}
        if wanted and (unknown := sorted(wanted - self.variables)):
            reads = ", ".join(sorted(self.variables - _GIVEN)) or "no options"
            raise ParameterError(f"this model's chat template has no {unknown[0]!r}: it reads {reads}")
        read = as_read(messages, self.source)
        values = {**self.tokens, "documents": None, **options, "messages": read, "tools": tools}
        return self._run({**values, "add_generation_prompt": generation_prompt})

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names that the template reads from outside."""
        if self.known:
            return self._program[0].reads(self.source)
        return frozenset(map(str, self._reply(None)["reads"]))

    @cached_property
    def known(self) -> "Callable[[Sequence[Message], bool], str] | None":
        """The text of messages whose role and content are words, of a template that somebody has read."""
        return KNOWN.get(hashlib.sha256(self.source.encode(errors="surrogatepass")).hexdigest())

    @cached_property
    def _program(self) -> "tuple[Sandbox, jinja2.Template]":
        from likely.engine.base.sandbox.environment import Sandbox

        sandbox = Sandbox()
        return sandbox, sandbox.from_string(self.source)

    def _run(self, values: Mapping[str, Any]) -> str:
        if self.known is not None:
            messages = values["messages"]
            if all(isinstance(message.get(part), str) for message in messages for part in ("role", "content")):
                return self.known(messages, values["add_generation_prompt"])
            sandbox, program = self._program
            return sandbox.run(program, values)
        return str(self._reply({**values, "messages": [dict(message) for message in values["messages"]]})["text"])

    def _reply(self, values: dict[str, Any] | None) -> dict[str, Any]:
        """The answer of the process that runs it, or TemplateError."""
        from likely.engine.base.sandbox.process import ChildStopped, NotBegun, ask

        try:
            reply = ask(self.source, values)
        except ChildStopped as error:
            raise TemplateError(f"{_STOPPED}: {error}; {_INSTEAD}") from None
        except NotBegun as error:
            raise TemplateError(f"the model's chat template cannot be run: {error}; {_INSTEAD}") from None
        how, line, kind = (str(reply.get(name, "")) for name in ("failed", "line", "kind"))
        match how:
            case "":
                return reply
            case "unreadable":
                raise TemplateError(f"the model's chat template cannot be read: {line or kind}; {_INSTEAD}")
            case "refuses":
                raise TemplateError(f"the model's chat template refuses this conversation: {line or kind}")
            case "stopped":
                raise TemplateError(f"{_STOPPED}: {line or kind}; {_INSTEAD}")
        raise TemplateError(f"the model's chat template failed: {kind}: {line or kind}; {_INSTEAD}")


_STOPPED = "the model's chat template was stopped at the edge of its sandbox"
_INSTEAD = "talk to the model without it (--raw)"


def _smollm2(messages: Sequence[Message], generation_prompt: bool) -> str:
    said = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    if messages and messages[0]["role"] != "system":
        said.insert(0, f"<|im_start|>system\n{SMOLLM2_SYSTEM}<|im_end|>\n")
    return "".join(said) + ("<|im_start|>assistant\n" if generation_prompt else "")


SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
# by SHA-256, templates whose loops are over messages and whose texts only grow by them: those of the models by name
KNOWN = {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788": _smollm2}
