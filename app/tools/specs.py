"""Specifications of tool servers: how each is started or where it is, as Claude Desktop's and LM Studio's files say it.

Such a file is JSON: `{"mcpServers": {NAME: {"command", "args", "env"} or {"url", "headers"}}}`; what else programs keep
in it is left to them. Knows nothing of what a server offers.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likely.engine.base.concurrency import child_python
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.home import expanded
from likely.engine.chat.tools.tool import Tool

FILE = "mcp.json"  # in likely's folder
OWN = {"calculator": "", "folder": "DIRECTORY"}  # servers that ship, and what each wants behind a colon
ENTRY = {
    "command?": str, "args?": [str], "env?": {str: str}, "url?": str, "headers?": {str: str},
    "disabled?": bool, "type?": str, "transport?": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One server: a command line and the variables of its environment, or an address and its headers."""

    name: str
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def where(self) -> str:
        """The command line, or the address, for a person; of a server that ships, its module."""
        own = next((i for i, word in enumerate(self.command) if word.startswith("likely.app.tools.")), 0)
        return self.url or " ".join(self.command[own:])

    def key(self, tool: Tool) -> str:
        """A hash of what a person agrees to who lets a tool of this server be called: its name and what it takes, and
        all by which the server is started. Another command line is another server."""
        parts = [tool.own, tool.description, tool.schema, self.command, sorted(self.env), self.url, self.headers]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read(named: Sequence[str], home: Path) -> tuple[ServerSpec, ...]:
    """The servers that a person names: each a file, `calculator` or `folder:DIRECTORY`; those of the file in `home`
    where nothing is named. DataError for a file that cannot be read or is none of these, ParameterError where there are
    no servers."""
    if not named and not (home / FILE).exists():
        raise ParameterError(
            f"there are no tools: name a file of servers, calculator or folder:DIRECTORY, or list some in {home / FILE}"
        )
    found: dict[str, ServerSpec] = {}
    for words in named or [str(home / FILE)]:
        own = _own(words)
        if not own and named and not expanded(words).exists():
            raise DataError(f"tools: there is no file {words}, and the servers that come along are {', '.join(OWN)}")
        for spec in own or _file(expanded(words)):
            if spec.name in found:
                raise DataError(f"two tool servers are named {spec.name}, the second by {words}: name each once")
            found[spec.name] = spec
    if not found:
        raise ParameterError(
            f"no tool server is listed in {', '.join(named) or home / FILE}: mcpServers is empty there"
        )
    return tuple(found.values())


def _own(words: str) -> tuple[ServerSpec, ...]:
    name, _, rest = words.partition(":")
    if name not in OWN or bool(rest) != bool(OWN[name]):
        if name in OWN:
            raise ParameterError(f"the server {name} is written {name}{OWN[name] and ':' + OWN[name]}, got {words}")
        return ()
    given = [str(expanded(rest).absolute())] if rest else []
    if rest and not Path(given[0]).is_dir():
        raise ParameterError(f"folder: reads a folder, and {given[0]} is none")
    return (ServerSpec(name, tuple(child_python.command(f"likely.app.tools.{name}", *given))),)


def _file(path: Path) -> list[ServerSpec]:
    entries = foreign_json.read(path, {"mcpServers": {str: ENTRY}})["mcpServers"]
    return [_spec(name, entry, path) for name, entry in entries.items() if not entry.get("disabled")]


def _spec(name: str, entry: dict[str, Any], path: Path) -> ServerSpec:
    url, command = entry.get("url", ""), entry.get("command", "")
    if bool(url) == bool(command):
        raise DataError(f"{path}: the server {name} has a command or a url, one of the two")
    if entry.get("type", entry.get("transport")) == "sse":
        raise DataError(f"{path}: the server {name} is of type sse: name its address for streamable HTTP")
    if url and not url.startswith(("http://", "https://")):
        raise DataError(f"{path}: the url of the server {name} begins with http:// or https://, got {url[:60]}")
    line = (command, *entry.get("args", ())) if command else ()
    if any("\0" in word for word in (*line, *entry.get("env", {}), *entry.get("env", {}).values())):
        raise DataError(f"{path}: the command of the server {name} has a null character in it")
    return ServerSpec(name, line, tuple(entry.get("env", {}).items()), url, tuple(entry.get("headers", {}).items()))
