"""`StopStrings`: ends a text before a stop string, however the string is split over tokens. Knows nothing of models."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from likely.engine.sampling.trace.step import TokenStep


@dataclass(slots=True)
class StopStrings:
    """Passes steps on, and holds back those whose text could be the beginning of a stop string.

    `push` yields the steps that are certain; once a stop string has appeared `matched` is true, and the last steps
    have their text cut to what stood before it. `flush` gives what was still held when the run ended otherwise.
    """

    stops: tuple[str, ...]
    matched: bool = False
    _held: list[TokenStep] = field(default_factory=list)

    def push(self, step: TokenStep) -> Iterator[TokenStep]:
        if not self.stops:
            yield step
            return
        self._held.append(step)
        text = "".join(held.text for held in self._held)
        places = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        if places:
            self.matched = True
            yield from self._cut(min(places))
            return
        certain = len(text) - self._overlap(text)
        while self._held and len(self._held[0].text) <= certain:
            certain -= len(self._held[0].text)
            yield self._held.pop(0)

    def flush(self) -> Iterator[TokenStep]:
        yield from self._held
        self._held.clear()

    def fork(self) -> "StopStrings":
        """A second one that holds back the same."""
        return replace(self, _held=list(self._held))

    def _overlap(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = max(len(stop) for stop in self.stops) - 1
        return next(
            (n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in self.stops)), 0
        )

    def _cut(self, at: int) -> Iterator[TokenStep]:
        for step in self._held:
            yield replace(step, text=step.text[: max(at, 0)])
            at -= len(step.text)
        self._held.clear()
