"""The process that runs strangers' chat templates: reads programs and values, writes texts, within bounds of memory.

Started by `process`. Frames are a length
and so many bytes: in, pickled by the parent; out, JSON, for nothing that comes from here is trusted there.
"""

import json
import os
import pickle
import struct
import sys
from typing import Any, BinaryIO

from likely.engine.base.concurrency import child_python
from likely.engine.base.sandbox.environment import Refusal, Sandbox, SecurityError

MEMORY = 1 << 30  # bytes of addresses, where the system can bound them
LENGTH = struct.Struct("<Q")


def main() -> None:
    """Answer until the parent closes its end."""
    into, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    _bound()
    programs: dict[str, Any] = {}
    child_python.silence()
    _write(out, {"ready": True})
    while head := into.read(LENGTH.size):
        request = pickle.loads(into.read(LENGTH.unpack(head)[0]))
        try:
            reply = _answer(programs, **request)
        except MemoryError:
            programs.clear()
            reply = {
                "failed": "stopped",
                "line": f"it took more than {MEMORY >> 30} GB of memory",
                "kind": "MemoryError",
            }
        except Exception as error:  # a program can raise anything
            reply = _failed("fails", error)
        _write(out, reply)


def _bound() -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _answer(programs: dict[str, Any], source: str, values: dict[str, Any] | None) -> dict[str, Any]:
    """The text of a template, or with no values the names that it reads."""
    try:
        if source not in programs:
            sandbox = Sandbox()
            programs[source] = sandbox, sandbox.from_string(source)
        sandbox, program = programs[source]
        if values is None:
            return {"reads": sorted(sandbox.reads(source))}
    except MemoryError:
        raise
    except Exception as error:  # compiling what strangers wrote: syntax, depth, size, Python's own limits
        return _failed("unreadable", error)
    try:
        return {"text": sandbox.run(program, values)}
    except Refusal as error:
        return _failed("refuses", error)
    except SecurityError as error:
        return _failed("stopped", error)


def _failed(how: str, error: BaseException) -> dict[str, Any]:
    return {"failed": how, "line": " ".join(str(error)[:1000].split()), "kind": type(error).__name__}


def _write(out: BinaryIO, reply: dict[str, Any]) -> None:
    data = json.dumps(reply).encode()
    out.write(LENGTH.pack(len(data)) + data)
    out.flush()


if __name__ == "__main__":
    main()
