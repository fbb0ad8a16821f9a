"""Address of a server, and the file with the key for watching it: by its port, where it is the same user's.

Whoever else could listen there gets no key: one that was not named goes to this machine alone.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files.whole_file import refuse_pipe

MOST = 4096  # characters of a key's file


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, is this machine's own alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def key_file(home: Path, port: int) -> Path:
    """Where the server at a port keeps the key for whoever may watch it, in likely's folder."""
    return home / "servers" / f"{port}.key"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is, and the file with the key for watching it."""

    scheme: str
    host: str
    port: int
    key: Path

    @classmethod
    def read(cls, url: str, home: Path, key: str = "") -> "ServerAddress":
        """The address in a URL; without a key's file, that of the same user's server on this machine, by its port.
        ParameterError for what is none."""
        expected = f"expected a server's address as http://127.0.0.1:8080, got {url!r}"
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ParameterError(expected) from None
        if parts.scheme not in ("http", "https") or not host or port == 0 or parts.path not in ("", "/") or parts.query:
            raise ParameterError(expected)
        port = port or (443 if parts.scheme == "https" else 80)
        if not key and not is_loopback(host):
            raise ParameterError(f"{host} is another machine: watching it wants its server's key, --server-key FILE")
        return cls(parts.scheme, host, port, Path(key).expanduser() if key else key_file(home, port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def read_key(self) -> str:
        """The key as it is now; DataError where there is none."""
        refuse_pipe(self.key)  # it is read again with each connection
        try:
            with self.key.open(encoding="ascii") as file:
                key = file.read(MOST).strip()
        except FileNotFoundError:
            line = "no likely serve of yours runs there, or its key is another file (--server-key FILE)"
            raise DataError(f"no key for watching {self}, as there is no {self.key}: {line}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a key"
            raise DataError(f"no key for watching {self}: {self.key}: {reason}") from None
        if not key.isprintable() or not key:
            raise DataError(f"no key for watching {self}: {self.key} holds none")
        return key
