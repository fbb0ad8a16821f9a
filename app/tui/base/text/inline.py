"""Inline Markdown: the words of a paragraph and their faces, by the rules of CommonMark 0.31 (section 6).

Code spans, emphasis, strike-through, links and images with their address beside them, autolinks, escapes, entities.
Not known: links by reference, HTML; a backslash before a bracket stays, for it begins a formula far more often.
"""

import html
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from likely.app.tui.base.text.cells import clean
from likely.app.tui.base.text.text_style import BOLD, CODE, ITALIC, LINK, STRIKE

_SIGN = re.compile(
    r"\\[!-'*-/:-@^-`{-~]|`+|\*+|_+|~+|!?\[|\]"
    r"|<(?:[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>"
    r"|&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
)
_ADDRESS = re.compile(
    r"\([ \n]*(?:<[^<>\n]*>|[^\s()<][^\s()]*(?:\([^\s()]*\)[^\s()]*)*|)(?:[ \n]+(?:\"[^\"]*\"|'[^']*'))?[ \n]*\)"
)


class Run(NamedTuple):
    """Characters of a source from `start` to `end` in one face; `shown` in their place, None for themselves."""

    start: int
    end: int
    shown: str | None
    face: int


class Inline(NamedTuple):
    """The runs of a paragraph. What follows it can change nothing before `pending`, except inside of what begins
    later and ends there: `spans` are the constructs that are whole."""

    runs: tuple[Run, ...]
    pending: int
    spans: tuple[tuple[int, int], ...] = ()

    def settled(self, text: str, limit: int) -> int:
        """The last place up to `limit` after a space that nothing open, and no construct, is around: what stands
        before it stays the same whatever follows, and what follows is read as if it were the beginning."""
        at = min(self.pending, limit)
        while at > 0:
            at = text.rfind(" ", 0, at) + 1
            around = [start for start, end in self.spans if start < at < end]
            if not around:
                return at
            at = min(around)
        return 0


@dataclass(slots=True)
class _Delimiter:
    """A run of one sign that may open or close; what is left of it lies between `start` and `end`."""

    sign: str
    start: int
    end: int
    opens: bool
    closes: bool
    size: int  # as it stands in the text


@lru_cache(512)
def inline(text: str, growing: bool) -> Inline:
    """The runs of a paragraph. Where it is still growing, what has been opened is taken as closed at its end."""
    if _SIGN.search(text) is None:
        return Inline((Run(0, len(text), None, 0),) if text else (), len(text))
    parse = _Parse(text, growing)
    parse.read()
    return parse.inline()


class _Parse:
    """One pass over a paragraph: signs in order, then emphasis as its delimiters allow."""

    def __init__(self, text: str, growing: bool) -> None:
        self.text, self.growing = text, growing
        self.faces: list[tuple[int, int, int]] = []  # (start, end, bits)
        self.replaced: dict[int, tuple[int, str]] = {}  # by where it begins: the end, and what is shown
        self.spans: list[tuple[int, int]] = []  # constructs that are whole, from the first sign to the last
        self.delimiters: list[_Delimiter] = []
        self.brackets: list[tuple[int, int, int]] = []  # (start, end, delimiters before it) of `[` and `![`
        self.pending = len(text)  # what comes later may mean something else by this

    def read(self) -> None:
        text, at = self.text, 0
        while (match := _SIGN.search(text, at)) is not None:
            start, at = match.span()
            sign = text[start]
            if sign == "\\":
                self._replace(start, start + 1, "")
            elif sign == "`":
                at = self._code(start, at)
            elif sign in "*_~":
                self._delimiter(start, at)
            elif sign == "<":
                self._hide(start, start + 1, at - 1, at, LINK)
            elif sign == "&":
                self._replace(start, at, clean(html.unescape(match.group())).replace("\n", " ").replace("\t", " "))
            elif sign == "]":
                at = self._link(start)
            else:
                self.brackets.append((start, at, len(self.delimiters)))
        self._emphasis(0)
        if self.growing:
            self._close_all()
        still = [d.start for d in self.delimiters if d.opens and d.end > d.start]
        self.pending = min([self.pending, *still, *(start for start, _, _ in self.brackets)])

    def inline(self) -> Inline:
        cuts = {0, len(self.text)}  # a face begins and ends where signs are hidden, or with the text
        for start, (end, _) in self.replaced.items():
            cuts |= {start, end}
        places = sorted(cuts)
        bits = dict.fromkeys(places, 0)
        for start, end, face in self.faces:
            for place in places:
                if start <= place < end:
                    bits[place] |= face
        runs: list[Run] = []
        at = 0
        for start, end in pairwise(places):
            if start < at:
                continue
            gone, shown = self.replaced.get(start, (end, None))
            at = gone
            runs.append(Run(start, at, shown, bits[start]))
        return Inline(tuple(runs), self.pending, tuple(self.spans))

    def _replace(self, start: int, end: int, shown: str) -> None:
        self.replaced[start] = end, shown

    def _hide(self, start: int, inner: int, inner_end: int, end: int, face: int) -> None:
        """A construct: its signs hidden, what is between them in a face."""
        if start < inner:
            self._replace(start, inner, "")
        if inner_end < end:
            self._replace(inner_end, end, "")
        self.faces.append((inner, inner_end, face))
        self.spans.append((start, end))

    def _code(self, start: int, at: int) -> int:
        size = at - start
        for run in re.finditer("`+", self.text[at:]):
            if len(run.group()) == size:
                first, last, end = at, at + run.start(), at + run.end()
                inside = self.text[first:last]
                if inside[:1] in " \n" and inside[-1:] in " \n" and inside.strip():
                    first, last = first + 1, last - 1
                self._hide(start, first, last, end, CODE)
                return end
        self.pending = min(self.pending, start)
        if self.growing:
            self._hide(start, at, len(self.text), len(self.text), CODE)
            return len(self.text)
        return at

    def _link(self, start: int) -> int:
        """A `]`: the end of a link's words, or nothing."""
        if not self.brackets:
            return start + 1
        opening, inner, delimiters = self.brackets.pop()
        match = _ADDRESS.match(self.text, start + 1)
        if match is None:
            rest = self.text[start + 1 :]
            if not rest or (rest[0] == "(" and ")" not in rest):
                self.pending = min(self.pending, opening)  # the address may come yet
            return start + 1
        self._emphasis(delimiters)
        del self.delimiters[delimiters:]
        if self.text[opening] == "[":  # a link holds no links
            self.brackets = [bracket for bracket in self.brackets if self.text[bracket[0]] == "!"]
        self._hide(opening, inner, start, match.end(), LINK)
        return match.end()

    def _delimiter(self, start: int, end: int) -> None:
        text, sign = self.text, self.text[start]
        before = text[start - 1] if start else " "
        after = text[end] if end < len(text) else " "
        if end == len(text) and self.growing:  # it may close, open or grow: not seen until that is known
            self._replace(start, end, "")
            self.pending = min(self.pending, start)
            return
        if sign == "~" and end - start != 2:
            return
        left = not after.isspace() and (not _punctuation(after) or before.isspace() or _punctuation(before))
        right = not before.isspace() and (not _punctuation(before) or after.isspace() or _punctuation(after))
        opens, closes = left, right
        if sign == "_":
            opens = left and (not right or _punctuation(before))
            closes = right and (not left or _punctuation(after))
        if opens or closes:
            self.delimiters.append(_Delimiter(sign, start, end, opens, closes, end - start))

    def _emphasis(self, bottom: int) -> None:
        """Pair the delimiters from `bottom` on (CommonMark, "process emphasis")."""
        stack, at = self.delimiters, bottom
        while at < len(stack):
            closer = stack[at]
            back = at - 1
            while closer.closes and closer.end > closer.start and back >= bottom:
                opener = stack[back]
                if opener.sign == closer.sign and opener.opens and opener.end > opener.start and _fit(opener, closer):
                    size = 2 if min(opener.end - opener.start, closer.end - closer.start) >= 2 else 1
                    self._pair(opener, closer.start, closer.start + size, size)
                    closer.start += size
                    del stack[back + 1 : at]
                    at = back + 1
                    if opener.end == opener.start:
                        del stack[back]
                        at, back = at - 1, back - 1
                else:
                    back -= 1
            at += 1

    def _pair(self, opener: _Delimiter, start: int, end: int, size: int) -> None:
        face = STRIKE if opener.sign == "~" else BOLD if size == 2 else ITALIC
        self._hide(opener.end - size, opener.end, start, end, face)
        opener.end -= size

    def _close_all(self) -> None:
        """Close all that is open by the end of the text."""
        end = len(self.text)
        for opener in self.delimiters:
            if opener.opens and opener.end > opener.start:
                self.pending = min(self.pending, opener.start)
            while opener.opens and opener.end > opener.start:
                size = 2 if opener.end - opener.start >= 2 else 1
                self._pair(opener, end, end, size)


def _fit(opener: _Delimiter, closer: _Delimiter) -> bool:
    """The rule of three (CommonMark, rules 9 and 10)."""
    both = opener.closes or closer.opens
    return not both or (opener.size + closer.size) % 3 != 0 or (opener.size % 3 == 0 and closer.size % 3 == 0)


def _punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
