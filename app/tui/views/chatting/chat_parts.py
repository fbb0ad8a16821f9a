"""`ChatParts`: what commands, step mode and panels may ask of the chat view; a protocol, so that none imports it."""

from typing import Protocol

from textual.app import App
from textual.geometry import Size

from likely.app.tui.base.answer_settings import AnswerSettings
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.inspecting.inspections import Inspections
from likely.app.tui.chat.titler import Titler
from likely.app.tui.chat.tool_bench import ToolBench
from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.diffusion.diffusion_pane import DiffusionPane
from likely.app.tui.widgets.host import ViewHost
from likely.app.tui.widgets.input.composer import Composer
from likely.app.tui.widgets.inspector import Inspector
from likely.app.tui.widgets.transcript_pane import TranscriptPane
from likely.engine.chat.conversation import Conversation
from likely.engine.decode.loop.control import RunControl


class ChatParts(Protocol):
    """A chat view: its widgets, its session, and what can be done to the conversation that is open."""

    pane: TranscriptPane
    inspector: Inspector
    diffusion: DiffusionPane  # in the place of both where the model is a diffusion one
    composer: Composer
    caption: Caption  # the formula of a diffusion model
    titler: Titler  # names the conversation
    inspections: Inspections  # of its tokens
    bench: ToolBench | None  # tools that the model may call
    aside: RunControl | None  # of work for the conversation that is no answer of it: a summary, a measurement

    @property
    def app(self) -> App[object]: ...
    @property
    def size(self) -> Size: ...
    @property
    def host(self) -> ViewHost: ...
    @property
    def top(self) -> TopBar: ...
    @property
    def hints(self) -> Hints: ...

    @property
    def chat(self) -> ChatSession:
        """The session, once one is open."""
        ...

    def names(self) -> Names:
        """The vocabulary of the conversation's model."""
        ...

    def open(self, conversation: Conversation) -> None:
        """Show a conversation, at the branch that was checked out."""
        ...

    def save(self) -> None:
        """Hand the conversation to the saver."""
        ...

    def rename(self, title: str) -> None:
        """Name the conversation."""
        ...

    def instruct(self, system: str) -> None:
        """Another system prompt, from the next answer on."""
        ...

    def set_sampling(self, sampling: Sampling) -> None:
        """Draw otherwise from the next token on. Raises ParameterError for what the model cannot draw by."""
        ...

    def begun(self, begun: bool, why_not: str = "") -> None:
        """A run has begun, or there is a reason why not."""
        ...

    def went(self, number: int) -> bool:
        """After `goto`: to the view of a digit; gives whether it was asked for."""
        ...

    def compose_command(self, name: str) -> None:
        """Begin to write a command that wants more words."""
        ...

    def answered(self, failed: bool) -> None:
        """An answer has ended, with all that it called: the next message is sent, or a person is told."""
        ...

    def reshow(self, *, follow: bool | None = None) -> None:
        """Show the lineage anew, after it has changed."""
        ...

    def status(self) -> None:
        """The top line, as things are."""
        ...

    def show_keys(self) -> None:
        """The keys that act on what has the focus."""
        ...

    # what keys do
    def action_keys(self) -> None: ...
    def action_new(self) -> None: ...
    def action_redo(self, settings: AnswerSettings | None = None, seed: int | None = None) -> None: ...
    def action_resume(self) -> None: ...
    def action_sessions(self) -> None: ...
    def action_step(self) -> None: ...
    def action_stop(self) -> None: ...
    def action_why(self) -> None: ...
