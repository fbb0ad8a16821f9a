"""Codes that a terminal is told or asked things by, beside what is drawn: a notice, and which ground it has.

Knows nothing of screens. OSC 9 is iTerm2's, OSC 777 urxvt's, OSC 11 xterm's.
"""

import os
import re
import select
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic

from likely.app.tui.base.text.cells import clean

ASK_GROUND = b"\x1b]11;?\x1b\\\x1b[c"  # and what it is, which each answers: none is waited for in vain
LONGEST_S = 1.0  # for an answer over a slow line
_GROUND = re.compile(rb"\x1b\]11;rgba?:([0-9a-fA-F]+)/([0-9a-fA-F]+)/([0-9a-fA-F]+)[^\x07\x1b]*(?:\x07|\x1b\\)")
_ITSELF = re.compile(rb"\x1b\[\?[0-9;]*c")


def passed(code: str, environ: Mapping[str, str]) -> str:
    """A code as tmux hands it on to the terminal that it is in."""
    return f"\x1bPtmux;\x1b{code}\x1b\\" if environ.get("TMUX") else code


def notice(words: str, environ: Mapping[str, str]) -> str:
    """The bell, and words for a terminal to show beside its window: by OSC 777 where that is what it knows, else OSC 9.
    Others take no notice of either."""
    words = clean(words).replace(";", ",").replace("\n", " ")
    urxvt = "VTE_VERSION" in environ or environ.get("TERM", "").startswith(("rxvt", "foot"))
    return "\a" + passed(f"\x1b]777;notify;likely;{words}\a" if urxvt else f"\x1b]9;likely: {words}\a", environ)


def ground(read: int, write: int, longest_s: float = LONGEST_S) -> tuple[bool | None, bytes]:
    """Whether a terminal has a light ground, None where it does not say so in time; and what was typed meanwhile."""
    got, until = b"", monotonic() + longest_s
    with suppress(OSError), _letter_by_letter(read):  # where it is gone, so it is found where it is drawn on
        os.write(write, ASK_GROUND)
        while not _ITSELF.search(got) and (part := _part(read, max(until - monotonic(), 0))):
            got += part
    found = _GROUND.search(got)
    typed = _ITSELF.sub(b"", _GROUND.sub(b"", got))
    return None if found is None else _light(*found.groups()), typed


def waiting(read: int) -> bytes:
    """Bytes that were typed to a terminal and that nobody has read yet."""
    got = b""
    with suppress(OSError), _letter_by_letter(read):
        while part := _part(read, 0):
            got += part
    return got


def _part(read: int, longest_s: float) -> bytes:
    """Bytes that come within so many seconds."""
    return os.read(read, 4096) if select.select([read], [], [], longest_s)[0] else b""


@contextmanager
def _letter_by_letter(read: int) -> Iterator[None]:
    """A terminal that gives what is typed at once, and does not show it. OSError where it is none."""
    try:
        before = termios.tcgetattr(read)
    except termios.error as error:
        raise OSError(*error.args) from error
    quiet = [*before]
    quiet[3] &= ~(termios.ICANON | termios.ECHO)
    try:
        termios.tcsetattr(read, termios.TCSANOW, quiet)
        yield
    finally:
        termios.tcsetattr(read, termios.TCSANOW, before)


def _light(red: bytes, green: bytes, blue: bytes) -> bool:
    """Whether a colour is nearer to white than to black (ITU-R BT.601); its parts are hexadecimal, of any length."""
    shares = [int(part, 16) / float(16 ** len(part) - 1) for part in (red, green, blue)]
    return sum(weight * share for weight, share in zip((0.299, 0.587, 0.114), shares, strict=True)) > 0.5
