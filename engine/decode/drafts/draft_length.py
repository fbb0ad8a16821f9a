"""`DraftLength`: how many tokens to guess at once, from what guessing has cost and brought. Knows no clock, no model.

A round that guesses k tokens takes longer than one that guesses none, and gives one token and as many as were right.
The pace takes the k with the most tokens a second by its measurements, and stops guessing while guessing has lost more
time than it may.
"""

from dataclasses import dataclass, field

LENGTHS = (1, 2, 4, 8, 15)  # a window cache can go back 16 positions
FIRST = 4  # the longest first guess
TOLERANCE = 0.01  # of the time so far that guessing may have lost
GRACE = 1.0  # plain tokens' time that it may have lost besides
MEMORY = 0.9  # what the guesses so far keep of their weight with every further round that guesses
UNTRIED = 2.5  # plain rounds that a length is taken to cost before it was measured
DRIFT = 0.02  # of the way back to hope with every round that does not guess: texts change


@dataclass(slots=True)
class DraftLength:
    """Give it every round with `record`; ask `length` before each."""

    hope: tuple[float, float]  # weights of right and wrong guesses before there are any
    rounds: int = 0
    elapsed_s: float = 0.0
    lost_s: float = 0.0  # against plain rounds of the same tokens; negative: won
    guessed: int = 0
    accepted: int = 0
    _seconds: dict[int, float] = field(default_factory=dict)  # a round with so many guesses
    _right: float = field(init=False)
    _wrong: float = field(init=False)

    def __post_init__(self) -> None:
        self._right, self._wrong = self.hope

    @property
    def rate(self) -> float:
        """How likely a guess is right, given that those before it were."""
        return self._right / (self._right + self._wrong)

    @property
    def pays(self) -> bool:
        """Whether guessing has not lost more than it may."""
        return self.lost_s <= TOLERANCE * self.elapsed_s + GRACE * self._seconds.get(0, 0.0)

    def length(self) -> int:
        """How many tokens to guess in the next round; 0 where it does not pay, or a plain round is not known yet."""
        if 0 not in self._seconds or not self.pays:
            return 0
        tried = max(self._seconds)
        longest = next((k for k in LENGTHS if k > max(tried, FIRST - 1)), LENGTHS[-1])  # a step further than known
        return max((k for k in (0, *LENGTHS) if k <= longest), key=lambda k: self._tokens(k) / self._cost(k))

    def record(self, guessed: int, accepted: int, seconds: float) -> None:
        """A round of so many guesses, of which the first `accepted` were right."""
        self.rounds += 1
        self.elapsed_s += seconds
        self.guessed += guessed
        self.accepted += accepted
        before = self._seconds.get(guessed)
        self._seconds[guessed] = seconds if before is None else before + 0.2 * (seconds - before)
        if guessed:
            self._right = MEMORY * self._right + accepted
            self._wrong = MEMORY * self._wrong + (accepted < guessed)
            if 0 in self._seconds:
                self.lost_s += seconds - (accepted + 1) * self._seconds[0]
        else:
            self._right += DRIFT * (self.hope[0] - self._right)
            self._wrong += DRIFT * (self.hope[1] - self._wrong)

    def watch(self, right: bool) -> None:
        """A guess that was not used would have been right or wrong."""
        self._right = MEMORY * self._right + right
        self._wrong = MEMORY * self._wrong + (not right)

    def _tokens(self, k: int) -> float:
        """1 + a + ... + a^k."""
        return float(sum(self.rate**i for i in range(k + 1)))

    def _cost(self, k: int) -> float:
        """Seconds; where a length was never tried, a hopeful estimate from those that were, so that it may be."""
        if k in self._seconds:
            return self._seconds[k]
        plain = self._seconds[0]
        longer = [n for n in self._seconds if n > k]
        if longer:
            return plain + (self._seconds[min(longer)] - plain) * k / min(longer)
        return self._seconds[max(self._seconds)] if len(self._seconds) > 1 else UNTRIED * plain
