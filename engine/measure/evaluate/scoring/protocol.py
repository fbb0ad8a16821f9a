"""Protocol of an evaluation: how items are asked. Knows no task."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from likely.engine.base.errors import ParameterError
from likely.engine.base.options import option
from likely.engine.diffusion.bound import DRAWS

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.text.tokenizer import Tokenizer

USUAL = 512  # tokens of a window where none are asked for


@dataclass(frozen=True, slots=True)
class Protocol:
    """How items are asked: with a task's identity and a model's, all that a score depends on."""

    prefix: str = option(
        "default", "token put before a text that nothing precedes", flag="--prefix-token", metavar="none|ID",
        usual="BOS, else EOS",
    )  # fmt: skip
    window: int = option(
        0, "tokens that are predicted from", low=2, usual=f"{USUAL}, or one less than the model's context"
    )
    stride: int = option(0, "tokens that a window after the first predicts", low=0, usual="all")
    paths: int = option(
        0, "also sum over other tokenisations of texts: so many are drawn, each as long as an answer", low=2, high=4096,
        usual="none",
    )  # fmt: skip
    chat: bool = option(False, "put contexts and texts through the chat template")
    strategy: str = option("", "how answers are drawn, as in `likely run`; of a search, the best", metavar="NAME")
    samples: int = option(1, "answers a question: adds pass@k and maj@k", low=1, high=256)
    temperature: float = option(0.0, "temperature of answers; 0: the likeliest token", flag="--temp", low=0)
    seed: int = option(0, "seed of answers that are drawn", low=0)
    unconditional: bool = True  # also the choices' probabilities without their context
    draws: int = option(  # 0: of a model that is none
        0, "masks of each text by a diffusion model, whose likelihoods are bounds", low=16, usual=str(DRAWS)
    )

    def of_model(self, session: "Session") -> "Protocol":
        """The protocol for a model: with the window that it reads, and masks where it is a diffusion model."""
        if not diffuses(session):
            return replace(self.fitted(session.context), draws=0)
        return replace(self.fitted(session.context), draws=self.draws or DRAWS, unconditional=False)

    def fitted(self, context: int) -> "Protocol":
        """The protocol with a window for models of this context: one that a diffusion model, which reads the last token
        too, has as well, so that their windows are of the same text."""
        return replace(self, window=self.window or max(2, min(USUAL, context - 1)))

    def token(self, tokenizer: "Tokenizer") -> int | None:
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


def diffuses(session: "Session") -> bool:
    """Whether its model is a diffusion model."""
    return getattr(session.model.config, "diffusion", None) is not None
