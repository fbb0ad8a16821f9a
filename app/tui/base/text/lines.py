"""Lines of Markdown by their kind, and the places between them where a text may be divided."""

import re

HEADING = re.compile(r" *#{1,6}(?:[ \t]+|$)")
RULER = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
FENCE = re.compile(r"( *)(`{3,}|~{3,})([^`]*)$")
ITEM = re.compile(r"([ \t]*)([-*+]|\d{1,9}[.)])([ \t]+)")
QUOTE = re.compile(r" {0,3}(?:> ?)+")
INTERRUPTING = (HEADING, FENCE, RULER, ITEM, QUOTE)  # a paragraph ends before them
INDENTED = re.compile(r" {4}|\t")
MAYBE_RULER = re.compile(r"[-*_ \t]*$")
CLOSING = re.compile(r"(?:^|[ \t]+)#*[ \t]*$")


def line_at(text: str, at: int) -> tuple[str, int, bool]:
    """The line from a place on without its break, where it ends, and whether there is a break."""
    end = text.find("\n", at)
    return (text[at:end], end, True) if end >= 0 else (text[at:], len(text), False)


def lists(line: str, listed: bool, blank: bool) -> bool:
    """Whether a list may go on after the first line of a construct: one that is not indented after a blank line ends
    it."""
    return ITEM.match(line) is not None or (listed and (not blank or line[:1] in (" ", "\t", "")))


def is_code(line: str, listed: bool, blank: bool) -> bool:
    """Whether a line is code because it is indented, after a blank line or other such code and in no list."""
    if not blank or listed or not INDENTED.match(line) or not line.strip():
        return False
    return not any(kind.match(line) for kind in (FENCE, HEADING, ITEM))


def closes(line: str, sign: str) -> bool:
    """Whether a line ends the code that a fence began."""
    line = line.strip()
    return line.startswith(sign) and not line.strip(sign[0])


class Divider:
    """The lines of a text, for where it may be divided: what `Markdown` knows after a line, without rendering it."""

    def __init__(self) -> None:
        self.listed, self._blank, self._fence, self._line = False, True, "", ""

    def push(self, text: str) -> None:
        """Append text."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if self._fence:
                self._fence = "" if closes(line, self._fence) else self._fence
                continue
            code = is_code(line, self.listed, self._blank)
            self.listed = lists(line, self.listed, self._blank)
            self._blank = code or not line.strip()
            if (match := FENCE.match(line)) is not None:
                self._fence = match.group(2)

    @property
    def ended(self) -> bool:
        """Whether what comes next has nothing to do with what is here, except that a list may go on."""
        return not self._line and not self._fence and self._blank
