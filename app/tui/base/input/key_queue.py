"""Queue of what a person types: a key is handed on when all that the one before it has brought about is there.

Textual hands on a key as soon as it comes. Over a slow line they come in bursts, and one for a dialog that an earlier
one opened went to the view below, one for a list was told before the list was filled, and what was written while the
program began went to a screen that was being taken away. Letters for one field go on at once: it keeps them in order.
A signal to end has its turn among them: a screen that is being built when the program ends has no parts.

Knows nothing of what keys do.
"""

import asyncio
from asyncio import Queue, wait_for
from collections.abc import Awaitable, Callable

from textual.app import App
from textual.events import Event, Key, Paste
from textual.message_pump import MessagePump
from textual.widget import Widget
from textual.widgets import Input, TextArea

LONGEST_S = 0.5  # for one part of the screen to have done what it was told: then the next key comes all the same
ROUNDS = 10  # of the parts of a screen telling each other


class HangUp(Event):
    """The process was told to end, or its terminal is gone."""


Typed = Key | Paste | HangUp


class KeyQueue:
    """Keys, pastes and signals in the order in which they came."""

    def __init__(self, app: App[str], hand_on: Callable[[Typed], Awaitable[None]]) -> None:
        self._app, self._hand_on = app, hand_on
        self._waiting: Queue[Typed] = Queue()
        self._field: Widget | None = None  # that the last letter went to
        self._drawn: Widget | None = None  # the screen that was drawn last

    def put(self, typed: Typed) -> None:
        self._waiting.put_nowait(typed)

    async def run(self) -> None:
        """Hand on what is typed, one after another; never returns."""
        while True:
            typed = await self._waiting.get()
            if not self._is_letter(typed) or self._field is not self._app.focused:
                await self._done()
            self._field = self._app.focused if self._is_letter(typed) else None
            await self._hand_on(typed)

    def _is_letter(self, typed: Typed) -> bool:
        """Whether it is written into the field that has the focus, which may leave some signs to what stands around."""
        field = self._app.focused
        if not isinstance(field, Input | TextArea):
            return False
        written = isinstance(typed, Key) and typed.is_printable and field.check_consume_key(typed.key, typed.character)
        return written or isinstance(typed, Paste)

    async def _done(self) -> None:
        """Wait until the screen, its widgets and the application have had no message twice in a row."""
        calm = 0
        for _ in range(ROUNDS):
            screen, focused = self._app.screen, self._app.focused
            parts: list[MessagePump] = [*focused.ancestors_with_self] if focused is not None else [screen, self._app]
            for part in parts:
                await _reached(part.call_later)
            if screen is not self._drawn:
                await _reached(screen.call_after_refresh)
            everything = [*screen.walk_children(), screen, self._app]
            same = screen is self._drawn is self._app.screen and focused is self._app.focused
            calm = calm + 1 if same and not any(part.message_queue_size for part in everything) else 0
            if calm == 2:
                return
            self._drawn = screen


async def _reached(tell: Callable[[Callable[[], None]], bool]) -> None:
    """Wait until a part has handled its earlier messages; at most LONGEST_S seconds, and not for one that is gone."""
    reached = asyncio.Event()
    if tell(reached.set):
        try:
            await wait_for(reached.wait(), LONGEST_S)
        except TimeoutError:
            return
