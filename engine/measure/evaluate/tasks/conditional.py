"""Items whose measures are what a context does to the probability of a text: pairs judged, texts conditioned, texts
restated, contexts changed. Plain data, no model.

Each form says which continuations are asked after which contexts (`asked`), and what their log-probabilities, in nats
and in that order, are worth (`measures`). These are stand-ins: none of them is the thing that it stands in for.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

Values = Mapping[str, Any]
Asked = list[tuple[str, tuple[str, ...]]]  # contexts, each with what is asked after it

VERDICTS = ("A", "B", "C")  # the first, the second, neither
CLEAR = 0.5  # the least probability of the three verdicts together that is one
JUDGE = """Two answers to the same request are compared.

Request:
{prompt}

Answer A:
{first}

Answer B:
{second}

Which answer is better? Give its letter alone, A or B, or C if neither is better.
The better one is Answer"""


class AskingSettings(Protocol):
    """Settings of a task that contexts depend on."""

    @property
    def delimiter(self) -> str: ...

    @property
    def judge(self) -> str: ...


def _texts(values: Values, *keys: str) -> list[str] | str:
    texts = [values[key] for key in keys]
    if all(isinstance(text, str) and text.strip() for text in texts):
        return texts
    return f"empty: {', '.join(keys[:-1])} and {keys[-1]} must be texts"


def _bits(nats: float) -> float:
    return nats / math.log(2)


def _above(a: float, b: float) -> float:
    return 0.5 if a == b else float(a > b)


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """Two answers to one prompt, of which a model says which is better: twice, each standing first once.

    Votes of a verdict that is a tie, or unclear, are worth a half: `win_rate` is answer a's, over both orders.
    """

    prompt: str
    answer_a: str
    answer_b: str
    preferred: str | None = None  # a | b | tie, where people said so

    NAME: ClassVar[str] = "judged"
    KEYS: ClassVar[tuple[str, ...]] = ("prompt", "answer_a", "answer_b")

    @classmethod
    def of(cls, values: Values, row: Values) -> Self | str:
        texts = _texts(values, *cls.KEYS)
        if isinstance(texts, str):
            return texts
        preferred = row.get("preferred")
        if preferred not in (None, "", "a", "b", "tie"):
            return f"unanswerable: preferred must be a, b or tie, got {preferred!r}"
        return cls(texts[0], texts[1], texts[2], preferred or None)

    def asked(self, settings: AskingSettings) -> Asked:
        verdicts = tuple(f" {verdict}" for verdict in VERDICTS)
        template = settings.judge or JUDGE
        orders = (self.answer_a, self.answer_b), (self.answer_b, self.answer_a)
        return [(judged(template, self.prompt, *order), verdicts) for order in orders]

    def measures(self, logprobs: Sequence[float]) -> dict[str, float]:
        """win_rate, and win_probability by the verdicts' probabilities; first_position, the share of votes for what
        stood first (0.5 of a judge without bias); consistent, whether both orders say the same; ties and unclear, the
        shares of such verdicts; agreement with people over both orders, where they said something."""
        votes, odds, kinds = [], [], []  # of what stands first
        for low in (0, len(VERDICTS)):
            mass = [math.exp(value) for value in logprobs[low : low + len(VERDICTS)]]
            total = math.fsum(mass)
            best = mass.index(max(mass))
            kind = "unclear" if total < CLEAR else ("first", "second", "tie")[best]
            kinds.append(kind)
            votes.append({"first": 1.0, "second": 0.0}.get(kind, 0.5))
            odds.append((mass[0] + mass[2] / 2) / total if total else 0.5)
        win = (votes[0] + 1 - votes[1]) / 2
        values = {
            "win_rate": win,
            "win_probability": (odds[0] + 1 - odds[1]) / 2,
            "first_position": (votes[0] + votes[1]) / 2,
            "consistent": float(votes[0] == 1 - votes[1] and "unclear" not in kinds),
            "ties": kinds.count("tie") / 2,
            "unclear": kinds.count("unclear") / 2,
        }
        if self.preferred is not None:
            verdict = "tie" if win == 0.5 else "a" if win > 0.5 else "b"
            values["agreement"] = float(verdict == self.preferred)
        return values


def judged(template: str, prompt: str, first: str, second: str) -> str:
    """A judge's prompt; what stands in braces within the texts stays as it is."""
    words = {"prompt": prompt, "first": first, "second": second}
    return re.sub(r"\{(prompt|first|second)\}", lambda match: words[match[1]], template)


def check_judge(template: str) -> str | None:
    """The error of a template for a judge; None where it can be asked."""
    lacking = [key for key in ("{first}", "{second}") if key not in template]
    return f"judge must hold {' and '.join(lacking)}, where the answers stand" if template and lacking else None


@dataclass(frozen=True, slots=True)
class ConditionedText:
    """A text after its own context, after another's, and alone."""

    context: str
    continuation: str
    other: str  # the context of another text

    NAME: ClassVar[str] = "conditioned"
    KEYS: ClassVar[tuple[str, ...]] = ("context", "continuation", "other")

    @classmethod
    def of(cls, values: Values, _: Values) -> Self | str:
        texts = _texts(values, *cls.KEYS)
        return texts if isinstance(texts, str) else cls(*texts)

    def asked(self, settings: AskingSettings) -> Asked:
        continuations = (f"{settings.delimiter}{self.continuation}",)
        return [(self.context, continuations), (self.other, continuations), ("", continuations)]

    def measures(self, logprobs: Sequence[float]) -> dict[str, float]:
        """own_context: whether its own context makes the text more likely than the other's (0.5 by chance); pmi, their
        pointwise mutual information log p(text | context) / p(text) in bits, and surprisal_drop, that over the text's
        bytes; both also with the other context, as NAME_shuffled."""
        own, other, alone = logprobs
        size = len(self.continuation.encode())
        pmi, shuffled = _bits(own - alone), _bits(other - alone)
        return {
            "own_context": _above(own, other),
            "surprisal_drop": pmi / size,
            "surprisal_drop_shuffled": shuffled / size,
            "pmi": pmi,
            "pmi_shuffled": shuffled,
        }


@dataclass(frozen=True, slots=True)
class RestatedText:
    """A text, the same in other words, and another text in other words."""

    original: str
    paraphrase: str
    other: str

    NAME: ClassVar[str] = "restated"
    KEYS: ClassVar[tuple[str, ...]] = ("original", "paraphrase", "other")

    @classmethod
    def of(cls, values: Values, _: Values) -> Self | str:
        texts = _texts(values, *cls.KEYS)
        return texts if isinstance(texts, str) else cls(*texts)

    def asked(self, settings: AskingSettings) -> Asked:
        original, paraphrase, other = (f"{settings.delimiter}{text}" for text in self.texts)
        return [
            (self.original, (paraphrase, other)),
            (self.paraphrase, (original,)),
            (self.other, (original,)),
            ("", (original, paraphrase, other)),
        ]

    @property
    def texts(self) -> tuple[str, str, str]:
        return self.original, self.paraphrase, self.other

    def measures(self, logprobs: Sequence[float]) -> dict[str, float]:
        """pmi: the mean of both ways' pointwise mutual information, in bits, and of the original and the other
        paraphrase as pmi_shuffled; pmi_forward and pmi_backward one by one; own_pair: whether it is above the other's.
        """
        after_p, after_o, back_p, back_o, original, paraphrase, other = logprobs
        forward, backward = _bits(after_p - paraphrase), _bits(back_p - original)
        shuffled = (_bits(after_o - other) + _bits(back_o - original)) / 2
        pmi = (forward + backward) / 2
        return {
            "own_pair": _above(pmi, shuffled),
            "pmi": pmi,
            "pmi_shuffled": shuffled,
            "pmi_forward": forward,
            "pmi_backward": backward,
        }


@dataclass(frozen=True, slots=True)
class ChangedContext:
    """Two contexts, after which the next-token distributions are compared: see `engine.statistics.measures`."""

    context: str
    changed: str

    NAME: ClassVar[str] = "changed"
    KEYS: ClassVar[tuple[str, ...]] = ("context", "changed")

    @classmethod
    def of(cls, values: Values, _: Values) -> Self | str:
        texts = _texts(values, *cls.KEYS)
        return texts if isinstance(texts, str) else cls(*texts)
