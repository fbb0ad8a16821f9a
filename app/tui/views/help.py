"""The keys in words: for what has the focus, then everywhere, then what the view says of itself."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from textual.binding import Binding, BindingType
from textual.screen import Screen

from likely.app.tui.base import keys
from likely.app.tui.base.view_table import VIEWS
from likely.app.tui.widgets.host import host

SHEET, INDENT = 88, 17  # columns of the sheet, and before the words of a key
ABOUT = {
    "token.previous": "token by token", "token.up": "row by row", "token.row_start": "start of the row",
    "token.newest": "follow the newest token", "token.page_up": "page by page",
    "token.next_surprise": "next surprising token (4 bits and more)", "token.previous_surprise": "the one before",
    "token.alternatives": "alternatives: pick one to branch, / to type your own",
    "token.resample": "draw again from here", "token.edit": "edit this message and have it answered anew",
    "token.previous_sibling": "previous branch at this fork", "token.next_sibling": "next branch at this fork",
    "token.previous_fork": "previous fork", "token.next_fork": "next fork",
    "token.markdown": "raw text, or Markdown again", "token.fold": "fold thinking, or a tool's result",
    "token.copy": "copy the answer",
    "token.copy_code": "copy the code block", "token.step": "step mode: choose every token",
    "token.find": "search, on every branch", "token.mark": "bookmark this token, or take the mark away",
    "token.marks": "bookmarks", "token.prune": "put this message away, with what follows",
    "token.restore": "bring back what was put away", "tree.prune": "put this way out of sight",
    "chat.find": "search this conversation", "tree.restore": "bring back what was put away",
    "token.inside": "look inside: layers, heads, causes of this token",
    "token.choice": "how likely each tool was to be called, or the candidates again",
    "candidates.choice": "how likely each tool was to be called, or these again",
    "token.near": "tokens that lie nearest, or the candidates again",
    "candidates.near": "tokens that lie nearest, or these again",
    "token.go": "then the digit of a view's key", "candidates.up": "pick",
    "candidates.branch": "branch with the picked one", "candidates.force": "force it next, while drawing",
    "candidates.ban": "ban it from now on, or allow it again", "sampler.up": "pick",
    "sampler.less": "move a step (shift: ten)", "sampler.off": "off", "sampler.default": "default",
    "sampler.type": "type a value", "sampler.earlier": "its transform runs earlier",
    "sampler.later": "its transform runs later", "sampler.presets": "presets and orders",
    "sampler.undo": "take back the last change", "tree.up": "pick",
    "tree.check_out": "check out", "prompt.send": "send", "prompt.newline": "line break",
    "chat.stop": "stop; else close; else back to the prompt", "chat.redo": "another answer",
    "chat.heat": "tint: surprisal, entropy, rank, off", "chat.sampler": "to the sliders",
    "chat.sessions": "conversations", "chat.new": "new conversation", "chat.keys": "this help", "app.quit": "quit",
    "app.copy": "copy the selection",
    "compare.add": "add a column", "compare.remove": "remove the column",
    "compare.adopt_setting": "the chat goes on as the column draws",
    "compare.turn": "the next KL of the column", "compare.give": "a given text, or a prompt again",
    "compare.law": "read by q, what is drawn from, or by p",
    "compare.next_fork": "next fork", "compare.previous_fork": "previous fork",
    "compare.adopt": "adopt the column into the chat", "compare.set_up": "set the column up",
    "compare.markdown": "raw text, or Markdown again",
    "compare.stop": "stop, or back to chat", "compare.redo": "run again with another seed",
    "text.continue": "continue from the cursor", "text.stop": "stop, or back to chat",
    "text.sampler": "to the sliders", "text.sessions": "conversations", "text.new": "an empty text",
    "compare.sessions": "conversations", "compare.new": "empty columns",
    "tune.pause": "pause after the step, or go on", "tune.stop": "finish the step, save, and stop",
    "tune.go_on": "go on with a run that was stopped or has failed", "tune.try": "ask the model as it is now",
    "tune.again": "ask the same again", "tune.base": "ask the base the same",
    "tune.look": "measure what has moved; bits, position, noise", "tune.previous": "the watched prompt before",
    "tune.next": "the next watched prompt", "tune.watch": "watch another prompt",
    "tune.hold": "the text along which KL is measured", "tune.closer": "the last quarter of the curves, or all",
    "tune.loss": "the curves, on a narrow screen", "tune.answers": "the answers, on a narrow screen",
    "tune.plan": "what this run does", "tune.rows": "the rows of the data: look, drop, keep",
    "tune.copy": "copy the command that goes on with this run",
    "tune.new": "another run", "tune.chat": "the chat, with what was learned", "tune.leave": "stop, keep and leave",
    "tune.back": "back to the chat; the run goes on", "form.kind": "fine-tune, or pretrain",
    "form.next": "next field", "form.previous": "the field before",
    "form.resume": "go on with the run in the adapter's folder",
    "runs.new": "measure models on tasks", "runs.pause": "pause after the item, or go on",
    "runs.stop": "stop; the same again goes on from there", "runs.differences": "the items where two models differ",
    "runs.reliability": "as sure as right?", "runs.open": "the items; there, the chosen one in the chat",
    "runs.report": "a report: one HTML file",
    "runs.back": "back to the table, then to the chat", "scores.up": "the task above",
    "scores.down": "the task below", "scores.left": "the model on the left", "scores.right": "the model on the right",
    "items.up": "the item above", "items.down": "the item below", "items.pageup": "ten items up",
    "items.pagedown": "ten items down", "rows.up": "the row above", "rows.down": "the row below",
    "rows.page_up": "a page of rows up", "rows.page_down": "a page of rows down",
    "rows.first": "the first row", "rows.last": "the last row",
}  # fmt: skip

SAID = {
    "TokenView": "transcript",
    "TreePane": "tree",
    "Sliders": "sampler",
    "Composer": "prompt",
    "PromptInput": "prompt",
}


def keys_text(view: Screen[Any], more: Sequence[str] = ()) -> str:
    """Help for a view as it is focused now, with the paragraphs that it has beside its keys."""
    parts = []
    focus = view.focused
    if focus is not None:
        around = focus.ancestors_with_self
        own = [binding for node in around[: around.index(view)] for binding in node.BINDINGS]
        name = SAID.get(type(focus).__name__, type(focus).__name__.lower())
        if rows := _rows(own, view):
            parts.append(f"{name}\n{rows}")
    everywhere = [*type(view).BINDINGS, *view.app.BINDINGS]
    parts.append(f"everywhere here\n{_rows(everywhere, view)}")
    keys_of = host(view).keys_of
    for name, entry in VIEWS.items():
        key = keys_of(f"app.{name}", entry.key) if entry.key else "ctrl+p"
        parts[-1] += f"\n  {keys.pretty(key):<14} {entry.title}"
    parts[-1] += "\n  tab shift+tab  from one part of the screen to the next, and back\n  ^p             palette"
    parts += more
    if keys.MAC:
        parts.append(keys.SWALLOWED)
    names = "\n".join(f'  "{name}" = "{key}"' for name, key in host(view).key_table().items())
    parts.append(f"every key has a name and can be changed in keys.toml in likely's folder:\n{names}")
    return "\n\n".join(parts)


def _rows(bindings: Sequence[BindingType], view: Screen[Any]) -> str:
    """The keys that have words: in the table, or of their own; a row that is too long goes on under its words."""
    keys_of = host(view).keys_of
    room = max(min(view.size.width * 96 // 100, SHEET) - 5 - INDENT, 12)
    known = [(b, ABOUT.get(b.id, b.tooltip)) for b in bindings if isinstance(b, Binding) and b.id]
    return "\n".join(
        f"  {keys.pretty(keys_of(b.id, b.key)):<14} " + f"\n{' ' * INDENT}".join(wrap(about, room))
        for b, about in known
        if about and b.id
    )
