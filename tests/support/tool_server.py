"""A tool server that does what it is told to, well or badly, in lines of JSON by the standard library alone.

`python tool_server.py MODE`: `well`, or how it fails before anything is asked. Its tools are named by what they do.
"""

import json
import os
import sys
import time
from typing import Any

TOOLS = ["echo", "codes", "image", "large", "environment", "hang", "flood", "leave", "grow", "<|1|>"]
MODE = sys.argv[1]
LISTED = [*TOOLS]


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def result(name: str, arguments: dict[str, Any]) -> Any:
    match name:
        case "codes":
            return "a\x1b[31mred\x07\u202e\nb"
        case "large":
            return json.dumps(["x" * 98] * 10_000)
        case "environment":
            return json.dumps(dict(os.environ))
        case "hang":
            time.sleep(3600)
        case "flood":
            while True:
                sys.stdout.write("y" * 65536)
        case "leave":
            print("no more", file=sys.stderr, flush=True)
            sys.exit(3)
        case "grow":
            LISTED.append("grown")
            send(method="notifications/tools/list_changed")
    return json.dumps(arguments)


def main() -> None:
    if MODE == "broken":
        sys.exit("cannot read my settings")
    print("a banner, which is no message", flush=True)
    for line in sys.stdin:
        message = json.loads(line)
        number, method = message.get("id"), message.get("method")
        if MODE == "silent" or number is None:
            continue
        if method == "initialize":
            version = "1999-01-01" if MODE == "old" else message["params"]["protocolVersion"]
            info = {"name": "scripted", "version": "1"}
            send(id=number, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
        elif method == "tools/list":
            schema = {"type": "object", "properties": {"text": {"type": "string"}}}
            send(id=number, result={"tools": [{"name": name, "inputSchema": schema} for name in LISTED]})
        elif method == "tools/call":
            name, arguments = message["params"]["name"], message["params"].get("arguments", {})
            image = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
            block = image if name == "image" else {"type": "text", "text": result(name, arguments)}
            send(id=number, result={"content": [block], "isError": name == "codes"})
        else:
            send(id=number, error={"code": -32601, "message": f"no {method}"})


if __name__ == "__main__":
    main()
