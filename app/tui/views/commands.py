"""The commands of a chat: its entries in the palette, as things are, and the keys shown for what has the focus."""

from collections.abc import Iterator
from functools import partial

from textual.widget import Widget

from likely.app.heat import HEATS
from likely.app.tui.base import presets
from likely.app.tui.views import slash
from likely.app.tui.views.chat_parts import ChatParts
from likely.app.tui.views.view import Command
from likely.app.tui.widgets.best_texts import BestTexts
from likely.app.tui.widgets.candidates import Candidates
from likely.app.tui.widgets.diffusion_pane import DiffusionPane
from likely.app.tui.widgets.message_editor import MessageEditor
from likely.app.tui.widgets.sampler import Sliders
from likely.app.tui.widgets.system_line import SystemLine
from likely.app.tui.widgets.token_view import TokenView
from likely.app.tui.widgets.tree import TreePane
from likely.app.tui.widgets.why_sheet import WhySheet
from likely.engine.presets import ORDERS

Keys = tuple[tuple[str, str], ...]
KEYS: dict[type[Widget], Keys] = {
    TokenView: (
        ("⏎", "Alternatives"), ("w", "Why"), ("n", "Surprise"), ("b", "Re-sample"), ("[ ]", "Siblings"), ("e", "Edit"),
        ("i", "Inside"), ("m", "Raw text"), ("y", "Copy"),
    ),
    DiffusionPane: (
        ("[ ]", "Step"), ("space", "Play"), ("←→", "Position"), ("⏎", "Choose"), ("m", "Mask again"), ("p", "−log p"),
        ("< >", "Answers"), ("=", "Formula"),
    ),
    Candidates: (("↑↓", "Pick"), ("⏎", "Branch"), ("f", "Force next"), ("x", "Ban")),
    Sliders: (("←→", "Move"), ("0", "Off"), ("=", "Type"), ("< >", "Order"), ("p", "Presets"), ("s", "Strategy")),
    MessageEditor: (("⏎", "Keep"), ("tab", "Keep and go on"), ("^j", "New line"), ("esc", "Leave")),
    SystemLine: (("e", "Edit"), ("z", "Open or fold")),
    BestTexts: (("↑↓", "Show"), ("⏎", "Take it"), ("v", "Steps"), ("del", "Drop"), ("space", "Pause")),
    TreePane: (("↑↓", "Pick"), ("⏎", "Check out"), ("z", "Pruned")),
}  # fmt: skip
DIFFUSES: Keys = (("tab", "Canvas"), ("^r", "Redo"), ("^g", "How it is filled"), ("^o", "Sessions"), ("^n", "New"))
ELSEWHERE: Keys = (("^r", "Redo"), ("^t", "Heat"), ("^g", "Sampler"), ("^o", "Sessions"), ("^n", "New"))


def keys(focused: Widget | None, diffuses: bool = False) -> Keys:
    """The keys that act on what has the focus."""
    if isinstance(focused, WhySheet):
        return focused.hint()
    elsewhere = DIFFUSES if diffuses else ELSEWHERE
    return next((shown for kind, shown in KEYS.items() if isinstance(focused, kind)), elsewhere)


def offered(screen: ChatParts) -> Iterator[Command]:
    """The palette's entries in a chat, as things are."""
    host, chat, pane = screen.host, screen.chat, screen.pane
    conversation = chat.conversation
    answered = any(shown.message.role == "assistant" for shown in pane.shown)
    yield "model: Switch…", "models here and to be had", host.choose_model
    if host.engine.current is not None:
        yield "model: Adapters…", "put on, weigh, switch, take off", host.choose_adapters
        yield "model: Reload", "load it again", host.reload_model
    yield "session: New", "an empty conversation", screen.action_new
    if host.store is not None:
        yield "session: Open or search…", "all conversations", screen.action_sessions
    if pane.cursor is not None:
        yield "branch: Put message away", "with what follows; u brings it back", pane.action_prune
    if chat.running:
        yield "answer: Stop", "what was drawn stays", screen.action_stop
    if answered and not chat.running:
        yield "answer: Regenerate", "a sibling of the last answer", screen.action_redo
        yield "answer: Continue", "go on where it stopped", screen.action_resume
        yield "answer: Copy", "as Markdown", pane.action_copy_answer
        yield "answer: Copy code block", "the one under the cursor", pane.action_copy_code
    if pane.shown and not chat.running and host.engine.current is not None:
        yield "answer: Step by step", "choose every token", screen.action_step
    if answered:
        yield (
            "token: Why this word?",
            "earlier words, layers and parts that said it, and not another",
            screen.action_why,
        )
        yield "token: Nearest tokens", "in the embedding, or the candidates again", screen.inspector.turn_near
        yield "answer: Look inside", "layers, heads, causes of the token under the cursor", pane.action_inside
        yield "branch: Re-sample from here", "draw again from the cursor on", pane.action_resample
        yield "branch: Edit message", "and have it answered anew", pane.action_edit
    if conversation.forks():
        yield "branch: Next sibling", "at this fork", partial(pane.action_sibling, 1)
        yield "branch: Previous sibling", "at this fork", partial(pane.action_sibling, -1)
        yield "branch: Next fork", "the cursor goes there", partial(pane.action_fork, 1)
    if conversation.pruned:
        yield "branch: Bring back", "what was put away last", pane.action_restore
    if conversation.nodes:
        yield "session: Find…", "words, on any branch", pane.action_find
        yield "token: Bookmark", "where the cursor is, or take the mark away", pane.action_mark
        if conversation.marks:
            yield "session: Bookmarks…", "go to one", pane.action_marks
        yield "session: Rename…", "its name", partial(slash.run, screen, "/title")
        yield "session: System prompt…", "what the model is told first", partial(slash.run, screen, "/system")
        for kind, name in (
            ("markdown", "Markdown"),
            ("html", "HTML with heat"),
            ("jsonl", "JSONL with log-probabilities"),
        ):
            yield f"session: Export {name}", "into this folder", partial(slash.run, screen, f"/export {kind}")
    for name in presets.names(host.home):
        if chat.sampling.preset_name != name:
            yield f"sample: Preset {name}", "values of the sliders", partial(slash.run, screen, f"/preset {name}")
    for name in ORDERS:
        if chat.sampling.order_name != name:
            yield (
                f"sample: Order of {name}",
                "in which the transforms run",
                partial(slash.run, screen, f"/order {name}"),
            )
    names = screen.names()
    for token in chat.sampling.bias:
        allow = chat.sampling.lift(token)
        kind = "banned" if token in chat.sampling.bans else "biased"
        yield f"sample: Allow {names.name(token)}", f"it is {kind}", partial(screen.set_sampling, allow)
    for heat in HEATS:
        if heat != chat.transcript.heat:
            yield f"heat: {heat.capitalize()}", "what the tint says", partial(pane.set_heat, heat)
    yield "heat: From so many bits on…", "below them nothing is tinted", partial(screen.composer.take, "/heat ")
    yield "view: Raw text", "answers as they were written, or their Markdown", pane.action_markdown
    yield "view: Control tokens", "show or hide them", pane.toggle_specials
    yield "view: Line ends", "show or hide them", pane.action_line_ends
    for name, command in slash.table().items():
        usage = slash.usage(name)
        does = partial(slash.run, screen, f"/{name}") if slash.may_end(name) else partial(screen.compose_command, name)
        yield usage, command.about, does
