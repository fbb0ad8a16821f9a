"""Guard in front of every route: which hosts, origins and keys are let in, and how much of a body is read.

A page in a browser can make it send requests to this machine, by its address or by a name that it had resolved to it
(DNS rebinding). So the Host header must be an address of this server, and an Origin must be its own; there is no CORS.
A server that others can reach wants a key from all. Plain ASGI: knows no protocol.
"""

import asyncio
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from likely.app.serve.bounds import Bounds
from likely.app.serve.requests import RequestRefused
from likely.app.serve.watch.address import is_loopback

HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::[0-9]*)?")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Guard:
    """Rules of one server: the address that it listens on, and the key that it wants, if it wants one."""

    host: str
    key: str = ""

    def check(self, headers: dict[str, str]) -> None:
        """RequestRefused for a request that did not come from where it may, or without the key."""
        host = headers.get("host", "")
        name = _name(host)
        ours = is_loopback(name) or name == self.host or (not is_loopback(self.host) and _is_address(name))
        if not ours:
            raise RequestRefused(f"the Host header must be this server's address, got {host[:80]!r}", status=403)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise RequestRefused(f"pages of other origins are not served, got {origin[:80]!r}", status=403)
        if self.key and not self.holds(headers, self.key):
            raise RequestRefused(
                "this server wants its key: Authorization: Bearer KEY, or x-api-key: KEY",
                status=401,
                kind="authentication_error",
            )

    @staticmethod
    def holds(headers: dict[str, str], key: str) -> bool:
        """Whether a request brings a key, as OpenAI's clients do or as Anthropic's."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = (token if scheme.lower() == "bearer" else "", headers.get("x-api-key", ""))
        return any(hmac.compare_digest(each.strip().encode("latin-1"), key.encode()) for each in given)


def headers_of(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """Headers by their names in small letters; one that comes twice is refused where it matters."""
    values: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in values and key in ("host", "origin", "authorization", "x-api-key", "content-length"):
            raise RequestRefused(f"the header {key} came twice")
        values[key] = value.decode("latin-1")
    return values


async def read_body(receive: Receive, headers: dict[str, str], bounds: Bounds) -> bytes:
    """The whole body; RequestRefused where it is too long, or does not come."""
    too_long = RequestRefused(f"a body has at most {bounds.body:,} bytes", status=413)
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > bounds.body:
        raise too_long
    data = bytearray()
    try:
        async with asyncio.timeout(bounds.body_s):
            while True:
                part = await receive()
                if part["type"] == "http.disconnect":
                    raise RequestRefused("the client went away")
                data += part.get("body", b"")
                if len(data) > bounds.body:
                    raise too_long
                if not part.get("more_body"):
                    return bytes(data)
    except TimeoutError:
        raise RequestRefused(f"the body did not come within {bounds.body_s:g} s", status=408) from None


def _name(host: str) -> str:
    """The name of a Host header, without its port; "" of one that is none."""
    match = HOST.fullmatch(host)
    return match[1] if match else ""


def _is_address(name: str) -> bool:
    """Whether it is written in numbers, which no foreign DNS server had a say in."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
