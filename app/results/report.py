"""A report of evaluations: one HTML file with its pictures in it, which opens without a network.

Figures with their intervals, models against the first, reliability, the items on which two models differ, and what it
takes to measure all of it again.
"""

import json
import math
import shlex
from collections.abc import Sequence
from html import escape as escape_html
from pathlib import Path

from likely.app.results.scoreboard import scale
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.app.words.heat import visible
from likely.engine.base.files.whole_file import write_whole
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.evaluate.figures.calibration import Bin, reliability
from likely.engine.measure.evaluate.figures.figures import ComparedMeasure, Tally, comparisons, left_out

COLOURS = ("#2f6fde", "#d9572b", "#2a9d6f", "#8d5bd1", "#b58900", "#c2447b")
WIDTH, ROW, SIDE = 420, 18, 260
DIFFERING = 30  # items that are shown
STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2.5rem auto;max-width:60rem;padding:0 1rem;color:#1c1f26}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-top:1px solid #dde;padding-top:1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.15rem .8rem .15rem 0;text-align:left}
th{font-weight:600;border-bottom:1px solid #ccd}td.n{text-align:right}
pre{background:#f4f5f8;padding:.7rem;overflow:auto}
svg text{font:12px system-ui,sans-serif;fill:#444}.better{color:#1d7a50}.worse{color:#b3391f}small{color:#667}
@media(prefers-color-scheme:dark){body{background:#15171c;color:#dde}pre{background:#20232b}svg text{fill:#aab}}"""


def escape(text: str) -> str:
    """Text of a file as HTML, that moves no terminal either: a report is looked at with `less` too."""
    return escape_html(visible(text))


def write(path: Path, store: Evaluations, measured: Sequence[Evaluation]) -> None:
    """Write the report; DataError where the file cannot be written."""
    write_whole(path, [page(store, measured)])


def page(store: Evaluations, measured: Sequence[Evaluation]) -> str:
    """The whole file."""
    tallies = {e.cell: store.tally(e) for e in measured}
    models = list(dict.fromkeys(e.model for e in measured))
    compared = comparisons(tallies, models) if len(models) > 1 else []
    parts = [f"<h1>{escape(', '.join(models))}</h1>"]
    for task in dict.fromkeys(e.task for e in measured):
        ours = [e for e in measured if e.task == task]
        parts.append(f"<h2>{escape(task)}</h2>")
        parts.append(_figures({e.model: tallies[task, e.model] for e in ours}))
        parts += [_sentence(comparison) for comparison in compared if comparison.task == task]
        parts += [_reliability(e.model, tallies[task, e.model]) for e in ours]
        parts.append(_differing(store, ours))
        for evaluation in ours:
            if odd := left_out(store.problems(evaluation)):
                parts.append(f"<p>{escape(evaluation.model)}, rows: {escape(json.dumps(odd))}</p>")
    parts.append("<h2>To measure it again</h2>")
    for command in dict.fromkeys(shlex.join(["likely", *e.command[1:]]) for e in measured if e.command):
        parts.append(f"<pre>{escape(command)}</pre>")
    for evaluation in measured:
        settings = json.dumps(dict(evaluation.asked), indent=1, ensure_ascii=False)
        title = f"{escape(evaluation.task)}, {escape(evaluation.model)}"
        parts.append(f"<details><summary>{title}</summary><pre>{escape(settings)}</pre></details>")
    body = "\n".join(part for part in parts if part)
    return document("likely eval", body)


def document(title: str, body: str) -> str:
    """A whole file of this look."""
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"<!doctype html>\n<html lang=en><head>{head}</head>\n<body>\n{body}\n</body></html>\n"


def _figures(tallies: dict[str, Tally]) -> str:
    figures = {model: tally.figures() for model, tally in tallies.items()}
    names = list(dict.fromkeys(name for estimates in figures.values() for name in estimates))
    rows = ["<tr><th>measure<th>model<th>value<th>95 %<th>items<th></tr>"]
    for name in names:
        shown = {model: estimates[name] for model, estimates in figures.items() if name in estimates}
        low, high = scale(shown.values())
        for index, (model, estimate) in enumerate(shown.items()):
            bounds = estimate.interval
            bar = _bar(estimate, low, high, COLOURS[list(figures).index(model) % len(COLOURS)])
            span = f"{_number(bounds[0])} to {_number(bounds[1])}" if estimate.error else ""
            cells = f"<td>{escape(name) if not index else ''}<td>{escape(model)}<td class=n>{_number(estimate.mean)}"
            rows.append(f"<tr>{cells}<td>{span}<td class=n>{estimate.n}<td>{bar}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _bar(estimate: Estimate, low: float, high: float, colour: str) -> str:
    """A point and its interval, on the scale of its measure."""
    if not estimate.error or not math.isfinite(estimate.mean):
        return ""

    def at(x: float) -> float:
        return round(WIDTH * (min(max(x, low), high) - low) / (high - low), 1)

    a, b = (at(x) if math.isfinite(x) else end for x, end in zip(estimate.interval, (0, WIDTH), strict=True))
    line = f'<line x1="{a}" x2="{b}" y1="9" y2="9" stroke="{colour}" stroke-width="3" stroke-linecap="round"/>'
    circle = f'<circle cx="{at(estimate.mean)}" cy="9" r="5" fill="{colour}"/>'
    return f'<svg width="{WIDTH}" height="{ROW}">{line}{circle}</svg>'


def _sentence(comparison: ComparedMeasure) -> str:
    low, high = comparison.change.estimate.interval
    what = f"{escape(comparison.measure)}: {escape(comparison.models[1])} against {escape(comparison.models[0])}"
    span = f"{_number(low)} to {_number(high)}" if math.isfinite(high - low) else "no error"
    numbers = f"{comparison.change.estimate.mean:+.4f} ({span}; p {comparison.p:.2g}, {comparison.n} items)"
    items = comparison.change.needed if comparison.verdict == "not seen" else None
    need = f"; {items:,} items would show it" if items and items > comparison.n else ""
    return f"<p>{what} {numbers}: <b class='{comparison.verdict.split()[0]}'>{comparison.verdict}</b>{need}</p>"


def _reliability(model: str, tally: Tally) -> str:
    """How often answers of a confidence were right, in 15 bins of equal width; circles as large as they are many."""
    if not {"acc", "confidence"} <= set(tally.values):
        return ""
    confidences = [tally.values["confidence"][n] for n in tally.numbers]
    bins = reliability(confidences, [tally.values["acc"][n] for n in tally.numbers])
    most = max(bin_.count for bin_ in bins)

    def point(bin_: Bin) -> str:
        x, y = SIDE * bin_.confidence, SIDE * (1 - bin_.accuracy)
        title = f"confidence {bin_.confidence:.2f}, right {bin_.accuracy:.2f}, {bin_.count} items"
        size = 3 + 7 * math.sqrt(bin_.count / most)
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" fill="{COLOURS[0]}"><title>{title}</title></circle>'

    frame = f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="#99a"/>'
    diagonal = f'<line x1="0" y1="{SIDE}" x2="{SIDE}" y2="0" stroke="#99a" stroke-dasharray="4"/>'
    words = f'<text x="6" y="16">right</text><text x="{SIDE - 6}" y="{SIDE - 8}" text-anchor="end">confidence</text>'
    box = f'viewBox="-12 -12 {SIDE + 24} {SIDE + 24}" width="{SIDE + 24}" height="{SIDE + 24}"'
    svg = f"<svg {box}>{frame}{diagonal}{''.join(map(point, bins))}{words}</svg>"
    return f"<figure>{svg}<figcaption>{escape(model)}</figcaption></figure>"


def _differing(store: Evaluations, measured: Sequence[Evaluation]) -> str:
    """The items that one of the first two models has right and the other has not."""
    if len(measured) < 2:
        return ""
    first, second = measured[:2]
    pairs = []
    for a, b in store.common(first, second):
        name = next(iter(a.values), "")
        if a.values[name] != b.values.get(name, a.values[name]) and a.values[name] in (0.0, 1.0):
            pairs.append((a, b, name))
        if len(pairs) == DIFFERING:
            break
    if not pairs:
        return ""
    head = (
        f"<tr><th>item<th>measure<th>{escape(first.model)}<th>{escape(second.model)}<th>log-probabilities, or answers"
    )
    lines = []
    for a, b, name in pairs:
        texts = [
            json.dumps(r.detail.get("loglikelihoods") or r.detail.get("answers"), ensure_ascii=False) for r in (a, b)
        ]
        cells = f"<td class=n>{a.number}<td>{escape(name)}<td>{a.values[name]:g}<td>{b.values[name]:g}"
        lines.append(f"<tr>{cells}<td><small>{escape(texts[0][:200])}<br>{escape(texts[1][:200])}</small></tr>")
    return f"<h3>Items on which they differ</h3><table>{head}</tr>{''.join(lines)}</table>"


def _number(x: float) -> str:
    return "-" if not math.isfinite(x) else f"{x:.4f}" if abs(x) < 10 else f"{x:,.2f}"
