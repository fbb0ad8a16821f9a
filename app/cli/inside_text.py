"""Looks inside as a person reads them: grids and bars in a terminal, tables with commas, pictures as SVG.

Each look is made into a grid, or into named values; how those are shown is written once. Takes the plain objects that
`--json` prints. Knows nothing of models.
"""

import csv
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import click

from app import heat

if TYPE_CHECKING:
    from engine.tokenizer import Tokenizer

SHARES = (0.05, 0.2, 0.4, 0.6, 0.8)  # the levels of heat begin here
CELL, LABEL = 9, 14  # columns of a cell with a word in it, and of a row's name
BAR = 24
SHOWN = 12  # named values in a terminal


@dataclass(frozen=True, slots=True)
class Words:
    """The tokens of a text as they are shown, the first of those that are looked at being `first`."""

    tokenizer: "Tokenizer"
    ids: Sequence[int]
    first: int = 0

    def name(self, token: int) -> str:
        """A token, with what cannot be seen made visible."""
        text = self.tokenizer.piece(token).decode(errors="replace")
        return heat.visible(repr(text)[1:-1]).replace(" ", "·") or "∅"

    def positions(self) -> list[str]:
        """The tokens that are looked at."""
        return [self.name(token) for token in self.ids[self.first :]]


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells with a share 0 to 1 each, which is their tint, and a text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[str]
    shares: Sequence[Sequence[float]]
    texts: Sequence[Sequence[str]]
    cell: int = CELL
    note: str = ""


@dataclass(frozen=True, slots=True)
class Values:
    """Named numbers, the most telling first."""

    title: str
    rows: Sequence[tuple[str, float]]
    note: str = ""


def show(found: Grid | Values) -> None:
    """Print in the terminal's width and colours."""
    mode = heat.colour_mode(sys.stdout)
    width = shutil.get_terminal_size((100, 24)).columns if mode != "none" else 10_000
    click.echo(found.title)
    for line in _grid(found, mode, width) if isinstance(found, Grid) else _bars(found):
        click.echo(line)
    if found.note:
        click.echo(found.note)


def _grid(grid: Grid, mode: str, width: int) -> Iterator[str]:
    """The last columns that fit."""
    fit = max(1, (width - LABEL) // grid.cell)
    hidden = max(0, len(grid.columns) - fit)
    if hidden:
        yield f"{'':<{LABEL}}← {hidden} more"
    yield f"{'':<{LABEL}}" + "".join(_cut(name, grid.cell) for name in grid.columns[hidden:])
    for label, shares, texts in zip(grid.rows, grid.shares, grid.texts, strict=True):
        cells = zip(shares[hidden:], texts[hidden:], strict=True)
        yield _cut(label, LABEL) + "".join(_tinted(text, share, grid.cell, mode) for share, text in cells)


def _tinted(text: str, share: float, width: int, mode: str) -> str:
    cell = _cut(text, width)
    return heat.paint(cell[:-1], sum(share >= least for least in SHARES), mode) + cell[-1]


def _cut(text: str, width: int) -> str:
    return (text if len(text) < width else text[: width - 2] + "…").ljust(width)


def _bars(values: Values) -> Iterator[str]:
    shown = values.rows[:SHOWN]
    most = max((abs(value) for _, value in shown), default=0) or 1
    for name, value in shown:
        eighths = round(abs(value) / most * BAR * 8)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8]
        yield f"{_cut(name, 20)}{value:>10.4f}  {bar.rstrip()}"
    if len(values.rows) > len(shown):
        yield f"{len(values.rows) - len(shown)} smaller ones are left out here: --csv and --json have all"


def write_csv(found: Grid | Values) -> None:
    """A table with commas on stdout."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if isinstance(found, Grid):
        writer.writerow(["", *found.columns])
        writer.writerows([name, *cells] for name, cells in zip(found.rows, found.texts, strict=True))
    else:
        writer.writerow(["name", "value"])
        writer.writerows(found.rows)


def svg(grid: Grid) -> str:
    """The grid as a picture: text on tinted cells, the ramp from white to dark blue."""
    wide, high, left, top = grid.cell * 8, 20, 110, 48
    width, height = left + wide * len(grid.columns) + 8, top + high * len(grid.rows) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="18" font-weight="bold">{escape(grid.title)}</text>',
    ]

    def text(x: int, y: int, words: str, colour: str = "#202020") -> str:
        return f'<text x="{x}" y="{y}" fill="{colour}">{escape(words)}</text>'

    for i, name in enumerate(grid.columns):
        parts.append(text(left + wide * i + 3, top - 6, _cut(name, grid.cell).rstrip()))
    for j, (label, shares, texts) in enumerate(zip(grid.rows, grid.shares, grid.texts, strict=True)):
        y = top + high * j
        parts.append(text(8, y + 14, _cut(label, LABEL).rstrip()))
        for i, (share, words) in enumerate(zip(shares, texts, strict=True)):
            share = min(max(share, 0.0), 1.0)
            red, green, blue = (round(255 + (to - 255) * share) for to in (39, 80, 143))
            x = left + wide * i
            parts.append(
                f'<rect x="{x}" y="{y}" width="{wide - 1}" height="{high - 1}" fill="rgb({red},{green},{blue})"/>'
            )
            parts.append(text(x + 3, y + 14, _cut(words, grid.cell).rstrip(), "#ffffff" if share > 0.5 else "#202020"))
    return "\n".join([*parts, "</svg>"])


def lens(found: dict[str, Any], words: Words) -> Grid:
    layers = len(found["top"])
    texts = [[words.name(token) for token in row] for row in found["top"]]
    names = ["embedding", *(f"layer {i}" for i in range(layers - 1))]
    decided = " ".join(f"{name}:{layer}" for name, layer in zip(words.positions(), found["decided"], strict=True))
    return Grid(
        "What the model would say next after each layer, tinted by probability",
        words.positions(),
        names,
        found["p"],
        texts,
        note=f"decided after so many layers, and kept: {decided}",
    )


def heads(found: list[list[list[float]]], words: Words) -> Grid:
    """The mean of each head's entropies: narrow heads are dark."""
    means = [[sum(head) / len(head) for head in layer] for layer in found]
    widest = math.log(len(words.ids)) or 1
    return Grid(
        "How widely each head reads: mean entropy in bits, narrow ones tinted",
        [f"head {i}" for i in range(len(means[0]))],
        [f"layer {i}" for i in range(len(means))],
        [[max(0.0, 1 - mean / widest) for mean in layer] for layer in means],
        [[f"{mean / math.log(2):.2f}" for mean in layer] for layer in means],
        cell=8,
    )


def scores(found: dict[str, Any], words: Words) -> Values:
    """The heads that are most of each kind."""
    rows: list[tuple[str, float]] = []
    for kind in ("induction", "duplicate", "previous", "first"):
        every = [(f"{kind} {i}.{j}", x) for i, layer in enumerate(found[kind]) for j, x in enumerate(layer)]
        rows += sorted(every, key=lambda row: -row[1])[:3]
    return Values("Heads by what they do with random tokens that come twice: mean attention, 0 to 1", rows)


def attention(found: list[list[float]], words: Words) -> Grid:
    names = [words.name(token) for token in words.ids]
    return Grid(
        "What the head reads: a row a token, each sums to 1. Looking is not yet causing",
        names,
        words.positions(),
        found,
        [[f"{weight:.3f}" if weight >= 0.0005 else "" for weight in row] for row in found],
        cell=7,
    )


def attribution(found: dict[str, Any], words: Words) -> Values:
    rows = [(f"head {i}.{j}", x) for i, layer in enumerate(found["heads"]) for j, x in enumerate(layer)]
    rows += [(f"mlp {i}", x) for i, x in enumerate(found["mlp"])]
    rows += [("embedding", found["embedding"]), ("bias", found["bias"])]
    rows.sort(key=lambda row: -abs(row[1]))
    foil = found.get("against")
    over = "" if foil is None else f" over {words.name(foil)} ({foil})"
    return Values(
        f"What each part wrote of the logit of {words.name(found['token'])} ({found['token']}){over}",
        rows,
        f"sum {found['sum']:.4f} · logit {found['logit']:.4f}"
        + ("" if over else " · a logit has a free constant: --against ID compares two tokens"),
    )


def ablation(found: dict[str, Any], words: Words) -> Values:
    rows = [
        ("logit", found["logit"]),
        ("without the head", found["logit"] + found["effect"]),
        ("effect", found["effect"]),
    ]
    return Values(f"The logit of {words.name(found['token'])} ({found['token']}) after the text", rows)


def patching(found: dict[str, Any], words: Words) -> Grid:
    r = found["correlation"]
    return Grid(
        f"Share of {words.name(found['answer'])} over {words.name(found['foil'])} that a patch of the clean text's "
        f"{found['part']} brings back, at each layer and token",
        words.positions(),
        [f"layer {i}" for i in range(len(found["effects"]))],
        found["effects"],
        [[f"{share:.2f}" for share in row] for row in found["effects"]],
        cell=8,
        note=f"difference of logits {found['clean']:.3f} clean, {found['corrupted']:.3f} corrupted"
        + ("" if r is None else f" · the gradient's estimate of this table correlates with it by {r:.2f}"),
    )


def importance(found: dict[str, Any], words: Words) -> Values:
    rows = [
        (f"{i} {words.name(token)}", x) for i, (token, x) in enumerate(zip(words.ids, found["left_out"], strict=True))
    ]
    rows.sort(key=lambda row: -abs(row[1]))
    r = found["agreement"]
    return Values(
        f"What {words.name(found['token'])} owes to each token: nats of its log-probability that go without it",
        rows,
        f"log-probability {found['logprob']:.4f}"
        + ("" if r is None else f" · gradient x input ranks the tokens alike by {r:.2f} (Spearman)"),
    )


def spellings(found: dict[str, Any], words: Words) -> Values:
    rows = [
        ("|".join(map(words.name, way["ids"])) + (" (own)" if way["own"] else ""), way["logprob"])
        for way in found["spellings"]
    ]
    own = next(way["logprob"] for way in found["spellings"] if way["own"])
    return Values(
        "The same text in other tokens: log-probability of each way, nats",
        rows,
        f"all {'' if found['complete'] else 'that were scored '}together {found['logprob']:.4f}, the tokenizer's own "
        f"{own:.4f}: it has {math.exp(own - found['logprob']):.2%} of that",
    )


def steering(found: dict[str, Any], words: Words) -> Values:
    rows = [(f"weight {weight:g}", kl) for weight, kl in zip(found["weights"], found["kl"], strict=True)]
    return Values(
        f"How far the direction after layer {found['layer']} (length {found['norm']:.2f}) moves what comes next in the "
        "text: mean KL to the unsteered model, nats",
        rows,
    )


def neighbours(found: list[dict[str, Any]], words: Words) -> Values:
    return Values(
        "Nearest tokens by the cosine of their embeddings",
        [(f"{words.name(near['id'])} ({near['id']})", near["cosine"]) for near in found],
    )


def rollout(found: list[list[float]], words: Words) -> Grid:
    grid = attention(found, words)
    return replace(grid, title="What each token reads through all layers, mean heads: the product of (A + I) / 2")


def summed(found: dict[str, Any], words: Words) -> Values:
    rows = [(f"{words.name(near['id'])} ({near['id']})", near["cosine"]) for near in found["left_out"]]
    kept = ", ".join(f"{words.name(near['id'])} {near['cosine']:.3f}" for near in found["kept"][:3])
    right = found["accuracy"]
    return Values(
        "Nearest tokens to the sum, its own words left out",
        rows,
        f"with them: {kept}" + ("" if right is None else f" · of the built-in sums {right:.0%} come out (--relations)"),
    )


def relations(found: list[dict[str, Any]], words: Words) -> Values:
    return Values(
        "How often b - a + c gives the word that is right, the inputs left out",
        [(row["name"], row["left_out"]) for row in found],
        "95 %, by pair: " + ", ".join(f"{low:.0%} to {high:.0%}" for low, high in (row["interval"] for row in found))
        + " · with the inputs: " + ", ".join(f"{row['kept']:.0%}" for row in found),
    )  # fmt: skip


def merges(found: list[list[str]], words: Words) -> Values:
    rows = [("|".join(piece.replace(" ", "·") for piece in step), float(len(step))) for step in found]
    return Values("The pieces of the word before the first merge and after each, and how many they are", rows)


FORMS: dict[str, Callable[[Any, Words], Grid | Values]] = {
    "lens": lens,
    "heads": heads,
    "scores": scores,
    "attention": attention,
    "attribution": attribution,
    "ablate": ablation,
    "patch": patching,
    "importance": importance,
    "spellings": spellings,
    "toward": steering,
    "neighbours": neighbours,
    "rollout": rollout,
    "sum": summed,
    "relations": relations,
    "merges": merges,
}
