"""Parser of what a terminal sends, in which escape and the key after it are two keys however late they are read.

A terminal sends alt and a letter as escape and the letter. Textual's parser takes them for one key if they come within
a tenth of a second, or in one read: on a busy machine that is what a person has pressed one after the other, and
escape was lost ("alt+q", or "™" for a two), or became a "^" where another one followed. No key here has alt, so that
escape is one by itself unless what follows begins a code. Knows nothing of what keys do.
"""

import re
from collections.abc import Iterable

from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.message import Message

ESCAPE = "\x1b"
# What goes on after escape: the codes of ECMA-48 and xterm (CSI, SS3, OSC, DCS, SOS, PM, APC), the words of iTerm2 and
# readline (b, f), and keys that are the same with alt.
BEGINS = re.escape("\x1b[O]PX^_bf\t\r\n\x08\x7f")
APART = re.compile(f"(?<={ESCAPE})(?=[^{BEGINS}])")
OTHER = re.compile(f"[^{BEGINS}]")


class KeyParser(XTermParser):
    """Textual's, which is told where an escape ends."""

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._last = ""  # as many characters as a mark of a paste has
        self._pasting = False

    def feed(self, data: str) -> Iterable[Message]:
        for part in APART.split(data):
            waits = self._last.endswith(ESCAPE) and self._timeout_time is not None  # an escape that was not handed on
            if waits and not self._pasting and OTHER.match(part):
                self._timeout_time = 0.0
                yield from self.tick()
            yield from super().feed(part)
            self._look_for_paste(part)

    def _look_for_paste(self, part: str) -> None:
        known = self._last + part
        began, ended = known.rfind(BRACKETED_PASTE_START), known.rfind(BRACKETED_PASTE_END)
        if began != ended:  # -1 of both: neither
            self._pasting = began > ended
        self._last = known[-len(BRACKETED_PASTE_END) :]
