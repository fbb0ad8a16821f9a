"""Functions served as tools on standard input and output; what one raises as ValueError is told to whoever called."""

from collections.abc import Callable
from functools import wraps


def serve(name: str, *functions: Callable[..., str]) -> None:
    """Serve functions of words until the input ends: their names, docstrings and parameters are what is offered."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    server = MCPServer(name)
    for function in functions:

        @wraps(function)
        def told(*args: str, _function: Callable[..., str] = function, **given: str) -> str:
            try:
                return _function(*args, **given)
            except (ValueError, OSError) as error:
                raise ToolError(str(error)) from None

        server.tool()(told)
    server.run()
