"""Where the screen's engine thread gets its models. Imported there and nowhere else: everything of mlx hangs on it."""

import os
from collections.abc import Callable, Sequence

from app.tui.messages import ModelFacts, ModelOffer
from engine import catalogue, store
from engine.checkpoint import Checkpoint, load
from engine.session import Session

Progress = Callable[[str, int, int], None]


class Lab(Session):
    """A loaded model as the screen's bridge wants it: a session that says what the screen shows of its model."""

    def __init__(self, name: str, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        tokenizer, info = checkpoint.tokenizer, checkpoint.info
        self.facts = ModelFacts(
            name=name,
            context=self.context,
            vocabulary=tuple(tokenizer.piece(token) for token in range(tokenizer.vocab_size)),
            chat=tokenizer.chat_template is not None,
            nbytes=info.nbytes,
            title=info.name.rstrip("/").rpartition("/")[2].removesuffix(".gguf"),
            family=info.family,
            quantization=info.quantization,
            digest=info.weights,
            eos=frozenset(tokenizer.eos),
        )

    def close(self) -> None:
        """Let the caches go."""
        self.forget()


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
