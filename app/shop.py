"""Where the screen's engine thread gets its models: imported there and nowhere else, for everything of mlx hangs on it."""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from app.tui.messages import ModelFacts, ModelOffer
from engine import catalogue, store
from engine.checkpoint import Checkpoint, load
from engine.decode.control import Control, Event
from engine.session import Session
from engine.tokenizer import Tokenizer
from engine.trace import Step

Progress = Callable[[str, int, int], None]


class Lab:
    """A loaded model as the screen's bridge wants it. Every run has a session of its own, so that several can take turns."""

    def __init__(self, name: str, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._sessions = [Session(checkpoint)]
        self._busy: list[Session] = []
        tokenizer, info = checkpoint.tokenizer, checkpoint.info
        self.facts = ModelFacts(
            name=name,
            context=self._sessions[0].context,
            vocabulary=tuple(tokenizer.piece(token) for token in range(tokenizer.vocab_size)),
            chat=tokenizer.chat_template is not None,
            nbytes=info.nbytes,
            title=info.name,
            family=info.family,
            quantization=info.quantization,
            digest=info.weights,
            eos=frozenset(tokenizer.eos),
        )

    @property
    def tokenizer(self) -> Tokenizer:
        return self._checkpoint.tokenizer

    @property
    def cache_nbytes(self) -> int:
        return sum(session.cache_nbytes for session in self._sessions)

    def generate(
        self,
        ids: Sequence[int],
        control: Control,
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[Event]:
        session = next((s for s in self._sessions if s not in self._busy), None)
        if session is None:
            session = Session(self._checkpoint)
            self._sessions.append(session)
        self._busy.append(session)
        try:
            yield from session.generate(ids, control, seed=seed, max_tokens=max_tokens, stop=stop)
        finally:
            self._busy.remove(session)

    def score(self, ids: Sequence[int]) -> Sequence[Step]:
        return self._idle().score(ids)

    def logits_after(self, ids: Sequence[int]) -> np.ndarray:
        return self._idle().logits_after(ids)

    def close(self) -> None:
        for session in self._sessions:
            session.forget()
        self._sessions.clear()

    def _idle(self) -> Session:
        """A session whose place a question may move: not one in the middle of a run, if there is another."""
        return next((s for s in self._sessions if s not in self._busy), None) or self._extra()

    def _extra(self) -> Session:
        self._sessions.append(Session(self._checkpoint))
        return self._sessions[-1]


class LabShop:
    """The models of this machine's store, and those of the catalogue that it has the memory for."""

    def open(self, model: str, progress: Progress) -> Lab:
        name = model or catalogue.DEFAULT
        return Lab(name, load(name, progress))

    def offers(self) -> Sequence[ModelOffer]:
        here = {info.name: info for info in store.list()}
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found = [
            ModelOffer(
                name, info.nbytes, info.license, True, info.nbytes <= memory // 2, f"{info.family} {info.quantization}"
            )
            for name, info in here.items()
        ]
        fitting = {known.name for known in catalogue.offers(memory)}
        found += [
            ModelOffer(known.name, known.nbytes, known.license, False, known.name in fitting, known.title)
            for known in catalogue.KNOWN.values()
            if known.name not in here
        ]
        return found
