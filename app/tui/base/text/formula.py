"""Formula: the map of p that a screen's number belongs to, and a line of it with the present values put in.

Text becomes ids, ids a distribution p, p what is drawn from, and all of that figures: one of the four maps made every
number that is shown. What each sign of a line stands for is one table. Plain data; knows no view.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from likely.app.tui.base.text import cells

Part = tuple[str, bool]  # words of a formula, and whether they are a present value
Inked = tuple[str, str]  # words, and the ink that they are written in

MAPS = {
    "tokenizer": "text to the ids of tokens",
    "model": "ids to p, the distribution of the next",
    "decoder": "p to q, from which is drawn, and to what was drawn",
    "metric": "texts, p and q to a figure",
}

Symbol = tuple[str, str, str]  # a sign, how it is found in a line, and what it stands for
SYMBOLS: tuple[Symbol, ...] = (
    ("xᵢ", r"\bx_?[₁-₉ᵢi]", "token i of its text, counted from 1 as the panel counts"),
    ("x<ᵢ", r"x[<≤]", "all tokens before it, those of the prompt too; x≤ᵢ: itself as well"),
    ("x₁..ₙ", r"x₁\.\.ₙ", "all n tokens"),
    ("p", r"\bp[_(₀-₉]|\bp =", "the model's own probability, before anything is done to it"),
    ("q", r"\bq\(", "the probability that it is drawn with"),
    ("f", r"\bf\(", "what the sampler makes of p, its parts in the order in which they run"),
    ("T", r"\bT \d", "temperature: logits are divided by it, so that q ∝ p^(1/T)"),
    ("softmax", r"softmax", "of numbers z: e^z over the sum of all e^z"),
    ("logits", r"logit", "the model's last numbers, one for each token of the vocabulary, whose id stands below"),
    ("−log₂ p", r"−log₂ p", "surprisal: the bits that a token costs"),
    ("log₂p", r"log₂p|Σ log₂", "logarithm of p to the base 2, in bits"),
    ("H", r"\bH(?:\(| =)", "entropy: −Σ p log₂ p over all tokens, the surprisal to be expected"),
    ("Σ", r"Σ", "sum"),
    ("Π", r"Π", "product"),
    ("kept", r"   kept ", "how many tokens of the vocabulary are left to draw from"),
    ("rank", r"then rank", "its place among all texts of that step, 1 the best"),
    ("KL", r"\bKL\(", "bits a token by which one distribution differs from another: Σ p log₂ p/q"),
    ("cos", r"\bcos\(", "cosine of the angle between two vectors: 1 alike, 0 nothing in common"),
    ("e", r"\be_", "embedding: the vector that stands for a token"),
    ("μ", r"− μ\)", "mean of all embeddings"),
    ("encode", r"\bencode\(", "cut by the tokenizer into tokens"),
    ("template", r"\btemplate\(", "the chat template: who said what, with the model's own marks"),
    ("q·k", r"q·k", "query of the token that reads times key of the one that is read"),
    ("R", r"\bR = Π", "attention rolled out: all layers one after another, mean heads"),
    ("W_U", r"W_U", "the head: from the last vector to logits"),
    ("h", r"\bh[₀-₉]", "the vector of the token after a layer, whose number stands below"),
    ("γ, r", r"γ c", "the last norm: its weights, and the root of the mean square that it divides by"),
    ("c", r"Σ_c", "each part of the model that wrote something"),
)
COUNTED: tuple[Symbol, ...] = (  # in lines of no token's name, which could be a letter
    ("n", r"\bn\b", "how many are counted"),
    ("ppl", r"\bppl\b|perplexity", "perplexity: among how many equally likely tokens it is as hard to guess"),
    ("L", r"\bL\b", "loss: what is made small"),
    ("l/k", r"\(l/k\)", "tokens of the text over those that are masked"),
    ("θ, η", r"θ", "weights that are trained, and the learning rate: how far a step goes"),
    ("Δ", r"Δ", "difference, the second less the first"),
    ("±", r"±", "half of the 95 % interval"),
    ("se", r"\bse\b", "standard error of a mean: sd, the standard deviation, over √n"),
    ("N, D, C", r"\b[NDC]\b", "parameters, tokens, and the compute of a training, 6 N D operations"),
    ("E", r"\bE\b", "the loss that is left however large a model and its data are"),
)


@dataclass(frozen=True, slots=True)
class Formula:
    """`map` is one of `MAPS`; `note` says more than fits into a line."""

    map: str
    parts: Sequence[Part]
    note: str = ""

    def words(self) -> list[Inked]:
        """The line itself."""
        return [(text, "chosen" if value else "text") for text, value in self.parts]

    def beside(self, before: Sequence[Inked], width: int) -> list[Inked]:
        """The line behind other words, in so many cells with them: of its longest words the beginning is cut, and never
        a present value."""
        words, room = self.words(), width - sum(cells.width(text) for text, _ in before)
        while (excess := sum(cells.width(text) for text, _ in words) - room) > 0:
            at = max(range(len(words)), key=lambda at: len(words[at][0]) * (words[at][1] == "text"))
            text, ink = words[at]
            if len(text) < 2 or ink != "text":
                break
            least = max(cells.width(text) - excess - 1, 0)
            while cells.width(text) > least:
                text = text[1:]
            words[at] = f"…{text}", "text"
        return words

    def symbols(self) -> list[tuple[str, str]]:
        """The signs of the line and of its note, and what each stands for."""
        text = "".join(part for part, _ in self.parts) + f"\n{self.note}"
        known = SYMBOLS if self.map in ("model", "decoder") else (*SYMBOLS, *COUNTED)
        return [(sign, meaning) for sign, found, meaning in known if re.search(found, text)]


def path(map: str, *, whole: bool) -> list[Inked]:
    """All maps in their order, the one that is meant in its ink; that one alone where there is no room for them."""
    if not whole:
        return [(map, "model")]
    names: list[Inked] = []
    for name in MAPS:
        names += [(" → ", "cut")] * bool(names) + [(name, "model" if name == map else "cut")]
    return names


def low(number: int) -> str:
    """A number as an index."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
