"""The composer: where a message is written, with what is attached to it, its history and its completions.

It counts what is attached before it lets the message go. What is said, and what a command does, is the screen's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from textual import events
from textual.message import Message

from likely.app import calls
from likely.app.calls import call
from likely.app.tui.chat import attach
from likely.app.tui.chat.attach import Attachment
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.prompt import PromptInput
from likely.app.tui.widgets.suggestions import Suggestion, Suggestions
from likely.app.worker import Failed
from likely.engine.errors import DataError


class Composer(PromptInput):
    """A prompt that sends messages and commands."""

    class Said(Message):
        """A message, attachments and all."""

        def __init__(self, text: str, news: str) -> None:
            super().__init__()
            self.text, self.news = text, news

    class Commanded(Message):
        """A slash command."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, placeholder: str, id: str | None = None) -> None:
        super().__init__(placeholder=placeholder, id=id)
        self.attached: list[Attachment] = []
        self.busy: Callable[[], bool] = lambda: False  # an answer is under way: nothing can be said
        self.room: Callable[[], int] = lambda: 0  # tokens left of the context
        self.commands: Callable[[str], Sequence[Suggestion]] = lambda _: ()  # completes a command
        self.complete = lambda text: [suggestion.text for suggestion in self._suggested(text)]
        self.example: Callable[[], str] = lambda: ""  # what enter says where nothing is written
        self.turn: Callable[[], object] = lambda: None  # to another example
        self.list = Suggestions()  # shows completions as one types
        self._listed = ""  # the words that it is for

    def drop(self) -> bool:
        """Give up what is attached; gives whether there was anything."""
        had = bool(self.attached)
        if had:
            self.attached, self.text = [], ""
        return had

    def action_send(self) -> None:
        if self._listed != self.text:  # typed so fast that the list is still of fewer letters
            self.on_text_area_changed()
        text, self._at = self.text, None
        host(self).say("")
        picked, begun = self.list.picked, text != "/" and not text.endswith(" ")
        if text.startswith("/") and picked is not None:
            exact = any(suggestion.text.strip() == text for suggestion in self.commands(text))
            if self.list.index or (begun and picked.sure and not exact):  # what is picked is meant
                if not picked.whole:
                    self.take(picked.text)
                    return
                text = picked.text
        self.list.offer(())
        if text.startswith("/") and not text.startswith("//"):
            self.text = ""
            self._remember(text)
            self.post_message(self.Commanded(text))
            return
        text = text.removeprefix("/") if text.startswith("//") else text
        if not text.strip() and not self.attached:
            if self.example() and not self.busy():  # nothing was said yet: a newcomer can begin with enter
                self._say(self.example())
            return
        if self.busy():
            host(self).say("still answering: esc stops it, then enter sends")
            return
        try:
            attached = [*self.attached, *attach.attachments(text)]
        except DataError as error:
            host(self).say(str(error), alarm=True)
            return
        if attached:
            self._count(text, attached)
        else:
            self._say(text, attach.mistaken(text))

    def _say(self, text: str, news: str = "") -> None:
        self._remember(text)
        self.post_message(self.Said(text, news))
        self.attached, self.text = [], ""

    def _count(self, text: str, attached: Sequence[Attachment]) -> None:
        """Attach files: their tokens are counted first, and what does not fit is refused."""
        facts = host(self).engine.current
        whole = attach.joined(text, attached)
        if facts is None:
            host(self).say("files are attached once the model is loaded, since it counts their tokens")
            return

        def counted(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, Failed):
                    host(self).say(event.line, alarm=True)
                    return
                room, names = self.room(), ", ".join(item.name for item in attached)
                if len(event) >= room:
                    host(self).say(f"{names}: {len(event)} tokens, and {room} are left of the context", True)
                    return
                self._say(whole, f"attached {names}: {len(event)} tokens")

        host(self).engine.submit(call(calls.tokens, facts.name, whole), counted)

    def on_prompt_input_big_paste(self, event: PromptInput.BigPaste) -> None:
        event.stop()
        self.attached.append(Attachment("pasted text", event.text))
        size = len(event.text)
        host(self).say(f"pasted text of {size} characters is attached to the next message · esc drops it")

    def _remember(self, text: str) -> None:
        if text.strip() and text not in self.prompts[-1:]:
            self.prompts.append(text)
            attach.append_history(host(self).home / attach.HISTORY, text)

    # -- completions -------------------------------------------------------------------------------------------------

    def _suggested(self, text: str) -> Sequence[Suggestion]:
        if text.startswith("/"):
            return self.commands(text) if not text.startswith("//") else ()
        return [Suggestion(path, "@" + path.rpartition("@")[2], whole=False) for path in attach.complete(text)]

    def on_text_area_changed(self) -> None:
        """Offer completions of the text, unless it was taken from the history."""
        self._listed = self.text
        if self._at is None and self.list.is_attached:
            self.list.offer([suggestion for suggestion in self._suggested(self.text) if suggestion.text != self.text])

    def pick(self, by: int) -> bool:
        if not self.list.display:
            turned = by > 0 and not self.text and bool(self.example())
            if turned:
                self.turn()
            return turned
        self.list.move(by)
        return True

    def _complete(self) -> bool:
        """Put the picked completion in; a second tab takes the next one where the first was picked."""
        picked = self.list.picked
        if picked is not None and self.list.index and not self._cycle:
            self.take(picked.text)
            return True
        return super()._complete()

    async def _on_paste(self, event: events.Paste) -> None:
        """A file's path that is dropped or pasted is attached."""
        path = attach.pasted(event.text)
        if path is None:
            await super()._on_paste(event)
            return
        event.prevent_default()
        event.stop()
        self.insert(f"{'' if self.text[-1:] in ('', ' ', chr(10)) else ' '}{path} ")
        host(self).say("the file is attached: its tokens are counted when it is sent")
