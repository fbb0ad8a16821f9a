"""Writing: the prompt, what is attached to it, and editing what was said."""

from typing import TYPE_CHECKING, Any, cast

from app import requests as r
from app.tui.chat import attach
from app.tui.views.reading import Reading
from app.tui.widgets.prompt import Prompt
from app.worker import Failed
from engine.decode.control import RunControl
from engine.errors import DataError

if TYPE_CHECKING:
    from app.tui.views.chat import ChatScreen


class Writing(Reading):
    """The part of the chat screen for what is to be said."""

    def __init__(self) -> None:
        super().__init__()
        self._title_control: RunControl | None = None
        self._editing: int | None = None
        self._attached: list[attach.Attachment] = []

    def on_prompt_sent(self, event: Prompt.Sent) -> None:
        text = event.text
        self.hints.say("")
        if text.startswith("/") and not text.startswith("//") and self._editing is None:
            self.prompt.text = ""
            self._remember(text)
            from app.tui import slash

            slash.run(cast("ChatScreen", self), text)
            return
        text = text.removeprefix("/") if text.startswith("//") else text
        if not text.strip() and not self._attached:
            return
        if self.talk.running:
            self.hints.say("still answering: esc stops it, then enter sends")
            return
        try:
            attached = [*self._attached, *attach.found(text)]
        except DataError as error:
            self.hints.say(str(error), alarm=True)
            return
        if attached:
            self._count_then_send(text, attached)
        else:
            self._submit(text)

    def _submit(self, text: str) -> None:
        if self._title_control is not None:
            self._title_control.cancel()
        self.prompt.text = ""
        self._attached = []
        self._remember(text)
        self.transcript.move_to(None)
        editing, self._editing = self._editing, None
        if editing is not None and editing < len(self.talk.shown):
            self.talk.edit(editing, text)
        else:
            self.talk.submit(text)
        self.save()
        self.reshow(follow=True)
        if self.talk.waiting is not None:
            loading = self.likely.engine.loading is not None
            self.hints.say(
                "the answer begins as soon as the model is loaded"
                if loading
                else "there is no model yet: /model chooses one, and then the answer begins"
            )

    def _count_then_send(self, text: str, attached: list[attach.Attachment]) -> None:
        """Attach files: their tokens are counted first, and what does not fit is refused."""
        facts = self.likely.engine.current
        whole = attach.joined(text, attached)
        if facts is None:
            self.hints.say("files are attached once the model is loaded, since it counts their tokens")
            return

        def counted(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, r.Tokenized):
                    used = self.talk.stats.prompt_tokens + self.talk.stats.tokens if self.talk.stats else 0
                    room = facts.context - used
                    names = ", ".join(item.name for item in attached)
                    if len(event.ids) >= room:
                        self.hints.say(f"{names}: {len(event.ids)} tokens, and {room} are left of the context", True)
                        return
                    self._submit(whole)
                    self.hints.say(f"attached {names}: {len(event.ids)} tokens")
                elif isinstance(event, Failed):
                    self.hints.say(event.line, alarm=True)

        self.likely.engine.submit(r.Count(facts.name, whole), counted)

    def on_prompt_big_paste(self, event: Prompt.BigPaste) -> None:
        self._attached.append(attach.Attachment("pasted text", event.text))
        self.hints.say(f"pasted text of {len(event.text)} characters is attached to the next message · esc drops it")

    def _remember(self, text: str) -> None:
        if text.strip() and text not in self.prompt.prompts[-1:]:
            self.prompt.prompts.append(text)
            attach.append_history(self.likely.home / "history.jsonl", text)

    def _complete(self, text: str) -> list[str]:
        from app.tui import slash

        return slash.complete(cast("ChatScreen", self), text) if text.startswith("/") else attach.complete(text)

    def action_edit(self) -> None:
        """Edit the message under the cursor, or the last one of the person's, and have it answered anew."""
        place = self.transcript.cursor
        index = (
            place.block
            if place is not None
            else max((i for i, shown in enumerate(self.talk.shown) if shown.message.role == "user"), default=-1)
        )
        if index < 0:
            self.hints.say("there is nothing to edit")
            return
        self._editing = index
        self.prompt.take(self.talk.shown[index].message.text)
        self.prompt.focus()
        yours = self.talk.shown[index].message.role == "user"
        what = "a new branch, nothing is lost" if yours else "the model goes on from these words"
        self.hints.say(f"editing: enter sends ({what}) · esc leaves it as it was")
