"""The composer: where a message is written, with what is attached to it, its history and its completions.

It counts what is attached before it lets the message go; one that is sent while an answer is under way waits, and can
be edited until then. What is said, and what a command does, is the screen's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from textual import events
from textual.message import Message

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.tui.chat import attach
from likely.app.tui.chat.attach import Attachment
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.input.prompt import PromptInput
from likely.app.tui.widgets.input.suggestions import Suggestion, Suggestions
from likely.app.tui.widgets.input.waiting import NEWS, MessageQueue, WaitingMessage
from likely.engine.base.errors import DataError


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
        self.busy: Callable[[], bool] = lambda: False  # an answer is under way: what is said waits
        self.room: Callable[[], int] = lambda: 0  # tokens left of the context
        self.commands: Callable[[str], Sequence[Suggestion]] = lambda _: ()  # completes a command
        self.complete = lambda text: [suggestion.text for suggestion in self._suggested(text)]
        self.example: Callable[[], str] = lambda: ""  # what enter says where nothing is written
        self.turn: Callable[[], object] = lambda: None  # to another example
        self.list = Suggestions()  # shows completions as one types
        self.queue = MessageQueue()  # shows what waits
        self._counting = False  # what is attached
        self._part, self._rest = "", ""  # of a file: the message with what has room, and the name of what has not
        self._listed = ""  # the words that it is for

    def drop(self) -> bool:
        """Give up editing what waits, else what is attached; gives whether there was anything."""
        if self.queue.edited is not None:
            self._leave_edited(self._draft)
            return True
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
        queue = self.queue
        if queue.edited is not None:
            queue.edited_as(text)
            self._leave_edited(self._draft)
        elif not text.strip() and not self.attached:
            if queue.messages:
                self.next()
            elif self.example() and not self.busy():  # nothing was said yet: a newcomer can begin with enter
                self._say(self.example())
        elif self.busy() or self._counting:
            queue.put(*queue.messages, WaitingMessage(text, self.attached))
            self.attached, self.text = [], ""
            host(self).say(NEWS)
        else:
            self._send(WaitingMessage(text, self.attached))

    def next(self) -> None:
        """Send the message that has waited longest, unless it is being edited or an answer is under way."""
        queue = self.queue
        if queue.messages and queue.messages[0] is not queue.edited and not (self.busy() or self._counting):
            self._send(queue.messages[0])

    def take_back(self) -> None:
        """Put what waits before what is being written: the answer was stopped, or has failed."""
        queue = self.queue
        if queue.messages:
            draft = self.text if queue.edited is None else self._draft
            if queue.edited is not None:
                queue.edited_as(self.text)
            for message in queue.messages:
                self._remember(message.text)
            self.attached = [*(item for message in queue.messages for item in message.attached), *self.attached]
            self._at = None
            self.take("\n\n".join(filter(None, (*(message.text for message in queue.messages), draft))))
            queue.put()

    def _leave_edited(self, draft: str) -> None:
        self.queue.edit(None)
        self._at = None
        self.take(draft)
        self.next()

    def _send(self, message: WaitingMessage) -> None:
        text = message.text
        try:
            attached = [*message.attached, *attach.attachments(text)]
        except DataError as error:
            host(self).say(str(error), alarm=True)
            return
        if attached:
            self._count(message, attached)
        else:
            self._say(text, attach.mistaken(text), message)

    def _say(self, text: str, news: str = "", message: WaitingMessage | None = None) -> None:
        self._remember(text)
        self.post_message(self.Said(text, news))
        if message in self.queue.messages:
            self.queue.put(*(each for each in self.queue.messages if each is not message))
        else:
            self.attached, self.text = [], ""
        if message is not None and message.text == self._part:
            self.take(self._rest)
        self._part = self._rest = ""

    def _count(self, message: WaitingMessage, attached: Sequence[Attachment]) -> None:
        """Attach files: their tokens are counted first, and what does not fit is refused."""
        text = message.text
        facts = host(self).engine.current
        whole = attach.joined(text, attached)
        if facts is None:
            host(self).say("files are attached once the model is loaded, since it counts their tokens")
            return

        self._counting = True

        def counted(job: int, events: list[Any]) -> None:
            for event in events:
                self._counting = False
                if isinstance(event, Failed):
                    host(self).say(event.line, alarm=True)
                    return
                room, names = self.room(), ", ".join(item.name for item in attached)
                if len(event) >= room:
                    why = f"{names}: {len(event):,} tokens, and {room:,} are left of the context"
                    fits = len(event) < facts.context
                    way = "/compact makes room" if fits else f"this model reads {facts.context:,}, attach less"
                    self._narrow(message, why, attach.PART * room / len(event), way)
                    return
                self._say(whole, f"attached {names}: {len(event):,} tokens", message)

        host(self).engine.submit(call(calls.tokens, facts.name, whole), counted)

    def _narrow(self, message: WaitingMessage, why: str, share: float, way: str) -> None:
        """Offer a part of a file that has no room, in the prompt; say another `way` where it has no part."""
        part, rest = attach.narrowed(message.text, share)
        if not part or message in self.queue.messages:
            host(self).say(f"{why}: {way}", alarm=True)
            return
        self._part, self._rest = part, rest
        self.take(part)
        host(self).say(f"{why}: ⏎ sends a part", alarm=True)

    def on_prompt_input_big_paste(self, event: PromptInput.BigPaste) -> None:
        event.stop()
        self.attached.append(Attachment("pasted text", event.text))
        size = len(event.text)
        host(self).say(f"pasted text of {size:,} characters is attached to the next message · esc drops it")

    def _remember(self, text: str) -> None:
        if text.strip() and text not in self.prompts[-1:]:
            self.prompts.append(text)
            attach.append_history(host(self).home / attach.HISTORY, text)

    # -- what was written before, and what waits ----------------------------------------------------------------------

    def earlier(self) -> Sequence[str]:
        return [*self.prompts, *(message.text for message in self.queue.messages)]

    def _recall(self, by: int) -> None:
        """To the text before or after: of one that waits it is edited, until enter or another is gone to."""
        if self.queue.edited is not None:
            self.queue.edited_as(self.text)
        super()._recall(by)
        at = len(self.prompts) if self._at is None else self._at - len(self.prompts)
        waits = self._at is not None and 0 <= at < len(self.queue.messages)
        self.queue.edit(self.queue.messages[at] if waits else None)
        if not waits:
            self.next()

    def edit_waiting(self, message: WaitingMessage) -> None:
        """Have a message that waits in the prompt."""
        if message in self.queue.messages:
            self._at = len(self.prompts) + self.queue.messages.index(message) + 1
            self._recall(-1)

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
