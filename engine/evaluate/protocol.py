"""Protocol of an evaluation: how items are asked. Knows no task."""

from dataclasses import dataclass, replace

from likely.engine.diffusion.bound import DRAWS
from likely.engine.errors import ParameterError
from likely.engine.evaluate.bounded import BoundReader, diffuses, reader
from likely.engine.evaluate.likelihood import Reader
from likely.engine.session import Session
from likely.engine.tokenizer import Tokenizer

USUAL = 512  # tokens of a window where none are asked for


@dataclass(frozen=True, slots=True)
class Protocol:
    """How items are asked: with a task's identity and a model's, all that a score depends on."""

    prefix: str = "default"  # default: BOS, else EOS | none | an id
    window: int = 0  # tokens; 0: USUAL, or one less than the model's context where that is less
    stride: int = 0  # tokens that a window after the first predicts; 0: all of it
    paths: int = 0  # tokenisations of each window that are drawn beside the tokenizer's own
    chat: bool = False
    strategy: str = ""
    samples: int = 1  # answers to a question
    temperature: float = 0.0  # 0: the most likely token
    seed: int = 0
    unconditional: bool = True  # also the choices' probabilities without their context
    draws: int = 0  # masks of each text of a diffusion model, whose likelihoods are bounds; 0: of another

    def of_model(self, session: Session) -> "Protocol":
        """The same for a model: with the window that it reads, and masks where it is a diffusion model."""
        if not diffuses(session):
            return replace(self.fitted(session.context), draws=0)
        return replace(self.fitted(session.context), draws=self.draws or DRAWS, unconditional=False)

    def fitted(self, context: int) -> "Protocol":
        """The same with the window for a model of this context: one that a diffusion model, which reads the last token
        too, has as well, so that their windows are of the same text."""
        return replace(self, window=self.window or max(2, min(USUAL, context - 1)))

    def reader(self, session: Session) -> Reader | BoundReader:
        """Who scores texts for it, or bounds them. ParameterError for what bounds cannot do."""
        return reader(session, paths=self.paths, draws=self.draws, seed=self.seed)

    def token(self, tokenizer: Tokenizer) -> int | None:
        """The token in front of a text that nothing precedes; ParameterError for an id that there is not."""
        if self.prefix == "default":
            return tokenizer.bos if tokenizer.bos is not None else tokenizer.end
        if self.prefix == "none":
            return None
        if not self.prefix.isdecimal() or int(self.prefix) >= tokenizer.vocab_size:
            raise ParameterError(
                f"--prefix-token must be none or an id below {tokenizer.vocab_size}, got {self.prefix!r}"
            )
        return int(self.prefix)
