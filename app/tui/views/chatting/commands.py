"""The commands of a chat: its entries in the palette, as things are, and the keys shown for what has the focus."""

from collections.abc import Callable, Iterator
from functools import partial

from textual.widget import Widget

from likely.app.store import system_prompts
from likely.app.tui.base import presets
from likely.app.tui.base.answer_settings import ANSWERS, SEED, TAKES
from likely.app.tui.chat.decoding import others
from likely.app.tui.views.chatting import generation_settings, slash
from likely.app.tui.views.chatting.chat_parts import ChatParts
from likely.app.tui.views.view import Command
from likely.app.tui.widgets.diffusion.diffusion_pane import DiffusionPane
from likely.app.tui.widgets.figures.why_sheet import WhySheet
from likely.app.tui.widgets.input.message_editor import MessageEditor
from likely.app.tui.widgets.input.sampler import Sliders
from likely.app.tui.widgets.lists.best_texts import BestTexts
from likely.app.tui.widgets.lists.candidates import Candidates
from likely.app.tui.widgets.transcript.system_line import SystemLine
from likely.app.tui.widgets.transcript.token_view import TokenView
from likely.app.tui.widgets.transcript.tree import TreePane
from likely.app.words.heat import HEATS
from likely.engine.decode.strategy_table import PLAIN, offers
from likely.engine.sampling.presets import ORDERS

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
    Sliders: (
        ("↑↓", "Row"), ("←→", "Move"), ("0", "Off"), ("=", "Type"), ("u", "Undo"), ("< >", "Order"), ("p", "Presets"),
        ("s", "Strategy"),
    ),
    MessageEditor: (("⏎", "Keep"), ("tab", "Keep and go on"), ("^j", "New line"), ("esc", "Leave")),
    SystemLine: (("e", "Edit"), ("z", "Open or fold")),
    BestTexts: (("↑↓", "Show"), ("⏎", "Take it"), ("v", "Steps"), ("del", "Drop"), ("space", "Pause")),
    TreePane: (("↑↓", "Pick"), ("⏎", "Check out"), ("z", "Pruned")),
}  # fmt: skip
DIFFUSES: Keys = (("tab", "Canvas"), ("^r", "Redo"), ("^g", "How it is filled"), ("^o", "Sessions"), ("^n", "New"))
ASKED = {  # settings of answers that are typed, as they are found by intent
    "regex": "Follow a regex", "json-schema": "JSON by a schema", "choice": "One of a list",
    ANSWERS: "Several side by side", SEED: "Seed",
}  # fmt: skip
ELSEWHERE: Keys = (("^r", "Redo"), ("^t", "Heat"), ("^g", "Sampler"), ("^o", "Sessions"), ("^n", "New"))


def keys(focused: Widget | None, diffuses: bool = False) -> Keys:
    """The keys that act on what has the focus."""
    if isinstance(focused, WhySheet):
        return focused.hint()
    elsewhere = DIFFUSES if diffuses else ELSEWHERE
    shown = next((shown for kind, shown in KEYS.items() if isinstance(focused, kind)), elsewhere)
    if isinstance(focused, DiffusionPane) and not focused.roomy:
        shown = tuple(key for key in shown if key[0] != "p")
    return shown


def when(not_now: str, name: str, about: str, does: Callable[[], object]) -> Command:
    """A command, or the reason why it cannot be done now."""
    return (name, not_now, None) if not_now else (name, about, does)


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
    silent = "" if answered else "nothing was answered yet"
    busy = "an answer is under way" if chat.running else ""
    no_model = "" if host.engine.current is not None else "no model is loaded"
    unsaid = "" if pane.shown else "nothing was said yet"
    yield when(
        "" if pane.cursor is not None else "move the cursor to the message first",
        "branch: Put message away",
        "with what follows; u brings it back",
        pane.action_prune,
    )
    yield when(
        "" if chat.running else "nothing is being drawn", "answer: Stop", "what was drawn stays", screen.action_stop
    )
    yield when(silent or busy, "answer: Regenerate", "a sibling of the last answer", screen.action_redo)
    yield when(silent or busy, "answer: Continue", "go on where it stopped", screen.action_resume)
    yield when(silent or busy, "answer: Copy", "as Markdown", pane.action_copy_answer)
    yield when(silent or busy, "answer: Copy code block", "the one under the cursor", pane.action_copy_code)
    yield when(no_model or unsaid or busy, "answer: Step by step", "choose every token", screen.action_step)
    yield when(
        silent,
        "token: Why this word?",
        "earlier words, layers and parts that said it, and not another",
        screen.action_why,
    )
    yield when(silent, "token: Nearest tokens", "in the embedding, or the candidates again", screen.inspector.turn_near)
    yield when(silent, "answer: Look inside", "layers, heads, causes of the token under the cursor", pane.action_inside)
    yield when(silent, "branch: Re-sample from here", "draw again from the cursor on", pane.action_resample)
    yield when(silent, "branch: Edit message", "and have it answered anew", pane.action_edit)
    forked = "" if conversation.forks() else "there is one branch"
    yield when(forked, "branch: Next sibling", "at this fork", partial(pane.action_sibling, 1))
    yield when(forked, "branch: Previous sibling", "at this fork", partial(pane.action_sibling, -1))
    yield when(forked, "branch: Next fork", "the cursor goes there", partial(pane.action_fork, 1))
    yield when(
        "" if conversation.pruned else "nothing is put away",
        "branch: Bring back",
        "what was put away last",
        pane.action_restore,
    )
    masks = "a diffusion model fills masks" if chat.diffuses else ""
    for setting, name in ASKED.items():
        yield when(
            masks,
            f"answer: {name}…",
            f"/set {setting} {TAKES[setting]}",
            partial(screen.inspector.sampler.ask, setting),
        )
    last = chat.history.last
    yield when(
        "" if last else "no setting was changed yet", "sample: Undo", last, partial(generation_settings.undo, screen)
    )
    if not chat.diffuses:
        for strategy in offers(tuple(others(host.engine))):
            if strategy != chat.settings.strategy:
                name = "plain" if strategy == PLAIN else str(strategy)
                yield f"strategy: {name}", strategy.about, partial(slash.run, screen, f"/strategy {name}")
    yield "session: System prompt…", "what the model is told first", partial(slash.run, screen, "/system")
    for name, text in system_prompts.kept(host.home).items():
        yield f"session: System prompt {name}", text, partial(slash.run, screen, f"/system {name}")
    if conversation.nodes:
        yield "session: Find…", "words, on any branch", pane.action_find
        yield "token: Bookmark", "where the cursor is, or take the mark away", pane.action_mark
        if conversation.marks:
            yield "session: Bookmarks…", "go to one", pane.action_marks
        yield "session: Rename…", "its name", partial(slash.run, screen, "/title")
        for kind, name in (
            ("markdown", "Markdown"),
            ("html", "HTML with heat"),
            ("jsonl", "JSONL with log-probabilities"),
        ):
            yield f"session: Export {name}", "into this folder", partial(slash.run, screen, f"/export {kind}")
    for name in presets.names(host.home, chat.facts):
        if presets.name_of(chat.sampling, chat.facts) != name:
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
    other = "mean" if screen.inspector.entropy.highest else "highest"
    yield f"view: Entropy by the {other} token", "where a column stands for several", screen.inspector.turn_entropy
    yield "view: Raw text", "answers as they were written, or their Markdown", pane.action_markdown
    yield "view: Control tokens", "show or hide them", pane.toggle_specials
    yield "view: Line ends", "show or hide them", pane.action_line_ends
    for name, command in slash.table().items():
        usage = slash.usage(name)
        does = partial(slash.run, screen, f"/{name}") if slash.may_end(name) else partial(screen.compose_command, name)
        yield usage, command.about, does
