"""A loopback server of the hub's protocol, as much of it as a download uses, with the faults that tests need."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the tests."""


class HubServer:
    """Serves `files` of one repository. Faults are attributes, changed as a test goes."""

    def __init__(self, repo: str, files: dict[str, bytes], kind: str = "models") -> None:
        self.repo, self.files = repo, files
        self.kind = kind  # models | datasets
        self.status: tuple[int, str] | None = None  # answer everything with this and the hub's error code
        self.files_status: tuple[int, str] | None = None  # the same for the files alone
        self.silent = threading.Event()  # set: accept and never answer
        self.cut_after: int | None = None  # bytes of a large file sent before the connection is closed
        self.corrupt: set[str] = set()  # files whose bytes are not what their hash says
        self.xet: str | None = None  # a content store that has files too, by `xet_hashes`
        self.xet_hashes: dict[str, str] = {}
        self.cdn = ""  # another host, which large files are sent from
        self.tokens: list[str | None] = []  # that it was shown
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range
        self.released = threading.Event()
        self.server = _QuietServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def is_large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".gguf"))

    def etag(self, name: str) -> str:
        data = self.files[name]
        if self.is_large(name):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def siblings(self) -> list[dict[str, Any]]:
        out = []
        for name, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": "f" * 40}
            if self.is_large(name):
                entry["lfs"] = {"sha256": self.etag(name), "size": len(data), "pointerSize": 134}
            else:
                entry["blobId"] = self.etag(name)
            out.append(entry)
        return out

    def tree(self) -> list[dict[str, Any]]:
        out = []
        for sibling in self.siblings():
            entry = {"type": "file", "path": sibling["rfilename"], "size": sibling["size"], "oid": sibling["blobId"]}
            if "lfs" in sibling:
                entry["lfs"] = {"oid": sibling["lfs"]["sha256"], "size": sibling["size"], "pointerSize": 134}
            out.append(entry)
        return out

    def downloads(self) -> list[str]:
        """The files that were asked for, in order."""
        return [path.rpartition("/")[2] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = self.path.partition("?")[0]
                hub.requests.append((self.command, path, self.headers.get("Range", "")))
                if hub.silent.is_set():
                    hub.released.wait(30)
                    return
                if hub.status:
                    self.reply(hub.status[0], {"X-Error-Code": hub.status[1]}, b"{}", body)
                elif re.fullmatch(rf"/api/{hub.kind}/{hub.repo}(/revision/\w+)?", path):
                    info = {"id": hub.repo, "sha": COMMIT, "siblings": hub.siblings()}
                    self.reply(200, {"Content-Type": "application/json"}, json.dumps(info).encode(), body)
                elif path == f"/api/{hub.kind}/{hub.repo}/tree/{COMMIT}":
                    self.reply(200, {"Content-Type": "application/json"}, json.dumps(hub.tree()).encode(), body)
                elif (name := path.removeprefix("/cdn/")) in hub.files:
                    hub.tokens.append(self.headers.get("Authorization"))
                    self.file(name, body)
                elif path == "/xet-token" and hub.xet is not None:
                    granted = {
                        "X-Xet-Cas-Url": hub.xet, "X-Xet-Access-Token": "t", "X-Xet-Token-Expiration": "9999999999",
                    }  # fmt: skip
                    self.reply(200, granted, b"{}", body)
                elif (name := path.removeprefix(f"{place_of(hub)}/resolve/{COMMIT}/")) in hub.files:
                    self.file(name, body)
                else:
                    self.reply(404, {"X-Error-Code": "RepoNotFound"}, b"{}", body)

            def file(self, name: str, body: bool) -> None:
                if hub.files_status:
                    self.reply(hub.files_status[0], {"X-Error-Code": hub.files_status[1]}, b"{}", body)
                    return
                data = hub.files[name]
                if hub.cdn and self.path.startswith(f"{place_of(hub)}/") and hub.is_large(name):
                    linked = {"X-Linked-ETag": f'"{hub.etag(name)}"', "X-Linked-Size": str(len(data))}
                    there = {"Location": f"{hub.cdn}/cdn/{name}", "X-Repo-Commit": COMMIT}
                    self.reply(302, linked | there, b"", body)
                    return
                if name in hub.corrupt:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                headers = {"ETag": f'"{hub.etag(name)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                if name in hub.xet_hashes:
                    headers |= {"X-Xet-Hash": hub.xet_hashes[name], "Link": f'<{hub.url}/xet-token>; rel="xet-auth"'}
                found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                begin = int(found[1]) if found else 0
                if found:
                    headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
                self.reply(206 if found else 200, headers, data[begin:], body, hub.is_large(name))

            def reply(self, status: int, headers: dict[str, str], data: bytes, body: bool, large: bool = False) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if not body:
                    return
                if large and hub.cut_after is not None:
                    self.wfile.write(data[: hub.cut_after])
                    self.wfile.flush()
                    self.close_connection = True
                    return
                self.wfile.write(data)

        return Handler


def place_of(hub: HubServer) -> str:
    """The path below which the repository's files are."""
    return f"/{hub.repo}" if hub.kind == "models" else f"/{hub.kind}/{hub.repo}"


@contextmanager
def serve(repo: str, files: dict[str, bytes], kind: str = "models") -> Iterator[HubServer]:
    """A HubServer that answers until the block ends."""
    hub = HubServer(repo, files, kind)
    thread = threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()
