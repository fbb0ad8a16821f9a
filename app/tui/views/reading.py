"""Reading: other ways to see an answer (tints, Markdown, folded thinking), and copying it."""

from app.heat import HEATS
from app.tui.chat import attach
from app.tui.views.looking import Looking
from app.tui.widgets.token_view import TokenView


class Reading(Looking):
    """The part of the chat screen for what was said."""

    def action_heat(self) -> None:
        self.set_heat(HEATS[(HEATS.index(self.talk.heat) + 1) % len(HEATS)])

    def set_heat(self, heat: str) -> None:
        """Tint by surprisal, entropy or rank, or not at all."""
        self.talk.recolour(heat)
        self.transcript.redraw()
        self.hints.say(f"heat: {heat}")

    def action_read(self) -> None:
        """Show the answer under the cursor as Markdown, or its tokens again."""
        from app.tui.tokens.markdown import strips

        place = self.place()
        index = (
            place.block
            if place is not None
            else next((i for i, b in enumerate(self.transcript.blocks) if b.rendered is not None), -1)
        )
        if index < 0:
            return
        if self.transcript.cursor is None:
            index = len(self.transcript.blocks) - 1
        block = self.transcript.blocks[index]
        if block.rendered is not None:
            block.rendered = None
        elif self.talk.running and index == len(self.transcript.blocks) - 1:
            self.hints.say("it is rendered once the answer has ended")
            return
        else:
            block.rendered = strips(self.app, self.talk.shown[index].message.text, self.transcript.layout_.width)
            self.transcript.move_to(None)
        self.transcript.relay()
        self.inspect()

    def action_fold(self) -> None:
        """Fold or unfold the thinking of the message under the cursor."""
        place = self.place()
        if place is not None:
            self.toggle_fold(place.block)

    def on_token_view_fold_toggled(self, event: TokenView.FoldToggled) -> None:
        self.toggle_fold(event.block)

    def toggle_fold(self, index: int) -> None:
        block = self.transcript.blocks[index]
        if block.thinking is not None:
            block.fold(not block.folded)
            self.talk.folds[block.key] = block.folded
            self.transcript.relay()

    def _fold_thinking(self) -> None:
        for shown in self.talk.shown:
            block = shown.block
            if block.thinking is not None and block.key not in self.talk.folds:
                self.talk.folds[block.key] = True
                block.fold(True)

    def toggle_specials(self) -> None:
        """Show or hide control tokens."""
        self.talk.show_specials(not self.talk.specials)
        self.transcript.show(self.transcript.blocks)

    def action_copy_answer(self) -> None:
        index = self._answer_index()
        if index is not None:
            self.likely.copy(self.talk.shown[index].message.text.strip(), "answer")

    def action_copy_code(self) -> None:
        """Copy the code block under the cursor, or the last one before it."""
        index = self._answer_index()
        if index is None:
            return
        cursor = self.transcript.cursor
        before = 10**9
        if cursor is not None and cursor.block == index:
            before = sum(len(step.text) for step in self.talk.shown[index].steps[: cursor.token] if not step.special)
        code = attach.code_block(self.talk.shown[index].message.text, before)
        if code is None:
            self.hints.say("there is no code block in this answer")
        else:
            self.likely.copy(code, "code block")

    def _answer_index(self) -> int | None:
        place = self.transcript.cursor
        if place is not None:
            return place.block
        answers = [i for i, shown in enumerate(self.talk.shown) if shown.message.role == "assistant"]
        return answers[-1] if answers else None
