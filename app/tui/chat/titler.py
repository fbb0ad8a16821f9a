"""The name of a conversation, by the model itself, when it has nothing else to do."""

from collections.abc import Callable
from typing import Any

from app import requests as r
from app.tui.tokens import cells
from engine.conversation import Conversation
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted
from engine.prompt import Prompt
from engine.trace.trace import Recipe

ASKED = "Name this conversation in at most five words. Answer with the name alone."
WHOLE = ("eot", "stop", "length")  # how what was drawn has to end to be named after
READ = 2000  # characters of each message
MOST = 12  # words of a name


class Titler:
    """Asks for a name, once for each conversation that has none."""

    def __init__(self, submit: Callable[[r.ModelRequest, Callable[[int, list[Any]], None]], int]) -> None:
        self._submit = submit
        self._control: RunControl | None = None

    def ask(self, conversation: Conversation, facts: r.ModelFacts, named: Callable[[str], None]) -> None:
        """Name a conversation by its first words at once, and as the model says as soon as it has said so."""
        messages = conversation.messages()
        if conversation.title or len(messages) < 2:
            return
        named(cells.clean(" ".join(messages[0].text.split())))
        if not facts.chat or messages[-1].last.finish not in WHOLE:
            return
        self._control = RunControl(Recipe(greedy=True))
        pieces: list[str] = []

        def heard(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, Emitted) and not event.step.special:
                    pieces.append(event.step.text)
                if isinstance(event, Done) and event.reason in WHOLE:
                    words = "".join(pieces).strip().split("\n")[0].strip("\"'*#. ")
                    if words and len(words.split()) <= MOST:
                        named(cells.clean(words))

        said = [(message.role, message.text[:READ]) for message in messages[:2]]
        self._submit(r.Generate(facts.name, Prompt((*said, ("user", ASKED))), self._control, max_tokens=14), heard)

    def stop(self) -> None:
        """The model has something else to do."""
        if self._control is not None:
            self._control.cancel()
