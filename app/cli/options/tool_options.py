"""Options of tools that an answer may call: servers, names, and how many calls are made without a question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options.table_options import options
from likely.app.tools.consent import MAX_CALLS
from likely.engine.base.errors import ParameterError

if TYPE_CHECKING:
    from likely.engine.chat.tools.tool import Tool

tool_options = options(
    click.option("--tools", "servers", multiple=True, metavar="FILE",
                 help="Tool servers: a file with mcpServers, `calculator`, or `folder:DIRECTORY`; repeatable. Default: "
                 "mcp.json in likely's folder."),
    click.option("--tool", "tools", multiple=True, metavar="NAME",
                 help="Offer this tool to the model, or `all`; repeatable. Default with --tools: all."),
    click.option("--yes", "allowed", multiple=True, metavar="NAME",
                 help="Have this tool called without a question; repeatable."),
    click.option("--max-calls", type=click.IntRange(0), help=f"End after so many calls. Default: {MAX_CALLS}."),
    click.option("--law", is_flag=True,
                 help="Say how likely each tool was to be called, and none, where the model chose."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ToolsAsked:
    """Servers and names of tools that the options ask for, those that are called without a question, and how many calls
    at most."""

    servers: tuple[str, ...]
    names: tuple[str, ...]
    allowed: tuple[str, ...]
    max_calls: int
    law: bool

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "ToolsAsked | None":
        """None where no tools are asked for."""
        servers, names = values["servers"], values["tools"]
        if not servers and not names:
            return None
        most = MAX_CALLS if values["max_calls"] is None else values["max_calls"]
        return cls(servers, names or ("all",), values["allowed"], most, values["law"])

    def chosen(self, offered: "Sequence[Tool]") -> "tuple[Tool, ...]":
        """The tools that the model is told of. ParameterError for a name that there is not."""
        known = {tool.name for tool in offered}
        if missing := [name for name in (*self.names, *self.allowed) if name != "all" and name not in known]:
            raise ParameterError(f"there is no tool {missing[0]}: {', '.join(sorted(known)) or 'none'} can be offered")
        if not offered:
            raise ParameterError("no server offers a tool")
        chosen = self.among(offered)
        if idle := [name for name in self.allowed if name not in {tool.name for tool in chosen}]:
            raise ParameterError(f"--yes {idle[0]} is of a tool that --tool does not offer: leave it out")
        return chosen

    def among(self, offered: "Sequence[Tool]") -> "tuple[Tool, ...]":
        """Those of the tools that are named, of which some may be gone by now."""
        return tuple(tool for tool in offered if "all" in self.names or tool.name in self.names)
