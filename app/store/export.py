"""Conversations as files: Markdown and HTML for readers (the branch that is checked out), JSON lines with everything.

Import reads those JSON lines back, and the messages of other programs (a list of role and content, as OpenAI's API has
it). Files are written whole or not at all.
"""

import html
import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from likely.app.store.sampling_text import drawn_by
from likely.app.store.sampling_text import words as recipe_words
from likely.app.store.stored_rows import choice_from, choice_row, figures_from, figures_row, reason_from, reason_row
from likely.app.words import heat
from likely.engine.base.errors import DataError, LikelyError
from likely.engine.base.files.foreign_json import check, parse
from likely.engine.base.files.whole_file import read_whole, write_whole
from likely.engine.chat.conversation import Conversation, Fork, Message, Node
from likely.engine.sampling.trace.fields import UNITS
from likely.engine.sampling.trace.file import (
    lines,
    read_denoising,
    recipe_from_row,
    recipe_row,
    step_from_row,
    step_row,
)
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep

VERSION = 1
SUFFIX = {"markdown": "md", "html": "html", "jsonl": "jsonl"}
LARGEST = 1_000_000_000  # bytes of a file to import
HEADER = {
    "version": int, "title": str, "kind": str, "model": str, "system": str, "recipe": dict, "recipes": [dict],
    "seed": int, "created": float, "updated": float, "chosen": [list], "order?": [str], "asked?": {str: str},
    "marks?": [list], "pruned?": [list],
}  # fmt: skip
NODE = {
    "id": str, "fork": list, "role": str, "text": str, "joins": bool, "seed": int, "finish": str,
    "label": str, "figures?": {str: (float, str)}, "model?": str, "prompt?": [int], "denoising?": [dict],
    "reasons?": [list], "choice?": (dict, None),
    "steps": [dict],
}  # fmt: skip


def write(talk: Conversation, kind: str, path: Path) -> None:
    """Write a conversation as `markdown`, `html` or `jsonl`. Raises DataError where the file cannot be written."""
    lines = {"markdown": markdown, "html": page, "jsonl": jsonl}[kind](talk)
    write_whole(path, lines)


def free(path: Path) -> Path:
    """The path, or with a number after its name where there is a file already."""
    number = 2
    while path.exists():
        path = path.with_name(f"{path.stem if number == 2 else path.stem.rpartition('-')[0]}-{number}{path.suffix}")
        number += 1
    return path


def read(path: Path, id: str, now: float) -> Conversation:
    """A conversation from a file, under a new id. Raises DataError for what is neither of the two formats."""
    text = read_whole(path, largest=LARGEST)
    try:
        values = _values(text)
        if values and isinstance(values[0], dict) and values[0].get("likely") == "conversation":
            return _conversation(values, id)
        return _messages(values, id, path.stem, now)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, LikelyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path} is no conversation that can be imported: {reason}") from error


# -- for readers ---------------------------------------------------------------------------------------------------


def markdown(talk: Conversation) -> Iterator[str]:
    """The checked-out branch as Markdown."""
    yield f"# {talk.title or 'Conversation'}\n"
    if talk.kind == "text":
        yield "\n" + "".join(message.text for message in talk.messages()).strip() + "\n"
        return
    if talk.system:
        yield f"\n**system**\n\n{talk.system.strip()}\n"
    for message in talk.messages():
        yield f"\n**{_who(message, talk)}**\n\n{message.text.strip()}\n"


def page(talk: Conversation) -> Iterator[str]:
    """The checked-out branch as one HTML file, every token tinted by its surprisal and named on hovering."""
    title = html.escape(talk.title or "Conversation")
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
    yield f"<style>\n{_style()}</style>"
    yield f"</head>\n<body><main>\n<h1>{title}</h1>\n"
    if talk.system:
        yield f"<h2>system</h2>\n<p>{html.escape(talk.system)}</p>\n"
    for message in talk.messages():
        by = drawn_by(message.steps)
        how = f" <small>{html.escape(recipe_words(*by))}</small>" if by else ""
        yield f'<h2 class="{message.role}">{html.escape(_who(message, talk))}{how}</h2>\n<p>'
        for segment in message.segments:
            if not segment.node.drawn:
                yield html.escape(segment.text)
            for step in segment.steps:
                if not step.special:
                    yield _token(step)
        yield "</p>\n"
    yield "<footer>"
    for words, level in heat.legend("surprisal"):
        yield f'<span class="h{level}">{words}</span> '
    yield "bits"
    yield "</footer>\n</main></body></html>\n"


def table(talk: Conversation) -> Iterator[str]:
    """The tokens of the checked-out branch as tab-separated columns, for a spreadsheet."""
    yield "who\ttoken\ttext\tprobability\tbits\trank\tentropy_bits\tdrawn_probability\tdrawn_by\n"
    for message in talk.messages():
        for step in message.steps:
            probability, bits = "", ""
            if step.logprob is not None:
                probability, bits = f"{math.exp(step.logprob):.6g}", f"{-step.logprob / math.log(2):.4f}"
            entropy = "" if step.entropy is None else f"{step.entropy / math.log(2):.4f}"
            text = json.dumps(step.piece.decode(errors="replace"), ensure_ascii=False)
            drawn = "" if step.logprob_after is None else f"{math.exp(step.logprob_after):.6g}"
            by = (drawn, recipe_words(step.recipe)) if step.origin == "drawn" else ("", "")
            row = (_who(message, talk), step.token, text, probability, bits, step.rank, entropy, *by)
            yield "\t".join("" if value is None else str(value) for value in row) + "\n"


def _who(message: Message, talk: Conversation) -> str:
    return {"user": "you", "assistant": message.last.model or talk.model or "model", "text": "text",
            "tool": "tool"}[message.role]  # fmt: skip


def _token(step: TokenStep) -> str:
    text = html.escape(heat.visible(step.text))
    if step.logprob is None:
        return text
    bits = -step.logprob / math.log(2)
    hover = f"{bits:.1f} bits, rank {step.rank}, {100 * math.exp(step.logprob):.2f} %"
    if step.origin == "drawn" and step.logprob_after is not None:
        hover += f", drawn at {100 * math.exp(step.logprob_after):.2f} % under {recipe_words(step.recipe)}"
    word = text.strip()  # the space around it is not drawn
    if not word:
        return text
    start = text.index(word)
    drawn = f'<span class="h{heat.level(bits)}" title="{hover}">{word}</span>'
    return text[:start] + drawn + text[start + len(word) :]


def _style() -> str:
    def ramp(dark: bool) -> str:
        looks = ((level, heat.css(tint)) for level, tint in enumerate(heat.RAMPS["true", dark]))
        return "".join(f".h{level}{{{look}}}\n" for level, look in looks if look)

    return (
        "body{font:16px/1.6 ui-monospace,Menlo,monospace;background:#fcfcfa;color:#1b1f23;margin:0}\n"
        "main{max-width:46em;margin:3em auto;padding:0 1em}p{white-space:pre-wrap}h1{font-size:1.2em}\n"
        "h2{font-size:1em;color:#a04e00;margin:2em 0 0}h2.user{color:#0b5cad}footer{margin-top:3em}\n"
        f"span{{border-radius:2px}}\n{ramp(False)}"
        "@media(prefers-color-scheme:dark){\nbody{background:#101214;color:#e3e5e8}h2{color:#f5a742}h2.user{color:#5aa7f8}\n"
        f"{ramp(True)}}}\n"
    )


# -- everything ----------------------------------------------------------------------------------------------------


def jsonl(talk: Conversation) -> Iterator[str]:
    """The whole tree: a header line, then a line a node with its tokens and all that is known of each."""
    recipes: dict[SamplingConfig, int] = {}
    for node in talk.nodes.values():
        for step in node.steps:
            recipes.setdefault(step.recipe, len(recipes))
    header = {
        "likely": "conversation",
        "version": VERSION,
        "title": talk.title,
        "kind": talk.kind,
        "model": talk.model,
        "system": talk.system,
        "recipe": recipe_row(talk.recipe),
        "recipes": [recipe_row(recipe) for recipe in recipes],
        "seed": talk.seed,
        "created": talk.created,
        "updated": talk.updated,
        "chosen": [[fork.node, fork.at, option] for fork, option in talk.chosen.items()],
        "order": list(talk.order),
        "asked": dict(talk.asked),
        "marks": [[node, unit, words] for (node, unit), words in talk.marks.items()],
        "pruned": [[fork.node, fork.at, option] for fork, option in talk.pruned],
        "units": UNITS,
    }
    yield _line(header)
    for node in talk.nodes.values():
        yield _line(
            {
                "id": node.id,
                "fork": [node.fork.node, node.fork.at],
                "role": node.role,
                "text": node.text,
                "joins": node.joins,
                "seed": node.seed,
                "finish": node.finish,
                "label": node.label,
                "figures": figures_row(node.figures),
                "model": node.model,
                "prompt": list(node.prompt),
                "denoising": [json.loads(line) for line in lines(node.denoising)],
                "reasons": [
                    [unit, [reason_row(found) for found in reasons]]
                    for (id, unit), reasons in talk.reasons.items()
                    if id == node.id
                ],
                "choice": None if node.choice is None else choice_row(node.choice),
                "steps": [step_row(step, recipes[step.recipe]) for step in node.steps],
            }
        )


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _conversation(values: list[Any], id: str) -> Conversation:
    header = check(values[0], HEADER)
    if header["version"] != VERSION:
        raise ValueError(f"its version is {header['version']}: use the likely that wrote it")
    if header["kind"] not in ("chat", "text"):
        raise ValueError(f"a conversation of the kind {header['kind']!r}")
    recipes = [recipe_from_row(row) for row in header["recipes"]]
    nodes: dict[str, Node] = {}
    for row in values[1:]:
        check(row, NODE)
        steps = tuple(step_from_row(step, recipes) for step in row["steps"])
        parent, at = row["fork"]
        nodes[row["id"]] = Node(
            row["id"], Fork(parent, at), row["role"], row["text"], steps, row["joins"], row["seed"],
            row["finish"] or ("interrupted" if steps else ""), row["label"],
            figures_from(row.get("figures", {})), row.get("model", ""), _prompt(row.get("prompt", ())),
            _denoising(row.get("denoising")),
            None if row.get("choice") is None else choice_from(row["choice"]),
        )  # fmt: skip
    talk = Conversation(
        id, header["title"], header["kind"], header["model"], header["system"], recipe_from_row(header["recipe"]),
        header["seed"], created=header["created"], updated=header["updated"],
    )  # fmt: skip
    known = ((row["id"], *each) for row in values[1:] for each in row.get("reasons", ()))
    reasons = {(id, unit): tuple(map(reason_from, found)) for id, unit, found in known}
    order, asked = tuple(header.get("order", ())), MappingProxyType(header.get("asked", {}))
    talk = replace(talk, reasons=MappingProxyType(reasons), order=order, asked=asked)
    for node in nodes.values():  # each hangs on one that came before it, or the file is no tree
        talk = talk.add(node)
    chosen = {Fork(parent, at): option for parent, at, option in header["chosen"]}
    for fork, option in chosen.items():
        if option not in talk.options(fork):
            raise ValueError(f"{option!r} is checked out and is not there")
    for parent, at, option in header.get("pruned", ()):
        talk = talk.prune(Fork(parent, at), option)
    for node_id, unit, words in header.get("marks", ()):
        if not 0 <= unit < len(talk.nodes[node_id]):
            raise ValueError(f"a bookmark is at {unit} of a message of {len(talk.nodes[node_id])}")
        talk = talk.mark(node_id, unit, words)
    return replace(talk, chosen=MappingProxyType(chosen))


def _prompt(ids: Sequence[int]) -> tuple[int, ...]:
    if not all(0 <= token < 1 << 31 for token in ids):
        raise ValueError("a prompt of ids that are no tokens")
    return tuple(ids)


def _denoising(rows: Sequence[Any] | None) -> tuple[Trace, ...]:
    return read_denoising("".join(map(_line, rows)), "denoising") if rows else ()


# -- others' messages ----------------------------------------------------------------------------------------------


def _values(text: str) -> list[Any]:
    """The JSON values of a file: one, or one a line."""
    try:
        return [parse(text)]
    except json.JSONDecodeError:
        values = [parse(line) for line in text.split("\n") if line.strip()]
        if not values:
            raise ValueError("there is nothing in it") from None
        return values


def _messages(values: list[Any], id: str, title: str, now: float) -> Conversation:
    first = values[0]
    if isinstance(first, dict) and "messages" in first:
        messages, title = check(first, {"messages": list})["messages"], str(first.get("title") or title)
    elif isinstance(first, list):
        messages = first
    else:
        messages = values
    talk = Conversation(id, title=title, created=now, updated=now)
    new_id: Callable[[], str] = lambda: secrets.token_hex(6)  # noqa: E731
    for message in messages:
        role, text = check(message, {"role": str})["role"], _content(message["content"])
        if role in ("system", "developer"):
            talk = replace(talk, system="\n\n".join(filter(None, [talk.system, text])))
        elif role in ("user", "assistant"):
            leaf = talk.leaf
            fork = Fork(leaf.id) if leaf is not None else Fork()
            talk = talk.add(Node(new_id(), fork, role, text=text, finish="eot" if role == "assistant" else ""))
        else:
            raise ValueError(
                f"messages of the system, the user and the assistant are imported, this one is of {role!r}"
            )
    if not talk.nodes:
        raise ValueError("it has no messages")
    return talk


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = check(content, [{"type": str, "text?": str}])
        return "".join(part["text"] for part in parts if part["type"] == "text")
    raise ValueError(f"a message's content must be text, got {type(content).__name__}")
