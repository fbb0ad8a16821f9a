"""Saves conversations from a thread of its own, so that a slow disk never holds a key press or a token.

Conversations are immutable, so handing one over is one reference; of several versions only the newest is written.
"""

from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from app.store import Store
from engine.conversation import Conversation
from engine.errors import DataError

EVERY_S = 0.9  # a run under way is handed over this often: what a crash can lose


class Keeper:
    """`save` never waits. What went wrong is in `trouble`, one line, until a save succeeds.

    `news` is what the store had to say since it was opened here.
    """

    def __init__(self, path: Path) -> None:
        self.trouble = ""
        self.news = ""
        self._path = path
        self._queue: SimpleQueue[Conversation | Callable[[Store], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="keeper", daemon=True)
        self._thread.start()

    def save(self, talk: Conversation) -> None:
        if talk.nodes:
            self._queue.put(talk)

    def do(self, action: Callable[[Store], None]) -> None:
        """Run something with the database, in its turn."""
        self._queue.put(action)

    def close(self, wait_s: float = 5.0) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join(wait_s)

    def _work(self) -> None:
        store: Store | None = None
        while True:
            batch = [self._queue.get()]
            try:
                while True:
                    batch.append(self._queue.get_nowait())
            except Empty:
                pass
            newest = {item.id: item for item in batch if isinstance(item, Conversation)}
            try:
                store = store or Store(self._path)
                for talk in newest.values():
                    store.save(talk)
                for item in batch:
                    if item is not None and not isinstance(item, Conversation):
                        item(store)
                self.trouble = ""
                self.news, store.notice = store.notice or self.news, ""
            except DataError as error:
                self.trouble = str(error)
            if None in batch:
                if store is not None:
                    store.close()
                return
