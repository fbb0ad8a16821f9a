"""Tables of what looks inside have found: each a grid or named values, from the engine's own results.

For the verb and for the view, as JSON, with commas, and as a picture. Knows nothing of models and terminals.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from likely.app.words import heat
from likely.app.words.tables import Grid, Values, csv_text, svg
from likely.app.words.units import NATS, bits, json_line
from likely.engine.base.errors import DataError
from likely.engine.inside.questions import (
    Ablation,
    Accuracy,
    Attribution,
    HeadScores,
    Importance,
    Lens,
    Neighbour,
    Patching,
    Tokenisation,
    WordSum,
)
from likely.engine.sampling.transforms import Vocabulary

WROTE = 11  # parts of the model that have a row
KEYS = {"ablate": "ablation", "patch": "patching", "toward": "steering", "spellings": "tokenisation"}  # in JSON


@dataclass(frozen=True, slots=True)
class Words:
    """The tokens of a text as they are shown, the first of those that are looked at being `first`."""

    vocabulary: Vocabulary
    ids: Sequence[int]
    first: int = 0

    def name(self, token: int) -> str:
        """A token, with what cannot be seen made visible."""
        text = self.vocabulary.piece(token).decode(errors="replace")
        return heat.visible(repr(text)[1:-1]).replace(" ", "·") or "∅"

    def positions(self) -> list[str]:
        """The tokens that are looked at."""
        return [self.name(token) for token in self.ids[self.first :]]


def object_of(ids: Sequence[int], first: int, results: Mapping[str, Any]) -> str:
    """One JSON object: the ids, the first position that is looked at where it is not 0, and what was found by look."""
    begins = {"first": first} if first else {}
    named = {KEYS.get(look, look): value for look, value in results.items() if look != "target"}
    named |= results.get("target", {})  # its parts have names of their own
    units = ({"heads": NATS} if "heads" in results else {}) | ({"left_out": NATS} if "importance" in results else {})
    units |= dict.fromkeys(("surprisal", "wrote", "sum", "left_out"), "bits") if "target" in results else {}
    return json_line({"ids": list(ids), **begins, **named}, **units)


def written(suffix: str, vocabulary: Vocabulary, ids: Sequence[int], first: int, look: str, result: Any) -> str:
    """A file of one look, as its suffix says. DataError for a suffix that is none, and for a picture of no grid."""
    table = FORMS[look](result, Words(vocabulary, ids, first))
    match suffix.lower():
        case ".json":
            return object_of(ids, first, {look: result}) + "\n"
        case ".csv":
            return csv_text(table)
        case ".svg" if isinstance(table, Grid):
            return svg(table) + "\n"
        case ".svg":
            raise DataError(f"a picture is drawn of a grid, and this is none: take .csv for {KEYS.get(look, look)}")
    raise DataError(f"a file is written as .json, .csv or .svg, got {suffix or 'a name without an ending'}")


def lens(result: Lens, words: Words) -> Grid:
    layers = len(result.top)
    names = ["embedding", *(f"layer {i}" for i in range(layers - 1))]
    decided = " ".join(f"{name}:{layer}" for name, layer in zip(words.positions(), result.decided, strict=True))
    return Grid(
        "What the model would say next after each layer, tinted by probability",
        words.positions(),
        names,
        result.p.tolist(),
        [[words.name(token) for token in row] for row in result.top.tolist()],
        note=f"decided after so many layers, and kept: {decided}",
    )


def heads(result: np.ndarray, words: Words) -> Grid:
    """The mean of each head's entropies: narrow heads are dark."""
    means = [[sum(head) / len(head) for head in layer] for layer in result.tolist()]
    widest = math.log(len(words.ids)) or 1
    return Grid(
        "How widely each head reads: mean entropy in bits, narrow ones tinted",
        [f"head {i}" for i in range(len(means[0]))],
        [f"layer {i}" for i in range(len(means))],
        [[max(0.0, 1 - mean / widest) for mean in layer] for layer in means],
        [[f"{bits(mean):.2f}" for mean in layer] for layer in means],
        cell=8,
    )


def _of_heads(result: np.ndarray, name: str) -> list[tuple[str, float]]:
    """The numbers [layers, H] of heads, by their names."""
    return [(f"{name} {i}.{j}", x) for i, layer in enumerate(result.tolist()) for j, x in enumerate(layer)]


def scores(result: HeadScores, words: Words) -> Values:
    """The heads that are most of each kind."""
    rows: list[tuple[str, float]] = []
    for kind in result.KINDS:
        rows += sorted(_of_heads(result[kind], kind), key=lambda row: -row[1])[:3]
    return Values("Heads by what they do with random tokens that come twice: mean attention, 0 to 1", rows)


def attention(result: np.ndarray, words: Words) -> Grid:
    names, weights = [words.name(token) for token in words.ids], result.tolist()
    return Grid(
        "What the head reads: a row a token, each sums to 1. Looking is not yet causing",
        names,
        words.positions(),
        weights,
        [[f"{weight:.3f}" if weight >= 0.0005 else "" for weight in row] for row in weights],
        cell=7,
    )


def attribution(result: Attribution, words: Words) -> Values:
    rows = _of_heads(result.heads, "head") + [(f"mlp {i}", x) for i, x in enumerate(result.mlp.tolist())]
    rows += [("embedding", result.embedding), ("bias", result.bias)]
    rows.sort(key=lambda row: -abs(row[1]))
    over = "" if result.against is None else f" over {words.name(result.against)} ({result.against})"
    return Values(
        f"What each part wrote of the logit of {words.name(result.token)} ({result.token}){over}",
        rows,
        f"sum {result.sum:.4f} · logit {result.logit:.4f}"
        + ("" if over else " · a logit has a free constant: --against ID compares two tokens"),
    )


def ablation(result: Ablation, words: Words) -> Values:
    rows = [("logit", result.logit), ("without the head", result.logit + result.effect), ("effect", result.effect)]
    return Values(f"The logit of {words.name(result.token)} ({result.token}) after the text", rows)


def patching(result: Patching, words: Words) -> Grid:
    r, effects, heads = result.correlation, result.effects.tolist(), result.part == "heads"
    return Grid(
        f"Share of {words.name(result.answer)} over {words.name(result.foil)} that a patch of the clean text's "
        f"{result.part} brings back, at each layer and {'head' if heads else 'token'}",
        [f"head {i}" for i in range(len(effects[0]))] if heads else words.positions(),
        [f"layer {i}" for i in range(len(effects))],
        effects,
        [[f"{share:.2f}" for share in row] for row in effects],
        cell=8,
        note=f"difference of logits {result.clean:.3f} clean, {result.corrupted:.3f} corrupted"
        + ("" if r is None else f" · the gradient's estimate of this table correlates with it by {r:.2f}"),
    )


def importance(result: Importance, words: Words) -> Values:
    rows = [
        (f"{i} {words.name(token)}", bits(x))
        for i, (token, x) in enumerate(zip(words.ids, result.left_out.tolist(), strict=True))
    ]
    rows.sort(key=lambda row: -abs(row[1]))
    r = result.agreement
    return Values(
        f"What {words.name(result.token)} owes to each token: bits by which it is more surprising without it",
        rows,
        f"surprisal {bits(-result.logprob):.4f} bits"
        + ("" if r is None else f" · gradient x input ranks the tokens alike by {r:.2f} (Spearman)"),
        "bits",
    )


def spellings(result: Tokenisation, words: Words) -> Values:
    rows = [
        ("|".join(map(words.name, way.ids)) + (" (own)" if way.own else ""), bits(-way.logprob))
        for way in result.spellings
    ]
    own, logprob = result.own.logprob, result.logprob
    return Values(
        "The same text in other tokens: surprisal of each way, bits",
        rows,
        f"all {'' if result.complete else 'that were scored '}together {bits(-logprob):.4f} bits, the "
        f"tokenizer's own {bits(-own):.4f}: it has {math.exp(own - logprob):.2%} of that",
        "bits",
    )


def steering(result: Mapping[str, Any], words: Words) -> Values:
    rows = [(f"weight {weight:g}", bits(kl)) for weight, kl in zip(result["weights"], result["kl"], strict=True)]
    return Values(
        f"How far the direction after layer {result['layer']} (length {result['norm']:.2f}) moves what comes next in "
        "the text: mean KL to the unsteered model, bits a token",
        rows,
        unit="bits a token",
    )


def _near(result: Sequence[Neighbour], words: Words) -> list[tuple[str, float]]:
    return [(f"{words.name(near.id)} ({near.id})", near.cosine) for near in result]


def neighbours(result: Sequence[Neighbour], words: Words) -> Values:
    return Values("Nearest tokens by the cosine of their embeddings", _near(result, words))


def rollout(result: np.ndarray, words: Words) -> Grid:
    grid = attention(result, words)
    return replace(grid, title="What each token reads through all layers, mean heads: the product of (A + I) / 2")


def summed(result: WordSum, words: Words) -> Values:
    nearest = ", ".join(f"{words.name(near.id)} {near.cosine:.3f}" for near in result.kept[:3])
    right = result.accuracy
    return Values(
        "Nearest tokens to the sum, its own words left out",
        _near(result.left_out, words),
        f"with them: {nearest}"
        + ("" if right is None else f" · of the built-in sums {right:.0%} come out (--relations)"),
    )


def relations(result: Sequence[Accuracy], words: Words) -> Values:
    return Values(
        "How often b - a + c gives the word that is right, the inputs left out",
        [(row.name, row.left_out) for row in result],
        "95 %, by pair: " + ", ".join(f"{low:.0%} to {high:.0%}" for low, high in (row.interval for row in result))
        + " · with the inputs: " + ", ".join(f"{row.kept:.0%}" for row in result),
    )  # fmt: skip


def merges(result: Sequence[Sequence[bytes]], words: Words) -> Values:
    steps = [[piece.decode(errors="replace").replace(" ", "·") for piece in step] for step in result]
    return Values(
        "The pieces of the word before the first merge and after each, and how many they are",
        [("|".join(step), float(len(step))) for step in steps],
    )


def why(result: Any, words: Words) -> Values:
    """Which parts wrote the difference of two words; how their ranks rose, and what they owe to earlier words."""
    target, foil = (words.name(result[which]) for which in ("target", "foil"))
    parts = sorted(result["wrote"], key=lambda row: -abs(row[1]))
    rest = sum(x for _, x in parts[WROTE:])
    rows = [*parts[:WROTE], *([(f"+ {len(parts) - WROTE} smaller", rest)] if parts[WROTE:] else [])]
    lines = [f"sum {result['sum']:+.2f} bits: {result['surprisal'][0]:.1f} bits against {result['surprisal'][1]:.1f}"]
    for which, name in enumerate((target, foil)):
        ranks = [pair[which] for pair in result["rank"]]
        lines.append(f"rank of {name} by layer: {' '.join(f'{rank:,}' for rank in ranks)}")
    lost = sorted(result["left_out"], key=lambda row: -row[1])[:6]
    needs = "  ".join(f"{words.name(words.ids[at])} {x:.1f}" for at, x in lost)
    lines.append(f"bits of {target} lost without an earlier word: {needs or 'there is none'}")
    return Values(f"which parts wrote the logit of {target} over {foil}, bits", rows, "\n".join(lines), "bits")


GRIDS: dict[str, Callable[[Any, Words], Grid]] = {
    "lens": lens,
    "heads": heads,
    "attention": attention,
    "rollout": rollout,
    "patch": patching,
}
FORMS: dict[str, Callable[[Any, Words], Grid | Values]] = {
    **GRIDS,
    "scores": scores,
    "attribution": attribution,
    "target": why,
    "ablate": ablation,
    "importance": importance,
    "spellings": spellings,
    "toward": steering,
    "neighbours": neighbours,
    "sum": summed,
    "relations": relations,
    "merges": merges,
}
