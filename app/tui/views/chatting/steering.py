"""`Steering`: what a person says to a chat and picks in its panels, and what that does to its session."""

from likely.app.tui.base.answer_settings import AnswerSettings
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat import titler
from likely.app.tui.dialogs.opening import LOADING, NO_MODEL
from likely.app.tui.views.chatting import generation_settings, slash, stepping
from likely.app.tui.views.chatting.chat_parts import ChatParts
from likely.app.tui.widgets.diffusion.diffusion_pane import DiffusionPane
from likely.app.tui.widgets.figures.entropy import EntropyRow
from likely.app.tui.widgets.figures.why_sheet import WhySheet
from likely.app.tui.widgets.input.composer import Composer
from likely.app.tui.widgets.input.message_editor import SYSTEM, MessageEditor
from likely.app.tui.widgets.input.sampler import Sliders
from likely.app.tui.widgets.input.suggestions import Suggestions
from likely.app.tui.widgets.input.waiting import MessageQueue
from likely.app.tui.widgets.lists.candidates import Candidates
from likely.app.tui.widgets.transcript.tree import TreePane
from likely.app.tui.widgets.transcript_pane import TranscriptPane
from likely.engine.base.errors import LikelyError


class Steering:
    """The part of a chat view that hears its panels, and the keys that steer."""

    def action_redo(self: ChatParts, settings: AnswerSettings | None = None, seed: int | None = None) -> None:
        """Another answer; with settings or a seed of its own."""
        self.begun(self.chat.regenerate(settings, seed), "there is no answer to draw again")

    def action_resume(self: ChatParts) -> None:
        self.begun(
            self.chat.resume(), "a canvas is filled whole" if self.chat.diffuses else "there is no answer to go on with"
        )

    def action_take(self: ChatParts, number: int) -> None:
        """Branch with candidate `number`; after g, go to a view."""
        if self.went(number):
            return
        table, place = self.inspector.table(), self.pane.place
        if table is not None and place is not None and number <= len(table.rows):
            self.pane.take(place, table.rows[number - 1].token)

    def action_step(self: ChatParts) -> None:
        stepping.turn(self)

    def key_space(self: ChatParts) -> None:
        if self.chat.stepping and not self.composer.has_focus:
            self.chat.pick(None)

    def on_transcript_pane_banned(self: ChatParts, event: TranscriptPane.Banned) -> None:
        self.inspector.ban(event.token)

    def on_candidates_picked(self: ChatParts, event: Candidates.Picked) -> None:
        place = self.pane.place
        if self.chat.stepping and self.chat.peek is not None and event.verb == "branch":
            self.chat.pick(event.token)
        elif event.verb == "force":
            forced = self.chat.force_next(event.token)
            name = self.names().name(event.token)
            self.hints.say(f"{name} comes next" if forced else "nothing is being drawn: enter branches with it")
        elif place is not None:
            self.pane.take(place, event.token)

    def on_sliders_changed(self: ChatParts, event: Sliders.Changed) -> None:
        try:
            generation_settings.adjust(self, event.settings, walked=event.walked)
        except LikelyError as error:
            self.inspector.sampler.show(self.chat.settings)
            self.hints.say(str(error), alarm=True)

    def on_sliders_undo_asked(self: ChatParts) -> None:
        generation_settings.undo(self)

    def on_diffusion_pane_cell_changed(self: ChatParts, event: DiffusionPane.CellChanged) -> None:
        self.begun(self.chat.place(event.node, event.step, event.position, event.token), "that is not to be changed")

    def on_diffusion_pane_answer_turned(self: ChatParts, event: DiffusionPane.AnswerTurned) -> None:
        self.pane.check_out(event.fork, event.option)

    def on_diffusion_pane_step_looked(self: ChatParts) -> None:
        self.status()

    def on_entropy_row_pointed(self: ChatParts, event: EntropyRow.Pointed) -> None:
        if (place := self.pane.place) is not None:
            self.pane.view.focus()
            self.pane.view.move_to(TokenPlace(place.block, event.token))

    def action_why(self: ChatParts) -> None:
        """Say why the word under the cursor, else the newest, was said; again shows the panel."""
        place = self.pane.place
        if self.inspector.explains:
            self.inspector.explain(False)
            self.pane.view.focus()
        elif place is None or self.chat.diffuses:
            self.hints.say("nothing is said yet" if place is None else "a diffusion model's words: see its own panel")
        else:
            self.pane.view.move_to(place)
            self.inspector.explain(True)

    def action_choice(self: ChatParts) -> None:
        """Show the choice of a tool in the place of the candidates, or these again."""
        self.inspector.turn_choice()

    def on_why_sheet_panel_asked(self: ChatParts) -> None:
        self.inspector.explain(False)
        self.pane.view.focus()

    def on_why_sheet_token_asked(self: ChatParts, event: WhySheet.TokenAsked) -> None:
        self.pane.view.action_token(event.by)

    def on_why_sheet_opened(self: ChatParts, event: WhySheet.Opened) -> None:
        if event.page == "alternatives":
            self.inspector.explain(False)
            self.pane.view.focus()
            self.pane.view.action_choose()
        else:
            explained = self.inspector.why.explained
            self.pane.action_inside(event.page, event.head, explained.foil if explained is not None else None)

    def on_why_sheet_explained(self: ChatParts, event: WhySheet.Explained) -> None:
        place, found = event.key, event.found
        step = self.chat.transcript.step_at(place) if isinstance(place, TokenPlace) else None
        if isinstance(place, TokenPlace) and step is not None and step.token in (found.why.target, found.why.foil):
            node, unit = self.inspections.unit(place)
            self.chat.change(lambda talk: talk.explain(node, unit, found), keeps_run=True)
            self.save()

    def on_why_sheet_keys_changed(self: ChatParts) -> None:
        self.show_keys()

    def on_tree_pane_checked_out(self: ChatParts, event: TreePane.CheckedOut) -> None:
        self.pane.check_out(event.fork, event.option)

    def on_tree_pane_put_away(self: ChatParts, event: TreePane.PutAway) -> None:
        self.pane.prune(event.fork, event.option)

    def on_tree_pane_brought_back(self: ChatParts) -> None:
        self.pane.action_restore()

    def on_suggestions_taken(self: ChatParts, event: Suggestions.Taken) -> None:
        self.composer.take(event.suggestion.text)
        self.composer.focus()

    def on_message_queue_edit_asked(self: ChatParts, event: MessageQueue.EditAsked) -> None:
        self.composer.edit_waiting(event.waiting)
        self.composer.focus()

    def on_composer_commanded(self: ChatParts, event: Composer.Commanded) -> None:
        slash.run(self, event.text)

    def on_composer_said(self: ChatParts, event: Composer.Said) -> None:
        self.titler.stop()
        self.pane.view.move_to(None)
        if not self.chat.conversation.title:
            self.rename(titler.first_words(event.text))
        self.chat.submit(event.text)
        self.save()
        self.reshow(follow=True)
        if self.chat.waiting is not None:
            self.hints.say(NO_MODEL if self.host.engine.loading is None else LOADING)
        elif event.news:
            self.hints.say(event.news)

    def on_message_editor_kept(self: ChatParts, event: MessageEditor.Kept) -> None:
        if event.index == SYSTEM:
            self.instruct(event.text)
        elif event.index < len(self.pane.shown):
            self.titler.stop()
            self.chat.edit(event.index, event.text, go_on=event.go_on)
            self.pane.cursor = None if self.chat.running else self.pane.cursor
            self.save()
            self.reshow(follow=self.chat.running or None)

    def on_transcript_pane_steered(self: ChatParts, event: TranscriptPane.Steered) -> None:
        token, force, whose = event.token, event.force, self.chat.transcript.model_at(event.place)
        if token is not None and self.chat.model not in ("", whose):  # to another model it is only a word
            force = self.host.names_of(whose).piece(token).decode(errors="replace")
            token = None
        begun = self.chat.branch(event.place, token, force)
        self.begun(begun, "branches leave from answers: e edits a message of yours")

    def on_transcript_pane_altered(self: ChatParts, event: TranscriptPane.Altered) -> None:
        turned = self.chat.change(event.change, keeps_run=event.keeps_run)
        self.save()
        if turned:
            self.pane.cursor = None if event.fork is None else self.pane.cursor
            self.reshow()
        self.pane.altered(event)
        if event.news:
            self.hints.say(event.news)
