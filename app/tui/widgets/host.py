"""The host of a view: what views, panes and dialogs may ask of the application. A protocol, so that none imports it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from likely.app.tui.base.drawing.line_widget import Painted

if TYPE_CHECKING:
    from textual.widget import Widget

    from likely.app.jobs import requests as r
    from likely.app.jobs.evaluation_jobs import RunEvaluator
    from likely.app.jobs.jobs import Trainer
    from likely.app.jobs.worker import Executor, Worker
    from likely.app.lessons.tutor import Tutor
    from likely.app.results.training_kind import TrainingConfig
    from likely.app.serve.watch.address import ServerAddress
    from likely.app.serve.watch.child_server import ChildServer
    from likely.app.store.store import Store
    from likely.app.tui.base.engine_client import EngineClient
    from likely.app.tui.chat.auto_saver import AutoSaver
    from likely.app.tui.chat.candidates import Names
    from likely.app.tui.chat.chat_session import ChatSession
    from likely.app.tui.chat.inspecting.inspection import InspectedPrompt
    from likely.app.tui.chat.start import Start
    from likely.app.tui.training.run import Training
    from likely.engine.chat.conversation import Conversation
    from likely.engine.decode.loop.strategy import Strategy


class ViewHost(Painted, Protocol):
    """The application, as far as it concerns a view."""

    engine: "EngineClient"
    home: Path  # likely's folder
    clock: Callable[[], float]
    worker: "Callable[[Callable[[], Executor], str], Worker]"  # for work beside the screen, by its name
    keeper: "AutoSaver | None"
    start: "Start"  # what conversations begin with
    store_news: str  # about the store and the keys, when the program began
    resume: str  # the conversation that was asked for, "" for none
    session: "ChatSession | None"  # the chat that is open
    sidebar: bool | None  # conversations stand beside what is open, where there is room; None: nobody has said
    looked_into: "InspectedPrompt | None"  # for the inside view
    prompts: list[str]  # that were sent, oldest first
    trainer: "Callable[[], Trainer]"
    evaluator: "Callable[[], RunEvaluator]"
    training: "Training | None"  # the run under way or the last one
    ladder: Path | None  # the table of runs, or the folder that has one, whose law is looked at
    proof: str | None  # the law, or the page of laws, whose proof was asked for
    server: "ServerAddress | None"  # whose requests are watched
    child: "ChildServer | None"  # the server that was started from here
    tutor: "Tutor | None"  # the course that is taken
    tune_start: "tuple[TrainingConfig, bool] | None"  # the run the program was started for, whether it is resumed

    @property
    def store(self) -> "Store | None":
        """The conversations that are kept; None where conversations cannot be saved."""
        ...

    def say(self, line: str, alarm: bool = False) -> None:
        """One line of news, where the keys are."""
        ...

    def ring(self, words: str) -> None:
        """Tell a person whose terminal has no focus: by its bell, and words beside its window."""
        ...

    def copy(self, text: str, what: str) -> None:
        """Copy a text, and say how."""
        ...

    def save(self, conversation: "Conversation") -> None:
        """Hand a conversation to the saver; never waits."""
        ...

    def open(self, conversation: "Conversation", strategy: "Strategy | None" = None) -> None:
        """Show a conversation in the view for its kind, which goes on by a strategy where one is given."""
        ...

    def start_server(self) -> None:
        """Serve the current model, in a process of its own that ends with the program, and watch that."""
        ...

    def stop_server(self) -> None:
        """End the server that was started from here."""
        ...

    def go(self, name: str) -> None:
        """To another view, by its name in the table."""
        ...

    def quit(self) -> None:
        """Leave the program, everything saved."""
        ...

    def screenshot(self) -> None:
        """Write the screen to a file in likely's folder."""
        ...

    def restyle(self) -> None:
        """Resolve the styles again."""
        ...

    def names_of(self, model: str) -> "Names":
        """A model's vocabulary, from the model or from when it was last used."""
        ...

    def keys_of(self, action: str, default: str = "") -> str:
        """The keys of an action, as they were remapped; `default` are those it has by itself, where they are known."""
        ...

    def key_table(self) -> dict[str, str]:
        """Every action that has keys, and which."""
        ...

    def choose_model(self, offers: "Sequence[r.ModelOffer]" = ()) -> None:
        """Have a person choose the model; `offers` where there is none yet."""
        ...

    def switch_model(self, name: str) -> None:
        """Make another model the current one."""
        ...

    def reload_model(self) -> None:
        """Load the current model again."""
        ...

    def choose_adapters(self) -> None:
        """Show the adapters on the model: to weigh, switch, add."""
        ...

    def choose_theme(self, name: str = "") -> None:
        """Another theme, by name; without one that is known, a list to choose from."""
        ...

    def chat_with(self, model: str, *adapters: tuple[str, float]) -> None:
        """The chat with a model, and with these adapters (folder, weight) on it, and no others."""
        ...


def host(widget: "Widget") -> ViewHost:
    """The host of a mounted widget."""
    return cast(ViewHost, widget.app)
