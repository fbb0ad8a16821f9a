"""Servers of tools: what they offer and answer, how they fail, what they are given; and what a person has allowed."""

import json
import random
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from threading import Thread

import pytest

from likely.app.tools import specs
from likely.app.tools.calculator import calculate
from likely.app.tools.consent import Consent, Consents
from likely.app.tools.folder import Folder
from likely.app.tools.servers import ToolServers
from likely.app.tools.specs import ServerSpec
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.chat.tools.tool import Tool, ToolCall, ToolResult
from tests.processes import free_ports

HTTP = """
import sys
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
server = MCPServer("there")
@server.tool()
def key(text: str, context: Context) -> str:
    return text + " " + context.request_context.request.headers["x-key"]
app = server.streamable_http_app()
import socket, uvicorn
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("begins", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
"""
SCRIPT = str(Path(__file__).parents[2] / "support" / "tool_server.py")


def scripted(name: str, mode: str = "well", **env: str) -> ServerSpec:
    return ServerSpec(name, (sys.executable, SCRIPT, mode), tuple(env.items()))


def called(servers: ToolServers, name: str, **arguments: object) -> ToolResult:
    tool = next(tool for tool in whole(servers.listing()) if tool.name == name)
    return whole(servers.calling(tool, ToolCall(name, arguments)))


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ToolServers]:
    monkeypatch.setenv("SECRET", "of ours")
    with ToolServers([scripted("one", KEY="its own")]) as found:
        yield found


@pytest.mark.slow(2)
def test_results_are_words_within_bounds(servers: ToolServers) -> None:
    assert called(servers, "echo", text="é\n") == ToolResult('{"text": "\\u00e9\\n"}')
    assert called(servers, "codes") == ToolResult("a[31mred\nb", is_error=True)
    assert "image/png, 3 bytes" in called(servers, "image").text
    large = json.dumps(["x" * 98] * 10_000)
    assert called(servers, "large") == ToolResult(large[:65536], cut=len(large) - 65536)
    given = json.loads(called(servers, "environment").text)
    assert given["KEY"] == "its own" and {*given} <= {"KEY", "PATH", "HOME", "LC_CTYPE"}
    assert whole(servers.listing())[-1] == Tool("one", "__1__", own="<|1|>", schema={
        "type": "object", "properties": {"text": {"type": "string"}}})  # fmt: skip
    assert not servers.changed
    called(servers, "grow")
    assert servers.changed and whole(servers.listing())[-1].name == "grown"


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    ("name", "line"), [("flood", "it wrote a line of more than 4 MB"), ("leave", "it left with status 3: no more")]
)
def test_a_server_that_fails_in_a_call_is_a_line_and_is_started_again(
    servers: ToolServers, name: str, line: str
) -> None:
    for news in ([], [f"the tool server one had ended ({line}): it is started again"]):
        found = whole(servers.calling(Tool("one", name, own=name), ToolCall(name)))
        assert found.is_error and found.text == f"{name} gave no result: {line}" and servers.news() == news
    assert called(servers, "echo", text="on") == ToolResult('{"text": "on"}') and len(servers.news()) == 1


@pytest.mark.slow(2)
def test_a_call_that_hangs_ends_at_its_bound_or_is_taken_back(servers: ToolServers) -> None:
    waiting = servers.calling(Tool("one", "hang", own="hang"), ToolCall("hang"))
    next(waiting)
    waiting.close()
    with ToolServers([scripted("one")], call_s=0.1) as brief:
        assert "did not answer within 0.1 s" in called(brief, "hang").text


@pytest.mark.slow(3)
def test_servers_that_do_not_start_are_lines_and_one_name_twice_is_qualified() -> None:
    nowhere = ServerSpec("nowhere", ("/no/such/program",))
    http = ServerSpec("http", url=f"http://127.0.0.1:{free_ports(1)[0]}/mcp")
    wrong = [scripted("broken", "broken"), scripted("old", "old"), nowhere, http]
    with ToolServers([scripted("a.b"), scripted("c"), *wrong]) as servers:
        names = [tool.name for tool in whole(servers.listing())]
        assert names[0] == "a_b__echo" and "c__echo" in names and len({*names}) == len(names)
        assert {*servers.faults} == {"broken", "old", "nowhere", "http"}
        assert servers.faults["broken"] == "it left with status 1: cannot read my settings"
        assert servers.faults["nowhere"] == "cannot start /no/such/program: No such file or directory"
        assert "version" in servers.faults["old"] and not any("\n" in line for line in servers.faults.values())
    with ToolServers([scripted("silent", "silent")], start_s=0.3) as servers:
        assert whole(servers.listing()) == () and servers.faults == {"silent": "it did not answer within 0.3 s"}


@pytest.mark.slow(8)
def test_servers_that_ship_and_that_others_wrote(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    web = HTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=web.serve_forever, daemon=True).start()
    others = [ServerSpec(name, (sys.executable, "-m", f"mcp_server_{name}", *more))
              for name, *more in (("time",), ("fetch", "--allow-private-ips"))]  # fmt: skip
    with ToolServers([*specs.read(["calculator", f"folder:{tmp_path}"], tmp_path), *others]) as servers:
        offered = {tool.name for tool in whole(servers.listing())}
        assert offered >= {"calculate", "list_files", "read_file", "get_current_time", "fetch"}, servers.faults
        assert called(servers, "calculate", expression="17 * 23") == ToolResult("391")
        assert called(servers, "calculate", expression="1 / 0").text.endswith("this divides by zero")
        assert called(servers, "read_file", path="a.txt") == ToolResult("hello")
        assert '"timezone": "UTC"' in called(servers, "get_current_time", timezone="UTC").text
        assert called(servers, "fetch", url=f"http://127.0.0.1:{web.server_port}/a.txt").text.endswith("hello")
    web.shutdown()


@pytest.mark.slow(4)
def test_a_server_at_an_address_may_go_and_come_back() -> None:
    (port,) = free_ports(1)

    def begin() -> Popen[bytes]:
        server = Popen((sys.executable, "-c", HTTP, str(port)), stdout=PIPE, stderr=DEVNULL)
        assert server.stdout is not None and server.stdout.readline() == b"begins\n"
        return server

    spec = ServerSpec("there", url=f"http://127.0.0.1:{port}/mcp", headers=(("X-Key", "k"),))
    with begin() as server, ToolServers([spec]) as servers:
        assert called(servers, "key", text="é") == ToolResult("é k")
        server.kill()
        server.wait()
        gone = whole(servers.calling(Tool("there", "key", own="key"), ToolCall("key", {"text": ""})))
        assert gone.is_error and gone.text.startswith("key gave no result: ")
        with begin() as server:
            assert called(servers, "key", text="on") == ToolResult("on k")
            assert servers.news() == ["the tool server there had ended (it is gone): it is connected to again"]
            server.kill()


def test_the_calculator_is_exact_and_runs_nothing() -> None:
    draw = random.Random(3)
    for _ in range(200):
        terms = [f"({draw.randint(-9, 9)})" for _ in range(5)]
        text = terms[0] + "".join(f" {draw.choice('+-*')} {term}" for term in terms[1:])
        assert calculate(text) == str(eval(text))
    assert calculate("1/3 + 0.1 ^ 2") == f"{Fraction(1, 3) + Fraction(1, 100)} = 0.343333333333"
    for wrong in ("", "1 +", "x", "__import__('os')", "9 ** 9 ** 9", "1 / 0", "True", "'a' * 9", "(" * 999, "2 ** 0.5"):
        with pytest.raises(ValueError, match=r"here|zero|powers"):
            calculate(wrong)


def test_the_folder_ends_at_its_root(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.txt").write_text("secret")
    (tmp_path / "in" / "a.txt").write_text("a")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out.txt")
    folder = Folder(tmp_path / "in")
    assert folder.list_files() == "a.txt  1" and folder.read_file("a.txt") == "a"
    for wrong in ("../out.txt", "link", str(tmp_path / "out.txt"), "", "none"):
        with pytest.raises(ValueError, match="there is no file"):
            folder.read_file(wrong)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("[]", "an object expected"),
        ('{"mcpServers": {"a": {}}}', "a command or a url"),
        ('{"mcpServers": {"a": {"command": "x", "url": "http://y"}}}', "one of the two"),
        ('{"mcpServers": {"a": {"url": "ftp://y"}}}', "begins with http"),
        ('{"mcpServers": {"a": {"url": "http://y", "type": "sse"}}}', "streamable HTTP"),
        ('{"mcpServers": {"a": {"command": "x", "args": "y"}}}', "args"),
        ('{"mcpServers": {"a": {"command": "x\\u0000"}}}', "null character"),
        ('{"mcpServers": {"calculator": {"command": "x"}}}', "two tool servers are named calculator"),
    ],
)
def test_a_file_of_servers_that_is_wrong_is_a_line(tmp_path: Path, entry: str, line: str) -> None:
    (tmp_path / "f.json").write_text(entry)
    with pytest.raises(DataError, match=line):
        specs.read(["calculator", str(tmp_path / "f.json")], tmp_path)


def test_servers_are_read_from_what_is_named_or_from_home(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="there are no tools"):
        specs.read([], tmp_path)
    entries = {"a": {"command": "x", "args": ["y"], "env": {"K": "v"}, "autoApprove": []}, "b": {"url": "http://h/mcp"}}
    (tmp_path / "mcp.json").write_text(json.dumps({"mcpServers": entries | {"c": {"command": "z", "disabled": True}}}))
    assert specs.read([], tmp_path) == (
        ServerSpec("a", ("x", "y"), (("K", "v"),)), ServerSpec("b", url="http://h/mcp")
    )  # fmt: skip
    for wrong in ("folder", "calculator:x", f"folder:{tmp_path / 'none'}"):
        with pytest.raises(ParameterError, match=r"folder|calculator"):
            specs.read([wrong], tmp_path)


def test_a_yes_holds_for_a_tool_as_it_was(tmp_path: Path) -> None:
    tool, spec = Tool("a", "f", "adds", {"type": "object"}, "f"), ServerSpec("a", ("x", "y"))
    first = Consents(tmp_path)
    first.give(spec.key(tool), Consent.ONCE, "")
    assert not first.holds(spec.key(tool))
    first.give(spec.key(tool), Consent.CONVERSATION, "")
    assert first.holds(spec.key(tool)) and not Consents(tmp_path).holds(spec.key(tool))
    first.forget()
    assert not first.holds(spec.key(tool))
    first.give(spec.key(tool), Consent.ALWAYS, "f of a")
    later = Consents(tmp_path)
    assert later.holds(spec.key(tool))
    others = [(Tool("a", "f", "deletes", {"type": "object"}, "f"), spec), (Tool("a", "f", "adds", {}, "f"), spec)]
    others += [(Tool("a", "f", "adds", {"type": "object"}, "g"), spec), (tool, ServerSpec("a", ("x", "y", "z")))]
    others += [(tool, ServerSpec("a", ("x", "y"), (("PATH", "/elsewhere"),)))]
    assert not any(later.holds(server.key(each)) for each, server in others)
