"""The palette: `noun: Verb`, and only what applies now."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual.command import DiscoveryHit, Hit, Hits, Provider

from app.heat import HEATS
from app.tui import presets, slash
from engine.presets import ORDERS

if TYPE_CHECKING:
    from app.tui.views.chat import ChatScreen

Entry = tuple[str, str, Callable[[], object]]


def entries(screen: object) -> Iterator[Entry]:
    """(name, about, what it does) for a screen in its present state."""
    from app.tui.views.chat import ChatScreen

    if isinstance(screen, ChatScreen):
        yield from _chat(screen)
        app = screen.likely
    else:
        from app.tui.app import LikelyApp

        found = getattr(screen, "app", None)
        assert isinstance(found, LikelyApp)
        app = found
        own = getattr(screen, "palette", None)
        if own is not None:
            yield from own()
        yield "view: Chat", "back to the conversation", lambda: app.action_go("chat")
    yield "theme: Change…", "dark, light, and others", app.search_themes
    yield "app: Screenshot", "an SVG of this screen", app.action_screenshot_here
    yield "app: Quit", "the conversation is saved", lambda: app.run_worker(app.action_quit())


def _chat(screen: "ChatScreen") -> Iterator[Entry]:
    app, talk = screen.likely, screen.talk
    answered = any(shown.message.role == "assistant" for shown in talk.shown)
    yield "model: Switch…", "models here and to be had", screen.action_models
    if app.engine.current is not None:
        yield "model: Adapters…", "put on, weigh, switch, take off", screen.action_adapters
        yield "model: Reload", "load it again", screen.action_reload
    yield "session: New", "an empty conversation", screen.action_new
    if app.store is not None:
        yield "session: Open or search…", "all conversations", screen.action_sessions
    if screen.transcript.cursor is not None:
        yield "branch: Put message away", "with what follows; u brings it back", screen.action_prune
    if talk.running:
        yield "answer: Stop", "what was drawn stays", screen.action_stop
    if answered and not talk.running:
        yield "answer: Regenerate", "a sibling of the last answer", screen.action_redo
        yield "answer: Continue", "go on where it stopped", screen.action_resume
        yield "answer: Copy", "as Markdown", screen.action_copy_answer
        yield "answer: Copy code block", "the one under the cursor", screen.action_copy_code
        yield "view: Read or tokens", "the answer as Markdown, and back", screen.action_read
    if talk.shown and not talk.running and app.engine.current is not None:
        yield "answer: Step by step", "choose every token", screen.action_step
    if answered:
        yield "branch: Re-sample from here", "draw again from the cursor on", screen.action_resample
        yield "branch: Edit message", "and have it answered anew", screen.action_edit
    if talk.conversation.forks():
        yield "branch: Next sibling", "at this fork", lambda: screen.action_sibling(1)
        yield "branch: Previous sibling", "at this fork", lambda: screen.action_sibling(-1)
        yield "branch: Next fork", "the cursor goes there", lambda: screen.action_fork(1)
    if talk.conversation.pruned:
        yield "branch: Bring back", "what was put away last", screen.action_restore
    if talk.conversation.nodes:
        yield "session: Find…", "words, on any branch", screen.action_find
        yield "token: Bookmark", "where the cursor is, or take the mark away", screen.action_mark
        if talk.conversation.marks:
            yield "session: Bookmarks…", "go to one", screen.action_marks
        yield "session: Rename…", "its name", partial(slash.run, screen, "/title")
        yield "session: System prompt…", "what the model is told first", partial(slash.run, screen, "/system")
        for kind, name in (
            ("markdown", "Markdown"),
            ("html", "HTML with heat"),
            ("jsonl", "JSONL with log-probabilities"),
        ):
            yield f"session: Export {name}", "into this folder", partial(screen.export, kind, None)
    for name in presets.names(app.home):
        if talk.sampling.preset_name != name:
            yield f"sample: Preset {name}", "values of the sliders", partial(screen.choose, f"preset {name}")
    for name in ORDERS:
        if talk.sampling.order_name != name:
            yield f"sample: Order of {name}", "in which the transforms run", partial(screen.choose, f"order {name}")
    for heat in HEATS:
        if heat != talk.heat:
            yield f"heat: {heat.capitalize()}", "what the tint says", partial(screen.set_heat, heat)
    yield "view: Control tokens", "show or hide them", screen.toggle_specials
    yield "view: Compare", "several columns", lambda: app.action_go("compare")
    yield "view: Text", "any text, without a chat template", lambda: app.action_go("text")
    running = app.training is not None
    yield f"tune: {'Watch the run' if running else 'New run…'}", "fine-tuning", lambda: app.action_go("tune")
    yield "keys: Show", "for what has the focus", screen.action_keys


class Commands(Provider):
    """Feeds the palette."""

    async def discover(self) -> Hits:
        for name, about, do in entries(self.screen):
            yield DiscoveryHit(name, do, help=about)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, about, do in entries(self.screen):
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, matcher.highlight(name), do, help=about)
