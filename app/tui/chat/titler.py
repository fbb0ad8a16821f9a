"""The name of a conversation: the first words that were said, or fewer by the model when it has nothing else to do."""

from collections.abc import Callable
from typing import Any

from likely.app.jobs import requests as r
from likely.app.tui.base.text import cells
from likely.engine.chat.conversation import Conversation
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import SamplingConfig

ASKED = "Name this conversation in at most five words. Answer with the name alone."
WHOLE = ("eot", "stop", "length")  # how what was drawn has to end to be named after
READ = 2000  # characters of each message
MOST = 5  # words of a name
SIZE = 60  # cells of a name
# words that make a sentence of a few words, not a name
SENTENCE = {
    "i", "you", "we", "they", "it", "this", "is", "are", "was", "were", "be", "been", "am", "has", "have", "had", "do",
    "does", "can", "could", "will",
}  # fmt: skip


def first_words(text: str) -> str:
    """The name that a message gives to the conversation that it begins."""
    return cells.fit(cells.clean(" ".join(text.split())), SIZE)


def name_in(answer: str) -> str:
    """The name that a model's answer is; "" where it is a sentence, or too long."""
    line = answer.strip().split("\n")[0].strip("\"'*# ")
    words = line.split()
    named = 0 < len(words) <= MOST and line[-1] not in ".!?:," and SENTENCE.isdisjoint(line.lower().split())
    return cells.fit(cells.clean(line), SIZE) if named else ""


class Titler:
    """Asks for a name, once for each conversation that is still called by its first words."""

    def __init__(self, submit: Callable[[r.ModelRequest, Callable[[int, list[Any]], None]], int]) -> None:
        self._submit = submit
        self._control: RunControl | None = None
        self._named: set[str] = set()  # ids of conversations

    def ask(self, conversation: Conversation, facts: r.ModelFacts, named: Callable[[str], None]) -> None:
        """Have a conversation named by the model, where what it says is a name."""
        messages = conversation.messages()
        if len(messages) < 2 or conversation.title not in ("", first_words(messages[0].text)):
            return
        named(first_words(messages[0].text))
        if not facts.chat or messages[-1].last.finish not in WHOLE or conversation.id in self._named:
            return
        self._named.add(conversation.id)
        self._control = RunControl(SamplingConfig(greedy=True))
        pieces: list[str] = []

        def heard(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, Emitted) and not event.step.special:
                    pieces.append(event.step.text)
                if isinstance(event, Done) and event.reason in WHOLE and (name := name_in("".join(pieces))):
                    named(name)

        turns = [(message.role, message.text[:READ]) for message in messages[:2]]
        self._submit(r.Generate(facts.name, Prompt((*turns, ("user", ASKED))), self._control, max_tokens=14), heard)

    def stop(self) -> None:
        """Break off naming: the model is needed for something else."""
        if self._control is not None:
            self._control.cancel()
