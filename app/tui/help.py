"""The keys in words: for what has the focus, then everywhere, then the slash commands."""

from typing import Any

from textual.binding import Binding
from textual.screen import Screen

from app.tui import keys, slash

ABOUT = {
    "token.previous": "token by token", "token.up": "row by row", "token.row_start": "start of the row",
    "token.newest": "follow the newest token", "token.page_up": "page by page",
    "token.next_surprise": "next surprising token (4 bits and more)", "token.previous_surprise": "the one before",
    "token.alternatives": "alternatives: pick one to branch, / to type your own",
    "token.resample": "draw again from here", "token.edit": "edit this message and have it answered anew",
    "token.previous_sibling": "previous branch at this fork", "token.next_sibling": "next branch at this fork",
    "token.previous_fork": "previous fork", "token.next_fork": "next fork",
    "token.read": "read as Markdown, and back", "token.fold": "fold the thinking", "token.copy": "copy the answer",
    "token.copy_code": "copy the code block", "token.step": "step mode: choose every token",
    "token.find": "search, on every branch", "token.mark": "bookmark this token, or take the mark away",
    "token.marks": "bookmarks", "token.prune": "put this message away, with what follows",
    "token.restore": "bring back what was put away", "tree.prune": "put this way out of sight",
    "chat.find": "search this conversation", "tree.restore": "bring back what was put away",
    "token.go": "then 1 chat, 2 compare, 3 text, 4 tune", "candidates.up": "pick",
    "candidates.branch": "branch with the picked one", "candidates.force": "force it next, while drawing",
    "candidates.ban": "ban it from now on, or allow it again", "sampler.up": "pick",
    "sampler.less": "move a step (shift: ten)", "sampler.off": "off", "sampler.default": "default",
    "sampler.type": "type a value", "sampler.earlier": "its transform runs earlier",
    "sampler.later": "its transform runs later", "sampler.presets": "presets and orders", "tree.up": "pick",
    "tree.check_out": "check out", "prompt.send": "send", "prompt.newline": "line break",
    "chat.stop": "stop; else close; else back to the prompt", "chat.redo": "another answer",
    "chat.heat": "tint: surprisal, entropy, rank, off", "chat.sampler": "to the sliders",
    "chat.sessions": "conversations", "chat.new": "new conversation", "chat.keys": "this help", "app.quit": "quit",
    "app.copy": "copy the selection", "app.chat": "chat", "app.compare": "compare", "app.text": "text mode",
    "compare.add": "add a column", "compare.remove": "remove the column",
    "compare.adopt": "adopt the column into the chat", "compare.set_up": "set the column up",
    "compare.stop": "stop, or back to chat", "compare.redo": "run again with another seed",
    "text.continue": "continue from the cursor", "text.stop": "stop, or back to chat",
    "text.sampler": "to the sliders", "app.tune": "fine-tuning",
    "tune.pause": "pause after the step, or go on", "tune.stop": "finish the step, save, and stop",
    "tune.go_on": "go on with a run that was stopped or has failed", "tune.try": "ask the model as it is now",
    "tune.again": "ask the same again", "tune.base": "ask the base the same",
    "tune.look": "measure what has moved", "tune.previous": "the watched prompt before",
    "tune.next": "the next watched prompt", "tune.watch": "watch another prompt",
    "tune.hold": "the text along which KL is measured", "tune.closer": "the last quarter of the curves, or all",
    "tune.loss": "the curves, on a narrow screen", "tune.answers": "the answers, on a narrow screen",
    "tune.plan": "what this run does", "tune.copy": "copy the command that goes on with this run",
    "tune.new": "another run", "tune.chat": "the chat, with what was learned", "tune.leave": "stop, keep and leave",
    "tune.back": "back to the chat; the run goes on", "form.next": "next field", "form.previous": "the field before",
    "form.resume": "go on with the run in the adapter's folder",
}  # fmt: skip


def keys_text(screen: Screen[Any]) -> str:
    """Help for a screen as it is focused now."""
    parts = []
    focus = screen.focused
    if focus is not None and focus.BINDINGS:
        name = type(focus).__name__.replace("TokenView", "transcript").replace("TreePane", "tree").lower()
        rows = _rows(focus.BINDINGS, screen)
        if rows:
            parts.append(f"{name}\n{rows}")
    parts.append(f"everywhere here\n{_rows([*type(screen).BINDINGS, *type(screen.app).BINDINGS], screen)}")
    parts.append("tab / shift+tab  prompt, transcript, candidates, sliders, tree\nctrl+p           palette\n"
                 "mouse            click a token to look, again to branch; drag selects; wheel scrolls")  # fmt: skip
    parts.append(f"commands (tab completes)\n{slash.help_text()}")
    parts.append("every key has a name and can be changed in keys.toml in likely's folder:\n" + _names(screen))
    return "\n\n".join(parts)


def _rows(bindings: object, screen: Screen[Any]) -> str:
    assert isinstance(bindings, list)
    keymap = getattr(screen.app, "_keymap", {})
    rows = [
        (keys.pretty(keymap.get(binding.id, binding.key)), ABOUT[binding.id])
        for binding in bindings
        if isinstance(binding, Binding) and binding.id in ABOUT
    ]
    return "\n".join(f"  {key:<14} {about}" for key, about in rows)


def _names(screen: Screen[Any]) -> str:
    table: dict[str, str] = getattr(screen.app, "key_table", dict)()
    return "\n".join(f'  "{name}" = "{key}"' for name, key in table.items())
