"""Driver of the terminal: bytes in, keys out; where the terminal is gone, or was taken away meanwhile, too.

Knows nothing of what keys do.
"""

import select
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any, Protocol, TextIO, cast

from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver

from likely.app.tui.base.input.key_parser import KeyParser
from likely.app.tui.base.input.key_queue import HangUp
from likely.app.tui.base.input.terminal_codes import waiting

cast(Any, linux_driver).XTermParser = KeyParser  # by that name its thread makes the parser of what it reads


class Early(Protocol):
    """An application that was typed to before it took the terminal."""

    typed: str


class TerminalDriver(LinuxDriver):
    """Textual's, which waits for ever to write to a terminal that is closed, ends with the program at a byte that is no
    UTF-8, reads on and on where the terminal is gone and no signal said so (to the leader of a session alone, such as
    `make`), and takes a process that is continued for one that was suspended by itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._file = cast(Any, Output(cast(TextIO, self._file)))
        self.exit_event = EndOfReading(self.fileno, lambda: self.send_message(HangUp()))

    def start_application_mode(self) -> None:
        """Take the terminal; again where others had it, since SIGSTOP is not heard: left as it was before the first."""
        if self._key_thread is not None and self._key_thread.is_alive():
            self.suspend_application_mode()
        cast(Early, self._app).typed += waiting(self.fileno).decode(errors="replace")
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def write(self, data: str) -> None:
        """Write to the terminal while it is ours."""
        if self._writer_thread is not None and self._writer_thread.is_alive():
            super().write(data)

    def run_input_thread(self) -> None:
        """Read until the terminal is left. Bytes that are no UTF-8, as terminals of another encoding send, are �."""
        early = cast(Early, self._app)
        typed, early.typed = early.typed.replace("\n", "\r"), ""  # it was no key yet, but the end of a line
        for event in KeyParser().feed(typed):
            self.process_message(event)
        while True:
            try:
                return super().run_input_thread()
            except UnicodeDecodeError as error:
                for event in KeyParser().feed(error.object.decode(errors="replace")):
                    self.process_message(event)


class EndOfReading(Event):
    """The end of reading keys: asked for, or come since the terminal is gone, which `told` is then told once."""

    def __init__(self, terminal: int, hear: Callable[[], object]) -> None:
        super().__init__()
        self._terminal, self._hear, self._gone = terminal, hear, False

    def is_set(self) -> bool:
        if not self._gone and self._is_gone():
            self._gone = True
            self._hear()
        return self._gone or super().is_set()

    def _is_gone(self) -> bool:
        look = select.poll()  # one of each look: of two threads at the same one the second gets an error
        look.register(self._terminal, select.POLLHUP)  # said whatever is asked, but for macOS: of no event it says none
        return any(what & select.POLLHUP for _, what in look.poll(0))


class Output:
    """The file of a terminal: when that is gone, nobody reads what is written."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()
