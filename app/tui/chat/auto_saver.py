"""Saves conversations from a thread of its own, so that a slow disk never holds a key press or a token.

Conversations are immutable, so handing one over is one reference; of several versions only the newest is written. What
could not be written is tried again with whatever comes next.
"""

import time
from asyncio import sleep
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from likely.app.store.store import Store
from likely.engine.base.errors import DataError
from likely.engine.chat.conversation import Conversation

Item = Conversation | Callable[[Store], None] | None  # to save, to run, or the end

EVERY_S = 0.9  # a run under way is handed over this often: what a crash can lose


class AutoSaver:
    """`save` never waits. What went wrong is in `trouble`, one line, until a save succeeds, and `unsaved` are the
    conversations that wait for it.

    `news` is what the store had to say since it was opened here.
    """

    def __init__(self, path: Path) -> None:
        self.trouble = ""
        self.news = ""
        self._opened = False
        self.unsaved: tuple[Conversation, ...] = ()
        self._handed = self._tried = 0
        self._path = path
        self._queue: SimpleQueue[Item] = SimpleQueue()
        self._thread = Thread(target=self._work, name="keeper", daemon=True)
        self._thread.start()

    def save(self, talk: Conversation) -> None:
        if talk.nodes:
            self._put(talk)

    def do(self, action: Callable[[Store], None]) -> None:
        """Run something with the database, in its turn."""
        self._put(action)

    def _put(self, item: Item) -> None:
        self._handed += 1
        self._queue.put(item)

    @property
    def idle(self) -> bool:
        """Whether every conversation handed over has been written, or tried to be."""
        return self._tried == self._handed

    async def tried(self, within_s: float) -> None:
        """Try again what could not be written, and wait until all has been tried, so long at most."""
        if self.unsaved:
            self.do(lambda store: None)
        end = time.monotonic() + within_s
        while not self.idle and time.monotonic() < end:
            await sleep(0.02)

    def report(self) -> str:
        """Its news in a line: trouble for as long as it lasts, what the store had to say once; "" for none."""
        if self.trouble:
            return f"{self.trouble} · the conversation stays open"
        news, self.news = self.news, ""
        return news

    def another(self) -> Store | None:
        """A connection for the caller's thread; None before the saver has one, and where it cannot be opened again."""
        try:
            return Store(self._path) if self._opened else None
        except DataError:
            return None

    def close(self, wait_s: float = 5.0) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join(wait_s)

    def _work(self) -> None:
        store: Store | None = None
        unsaved: dict[str, Conversation] = {}
        while True:
            batch = self._batch()
            newest = {item.id: item for item in batch if isinstance(item, Conversation)}
            unsaved = {id: talk for id, talk in unsaved.items() if id not in newest}
            todo = [item for item in batch if not isinstance(item, Conversation) or newest[item.id] is item]
            try:
                store = store or Store(self._path)
                self._opened = True
                unsaved, self.trouble = _done([*todo, *unsaved.values()], store)
                self.news = store.taken_notice() or self.news
            except DataError as error:
                unsaved |= newest
                self.trouble = str(error)
            self.unsaved = tuple(unsaved.values())
            self._tried += len(batch) - batch.count(None)
            if None in batch:
                if store is not None:
                    store.close()
                return

    def _batch(self) -> list[Item]:
        """Everything that was handed over; waits for the first."""
        batch = [self._queue.get()]
        try:
            while True:
                batch.append(self._queue.get_nowait())
        except Empty:
            return batch


def _done(todo: Sequence[Item], store: Store) -> tuple[dict[str, Conversation], str]:
    """Write conversations and run jobs in their order; gives what could not be saved, and the last error's line."""
    unsaved: dict[str, Conversation] = {}
    trouble = ""
    for item in todo:
        try:
            if isinstance(item, Conversation):
                store.save(item)
            elif item is not None:
                item(store)
        except DataError as error:
            trouble = str(error)
            if isinstance(item, Conversation):
                unsaved[item.id] = item
    return unsaved, trouble
