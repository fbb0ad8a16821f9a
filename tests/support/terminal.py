"""A terminal without a window: keys go in as a person's do, and what is written to it stands on its lines.

It knows what this program's screens write: places, inks, texts, and the clipboard's code. An ink is the numbers of a
style as they were written, "" for none: not what they mean, but whether two places look alike.
"""

import base64
import re
import unicodedata
from itertools import groupby
from typing import Any

from rich.cells import cell_len
from textual.driver import Driver
from textual.events import AppBlur, Key, MouseDown, MouseEvent, MouseMove, MouseUp, Paste, Resize
from textual.geometry import Size
from textual.keys import KEY_NAME_REPLACEMENTS

CODE = re.compile(
    r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\]([^\x07\x1b]*)(?:\x07|\x1b\\)|\x1b[PX^_].*?\x1b\\|\x1b.|[\r\n\x07]"
)
CHARACTERS = {"enter": "\r", "tab": "\t", "space": " ", "escape": "\x1b", "backspace": "\x7f"}


def key(name: str) -> Key:
    """The event of a key: by its name ("ctrl+p", "pagedown"), or a character as it is typed."""
    if len(name) != 1:
        return Key(name, CHARACTERS.get(name))
    called = unicodedata.name(name, "").lower().replace("-", "_").replace(" ", "_")
    return Key(name if name.isalnum() else KEY_NAME_REPLACEMENTS.get(called, called), name)


class Terminal(Driver):
    """One of some size that an application writes to."""

    def __init__(self, app: Any, *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None):
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.app = app
        self.size = size or (80, 24)
        self._clipboard = ""
        self._notices: list[str] = []
        self._written: list[str] = []
        self._x = self._y = 0
        self._ink = ""
        self._clear()

    def _clear(self) -> None:
        self._cells = [[" "] * self.size[0] for _ in range(self.size[1])]
        self._inks = [[""] * self.size[0] for _ in range(self.size[1])]

    # -- in ----------------------------------------------------------------------------------------------------------

    def press(self, name: str) -> None:
        self.process_message(key(name))

    def paste(self, text: str) -> None:
        self.process_message(Paste(text))

    def click(self, words: str) -> bool:
        """Click on the first place where some words are; gives whether they are anywhere."""
        for y, line in enumerate(self.text.split("\n")):
            before, match, _ = line.partition(words)
            if match:
                self._click(cell_len(before), y)
                return True
        return False

    def _click(self, x: int, y: int) -> None:
        kinds: tuple[type[MouseEvent], ...] = (MouseMove, MouseDown, MouseUp)
        for kind in kinds:
            self.process_message(kind(None, x, y, 0, 0, int(kind is not MouseMove), False, False, False, x, y))

    def resize(self, width: int, height: int) -> None:
        self.size = (width, height)
        self._written.clear()
        self._clear()
        self.start_application_mode()

    # -- out ---------------------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """Its lines, without the spaces at their ends."""
        self._read()
        return "\n".join("".join(line).rstrip() for line in self._cells)

    def ink(self, words: str) -> str | None:
        """The ink of the first place where some words are; None where they are nowhere."""
        for y, line in enumerate(self.text.split("\n")):
            before, match, _ = line.partition(words)
            if match:
                return self._inks[y][cell_len(before)]
        return None

    def inked(self, ink: str) -> list[str]:
        """The stretches that are in an ink, from the top."""
        self._read()
        texts = []
        for cells, inks in zip(self._cells, self._inks, strict=True):
            runs = ((own, "".join(cells[x] for x in run)) for own, run in groupby(range(len(cells)), inks.__getitem__))
            texts += [text for own, text in runs if own == ink]
        return texts

    @property
    def cells(self) -> list[list[tuple[str, str]]]:
        """Every cell with its ink, row by row."""
        self._read()
        return [list(zip(*row, strict=True)) for row in zip(self._cells, self._inks, strict=True)]

    @property
    def painted(self) -> bool:
        """Whether anything is seen."""
        return bool(self.text.strip())

    @property
    def clipboard(self) -> str:
        """What was copied through it last."""
        self._read()
        return self._clipboard

    @property
    def notices(self) -> list[str]:
        """Words that it was to show beside its window, and its bell."""
        self._read()
        return self._notices

    def look_away(self) -> None:
        """It has no focus any more."""
        self.process_message(AppBlur())

    def write(self, data: str) -> None:
        self._written.append(data)

    def _read(self) -> None:
        written, self._written = "".join(self._written), []
        at = 0
        for code in CODE.finditer(written):
            self._put(written[at : code.start()])
            at = code.end()
            numbers, letter, command = code.groups()
            if letter == "H":
                y, _, x = numbers.partition(";")
                self._x, self._y = int(x or 1) - 1, int(y or 1) - 1
            elif letter == "J":
                self._clear()
            elif letter == "m":
                self._ink = "" if numbers in ("", "0") else numbers
            elif code.group() == "\a":
                self._notices.append("bell")
            elif command is not None and command.startswith(("9;", "777;")):
                self._notices.append(command)
            elif command is not None and command.startswith("52;c;"):
                self._clipboard = base64.b64decode(command[5:]).decode()
        self._put(written[at:])

    def _put(self, text: str) -> None:
        if not text or self._y >= self.size[1]:
            return
        line, inks, x = self._cells[self._y], self._inks[self._y], self._x
        if text.isascii():
            width = max(min(len(text), len(line) - x), 0)
            line[x : x + width] = text[:width]
            inks[x : x + width] = [self._ink] * width
            self._x += len(text)
            return
        for character in text:
            cells = cell_len(character)
            if cells == 0 and x > 0:
                line[min(x, len(line)) - 1] += character
            elif x < len(line):
                line[x] = character
                line[x + 1 : x + cells] = [""] * (cells - 1)
                inks[x : x + cells] = [self._ink] * cells
            x += cells
        self._x = x

    # -- what a driver has to have -----------------------------------------------------------------------------------

    def start_application_mode(self) -> None:
        size = Size(*self.size)
        self.process_message(Resize(size, size))

    def disable_input(self) -> None:
        """No key comes by itself."""

    def stop_application_mode(self) -> None:
        """What is written stays."""
