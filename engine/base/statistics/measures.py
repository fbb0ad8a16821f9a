"""Measures: the one table of what a figure is called, what it is of, its unit, which way is better, how it is printed.

A new one is an entry here, and where it is computed: of two next-token distributions beside the entry (`value`), which
is all that `likely diff`, `quantize` and tasks of changed contexts need. A name may have an end of its own, as in
nats_at_most, exact pass@4 or acc_typos. Knows neither models nor figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.arrays import Array, Namespace
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.scores import stem

Better = Literal["higher", "lower", "neither"]
Value = Callable[[Array, Array, Namespace], Array]  # of log-probabilities [..., V] before and now, by xp: [...]


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of items, texts or distributions; of several, the mean is reported, or what they add up to."""

    name: str
    unit: str  # nats, bits, tokens, bytes, words; share of what lies between 0 and 1; "" of a bare number
    better: Better  # which way, where models are compared
    of: str  # of what
    form: str = ""  # a format; "": four digits after the point, fewer of what is large
    value: Value | None = None  # where it is of the next-token distributions before and now
    note: str = ""  # what to know of its interval, said beside it


MEASURES: tuple[Measure, ...] = (
    # of two next-token distributions
    Measure("kl", "nats", "lower", "KL(now || before)", value=lambda p, q, xp: arrays.kl(q, p, xp)),
    Measure("reverse_kl", "nats", "lower", "KL(before || now)", value=arrays.kl),
    Measure("js", "nats", "lower", "Jensen-Shannon divergence", value=arrays.js),
    Measure("tv", "share", "lower", "total variation distance", value=arrays.tv),
    Measure(
        "same_top", "share", "higher", "the same most likely token",
        value=lambda p, q, xp: xp.argmax(p, -1) == xp.argmax(q, -1),
    ),
    # of given texts, choices and laws
    Measure("nats", "nats", "lower", "minus the log-probability of a text"),
    Measure("tokens", "tokens", "neither", "tokens of a text that were predicted", ".0f"),
    Measure("bytes", "bytes", "neither", "bytes of a text", ".0f"),
    Measure("perplexity", "", "lower", "exp of the mean nats a token"),
    Measure("bits_per_byte", "bits a byte", "lower", "minus log2 of a text's probability, by its bytes"),
    Measure("draw_variance", "nats^2", "neither", "variance of a bound by the masks that were drawn"),
    Measure("ambiguity", "bits a byte", "neither", "what a text's other tokenisations add"),
    Measure("acc", "share", "higher", "the right text is the likeliest"),
    Measure("acc_norm", "share", "higher", "the same by characters"),
    Measure("acc_bytes", "share", "higher", "the same by bytes"),
    Measure("acc_mutual_info", "share", "higher", "the same by what the context adds"),
    Measure("brier_score", "", "lower", "squared distance of probabilities from the right choice, 0 to 2"),
    Measure("nll", "nats", "lower", "minus the log-probability of the right choice among the choices"),
    Measure("confidence", "share", "neither", "the probability of the choice that is taken"),
    Measure("ece", "share", "lower", "confidence against how often it is right, bins of equal width"),
    Measure("ece_adaptive", "share", "lower", "the same, bins of as many items"),
    Measure("rmsce_debiased", "share", "lower", "the same, squared, each bin's variance taken off"),
    Measure("mass", "share", "higher", "what the model gives to all that a law allows"),
    Measure("flips", "share", "lower", "another choice is taken where an item is asked otherwise"),
    Measure("contaminated", "share", "neither", "items that stand in the training texts"),
    Measure("min_20_auc", "share", "neither", "documents that were seen are told by their least likely tokens"),
    # of answers that are drawn
    Measure("exact", "share", "higher", "the answer to the letter"),
    Measure("normalised", "share", "higher", "the answer but for case, articles and punctuation"),
    Measure("numeric", "share", "higher", "the answer's last number"),
    Measure("regex", "share", "higher", "what a pattern finds in the answer"),
    Measure("math", "share", "higher", "the answer as mathematics"),
    Measure("program", "share", "higher", "what a program says of the answer"),
    Measure("right_tool", "share", "higher", "the right tool is called, or none where none is right"),
    Measure("right_arguments", "share", "higher", "where a call is right: it is made with its very arguments"),
    Measure("needless_call", "share", "lower", "where none is right: a tool is called"),
    Measure("right_choice", "share", "higher", "the probability of the right tool, or of none, where it was chosen"),
    # of a judge, and stand-ins for what texts are
    Measure("win_rate", "share", "higher", "votes for the first of two answers, over both orders"),
    Measure("win_probability", "share", "higher", "the same by the verdicts' probabilities"),
    Measure("first_position", "share", "neither", "votes for what stood first"),
    Measure("consistent", "share", "higher", "both orders say the same"),
    Measure("ties", "share", "neither", "verdicts that neither is better"),
    Measure("unclear", "share", "lower", "verdicts without half of the probability"),
    Measure("agreement", "share", "higher", "verdicts as people gave them"),
    Measure("own_context", "share", "higher", "a text is likelier after its own context than after another's"),
    Measure("surprisal_drop", "bits a byte", "higher", "by how much its own context makes a text likelier"),
    Measure("surprisal_drop_shuffled", "bits a byte", "neither", "the same of another text's context"),
    Measure("pmi", "bits", "higher", "mutual information of two texts, point by point"),
    Measure("pmi_shuffled", "bits", "neither", "the same of texts that do not belong together"),
    Measure("own_pair", "share", "higher", "a text is nearer its own paraphrase than another's"),
    Measure("cosine", "", "higher", "likeness of the hidden states of two texts"),
    Measure("cosine_shuffled", "", "neither", "the same of texts that do not belong together"),
    # of generated texts against others
    Measure("mmd2", "", "lower", "distance of the two laws by these features, without bias"),
    Measure("mmd2_p", "share", "neither", "p that there is none"),
    Measure("precision", "share", "higher", "made texts near a real one: low, bad texts"),
    Measure("recall", "share", "higher", "real texts near a made one: low, lost modes"),
    Measure("density", "", "higher", "how many real texts' neighbourhoods a made one is in"),
    Measure("coverage", "share", "higher", "real texts with a made one among their neighbours"),
    Measure(
        "mauve", "share", "higher", "area under the curve of both KLs to mixtures",
        note="by simulation its interval holds 65 to 88 %, not 95: the buckets are taken as given",
    ),
    Measure(
        "vendi", "texts", "higher", "how many different texts there are, as it were",
        note="by simulation its interval holds 90 to 99 %, but 86 where only a few texts are unlike the rest",
    ),
    Measure("distinct", "share", "higher", "different n-grams among all"),
    Measure("self_bleu", "share", "lower", "how alike made texts are"),
    Measure("novelty", "share", "neither", "word n-grams that are in no real text"),
    Measure("judge_perplexity", "", "neither", "perplexity of the made texts under a judge"),
    Measure("token_entropy", "nats", "neither", "entropy of a text's own tokens"),
    Measure("nearer", "share", "neither", "nearer a real row than 95 % of held-out ones: 5 % by chance"),
    Measure("shares_more", "share", "neither", "share a longer run than 95 % of held-out rows: 5 % by chance"),
    Measure("longest_run", "words", "neither", "words in a row that stand in a real row"),
    Measure("length_js", "nats", "lower", "lengths by doubling"),
    Measure("label_js", "nats", "lower", "answers"),
)  # fmt: skip


def measure(name: str) -> Measure:
    """The entry of a figure's name, whatever its end says; of one that there is not, one that is compared with none."""
    known = {entry.name: entry for entry in MEASURES}
    prefix = stem(name).partition(" ")[0]
    while prefix and prefix not in known:
        prefix = prefix.rpartition("_")[0]
    return known.get(prefix, Measure(name, "", "neither", ""))


def every(before: np.ndarray, now: np.ndarray) -> dict[str, float]:
    """All measures of two next-token distributions by name, by their logits [V]."""
    p, q = (arrays.logprobs(np.asarray(logits, np.float64), np) for logits in (before, now))
    return {entry.name: float(entry.value(p, q, np)) for entry in MEASURES if entry.value is not None}


def values(names: Sequence[str]) -> dict[str, Value]:
    """How these measures of two next-token distributions are computed; ParameterError for one that there is not."""
    known = {entry.name: entry for entry in MEASURES if entry.value is not None}
    for name in names:
        if name not in known:
            there = ", ".join(f"{entry.name} ({entry.of})" for entry in known.values())
            raise ParameterError(f"there is no metric {name}: there are {there}")
    return {name: of for name in names if (of := known[name].value) is not None}
