"""`TextStream`: drawn tokens as they become text, and where the text ends. Knows nothing of models and caches."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

from likely.engine.decode.loop.stop_strings import StopStrings
from likely.engine.sampling.thinking import ThoughtSpan
from likely.engine.sampling.trace.step import TokenStep

if TYPE_CHECKING:
    from likely.engine.text.tokenizer import Tokenizer


class TextStream:
    """One answer while it grows: what is certain of its text comes out of `push`, the rest of `flush`."""

    def __init__(self, tokenizer: "Tokenizer", stop: Sequence[str], thought: ThoughtSpan | None = None) -> None:
        """No `stop` string ends what is found to be `thought`, where that is looked for."""
        self.tokenizer, self._thought = tokenizer, thought
        self.tokens = 0
        self.reason = ""  # eot or stop, once it has ended
        self.rest = ""  # after `flush`: what the detokeniser held back
        self._matcher = StopStrings(tuple(stop))
        self._detokenizer = tokenizer.detokenizer(at_start=False)

    def push(self, raw: TokenStep, elapsed_s: float, precision: str = "") -> Iterator[TokenStep]:
        """The steps whose text is certain, now that `raw` was drawn, in this `precision`; "": what it says itself."""
        self.tokens += 1
        ended = raw.token in self.tokenizer.eos
        text = "" if ended else self._detokenizer.push(raw.token)
        step = with_text(self.tokenizer, raw, text, elapsed_s, precision)
        if self._thought is not None:
            self._thought.push(step.written)
        if self._thought is not None and self._thought.here:
            yield from self._matcher.flush()
            yield step
        else:
            yield from self._matcher.push(step)
        if ended or self._matcher.matched:
            self.reason = "eot" if ended else "stop"

    def flush(self) -> Iterator[TokenStep]:
        """The steps that were held back, at the end."""
        self.rest = "" if self._matcher.matched else self._detokenizer.flush()
        yield from self._matcher.flush()

    def fork(self) -> "TextStream":
        """A second one for a branch that parts here."""
        twin = TextStream(self.tokenizer, ())
        twin.tokens, twin.reason, twin._thought = self.tokens, self.reason, deepcopy(self._thought)
        twin._matcher, twin._detokenizer = self._matcher.fork(), self._detokenizer.fork()
        return twin


def with_text(tokenizer: "Tokenizer", step: TokenStep, text: str, elapsed_s: float, precision: str = "") -> TokenStep:
    """The step with what its token stands for, and the precision of its numbers where that is given."""
    piece, special = tokenizer.piece(step.token), tokenizer.is_special(step.token)
    return step.told(piece, text, special=special, elapsed_s=elapsed_s, precision=precision)
