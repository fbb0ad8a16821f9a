"""Tools, calls, results, and the law over which is called, as plain data. Knows no server, no template and no model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of a server: `name` is what the model calls it by, `own` what its server does. `schema` is the JSON schema
    of its arguments."""

    server: str
    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    own: str = ""

    @property
    def spec(self) -> dict[str, Any]:
        """The tool as chat templates read it: OpenAI's form."""
        parameters = dict(self.schema) or {"type": "object", "properties": {}}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call: the name that the model wrote, and the arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def function(self) -> dict[str, str]:
        """The call as clients of OpenAI read it: its arguments are JSON in a string."""
        return {"name": self.name, "arguments": json.dumps(self.arguments, ensure_ascii=False)}

    @property
    def message(self) -> dict[str, Any]:
        """The call as chat templates read it, in an assistant's message."""
        return {"id": "call00000", "type": "function", "function": {"name": self.name, "arguments": self.arguments}}

    def __str__(self) -> str:
        given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.arguments.items())
        return f"{self.name}({given})"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """Words that a call came to; `cut` bytes more were left out at the bound of size."""

    text: str
    is_error: bool = False
    cut: int = 0


@dataclass(frozen=True, slots=True)
class ToolDistribution:
    """Probabilities: that each tool is called, by its name; that a call begins which is none of these as the template
    writes them; that none begins here; and what was left undecided. They add up to 1."""

    tools: tuple[tuple[str, float], ...]
    other: float
    none: float
    undecided: float
    passes: int

    @property
    def among_tools(self) -> "ToolDistribution":
        """The law where a grammar lets nothing follow but one of the tools."""
        total = sum(p for _, p in self.tools) + self.undecided
        tools = tuple((name, p / total if total else 0.0) for name, p in self.tools)
        return ToolDistribution(tools, 0.0, 0.0, self.undecided / total if total else 1.0, self.passes)

    def either(self, law: "ToolDistribution") -> "ToolDistribution":
        """The law where a call begins in one of two ways, that of `law` the other."""
        more = dict(law.tools)
        tools = tuple((name, p + more[name]) for name, p in self.tools)
        none, undecided = max(0.0, self.none + law.none - 1.0), self.undecided + law.undecided
        return ToolDistribution(tools, self.other + law.other, none, undecided, self.passes + law.passes)

    def as_dict(self) -> dict[str, Any]:
        rest = {"other_call": self.other, "no_call": self.none, "undecided": self.undecided}
        return {"tools": dict(self.tools), **rest}
