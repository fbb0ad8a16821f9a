"""The transcript pane: a conversation's lineage to read and walk in, its tints, folds, Markdown and bookmarks.

It shows a `Transcript`. What changes the conversation is computed here and posted (`Altered`); steering, which needs a
model, is the screen's, and so are the keys that say `screen`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from likely.app.tui.base.context import before
from likely.app.tui.base.text.block import ShownToken
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat import attach
from likely.app.tui.chat.candidates import CandidateTable
from likely.app.tui.chat.inspecting import places
from likely.app.tui.chat.inspecting.inspection import InspectedPrompt
from likely.app.tui.chat.inspecting.places import SearchHit
from likely.app.tui.chat.transcript import ShownMessage
from likely.app.tui.widgets.bars import JumpToLatest
from likely.app.tui.widgets.figures.entropy import EntropyRow
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.input.message_editor import SYSTEM, MessageEditor
from likely.app.tui.widgets.lists.best_texts import BestTexts
from likely.app.tui.widgets.transcript.rows import TranscriptRows
from likely.app.tui.widgets.transcript.system_line import SystemLine
from likely.app.tui.widgets.transcript.token_view import TokenView
from likely.app.tui.widgets.transcript.welcome import EXAMPLES, Welcome
from likely.app.words.heat import HEATS
from likely.engine.chat.conversation import Conversation, Fork, Way

if TYPE_CHECKING:
    from likely.app.tui.chat.transcript import Transcript

Change = Callable[[Conversation], Conversation]


class TranscriptPane(Vertical):
    """The tokens, what an empty conversation shows in their place, and the way back to the newest."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "resample", "Re-sample", id="token.resample"),
        Binding("e", "edit", "Edit", id="token.edit"),
        Binding("left_square_bracket", "sibling(-1)", "Sibling", id="token.previous_sibling"),
        Binding("right_square_bracket", "sibling(1)", "Sibling", id="token.next_sibling"),
        Binding("left_curly_bracket", "fork(-1)", "Fork", id="token.previous_fork"),
        Binding("right_curly_bracket", "fork(1)", "Fork", id="token.next_fork"),
        Binding("m", "markdown", "Raw text", id="token.markdown"),
        Binding("z", "fold", "Fold", id="token.fold"),
        Binding("w", "screen.why", "Why", id="token.why"),
        Binding("vertical_line", "screen.panel", "Panel", id="token.panel"),
        Binding("l", "line_ends", "Line ends", id="token.line_ends"),
        Binding("y", "copy_answer", "Copy", id="token.copy"),
        Binding("Y", "copy_code", "Copy code", id="token.copy_code"),
        Binding("s", "screen.step", "Step", id="token.step"),
        Binding("slash", "find", "Find", id="token.find"),
        Binding("k", "mark", "Bookmark", id="token.mark"),
        Binding("K", "marks", "Bookmarks", id="token.marks"),
        Binding("delete,backspace", "prune", "Put away", id="token.prune"),
        Binding("u", "restore", "Bring back", id="token.restore"),
        Binding("i", "inside", "Inside", id="token.inside"),
        Binding("v", "near", "Nearest", id="token.near"),
        Binding("t", "screen.choice", "Tools", id="token.choice"),
        Binding("g", "screen.goto", "Go", id="token.go"),
        Binding("question_mark", "screen.keys", "Keys", id="token.keys"),
        *(Binding(str(n), f"screen.take({n})", f"Take {n}", id=f"token.take_{n}") for n in range(1, 10)),
    ]

    class Altered(Message):
        """A person changes the conversation. `keeps_run`: what is under way goes on; `news` is what there is to say of
        it, and `hit`, or the token after `fork`, where the cursor goes then."""

        def __init__(
            self,
            change: Change,
            news: str = "",
            *,
            hit: SearchHit | None = None,
            fork: Fork | None = None,
            keeps_run: bool = False,
        ) -> None:
            super().__init__()
            self.change, self.news, self.hit, self.fork, self.keeps_run = change, news, hit, fork, keeps_run

    class Steered(Message):
        """A person has the model go on from a token: with another one, with other words, or drawn again."""

        def __init__(self, place: TokenPlace, token: int | None = None, force: str = "") -> None:
            super().__init__()
            self.place, self.token, self.force = place, token, force

    class Banned(Message):
        """A person wants a token never drawn from now on, or allowed again."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

    class Rendered(Message):
        """The text is rendered in another way: panels about a token may have to be refreshed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.table: Callable[[], CandidateTable | None] = lambda: None  # of the token that is looked at
        self.weigh: Callable[[int], None] = lambda index: None  # a message's thought is opened
        self.near: Callable[[], None] = lambda: None  # its nearest tokens are wanted, or its candidates again
        self._put_away: list[Way] = []  # the last one is brought back first

    def compose(self) -> ComposeResult:
        yield SystemLine(id="system")
        yield TokenView(id="transcript")
        yield BestTexts(id="best")
        yield EntropyRow(id="entropy-below")
        yield Welcome(id="welcome")
        yield JumpToLatest(id="pill")

    def on_mount(self) -> None:
        self.view = self.query_one(TokenView)
        self.system = self.query_one(SystemLine)

    def action_near(self) -> None:
        self.near()

    def action_inside(self, page: str = "", head: tuple[int, int] | None = None, foil: int | None = None) -> None:
        """Open the inside view before the token under the cursor; without a cursor, at the end of the branch."""
        place, app, talk = self.place, host(self), self.transcript.conversation
        if place is not None and self.shown[place.block].message.role != "user":
            app.looked_into = InspectedPrompt(*self.transcript.read_until(place), page, head, foil)
        elif talk.leaf is not None:
            app.looked_into = InspectedPrompt(before(talk, Fork(talk.leaf.id)))
        app.go("inside")

    # -- content -----------------------------------------------------------------------------------------------------

    def open(self, transcript: "Transcript") -> None:
        """Show another conversation from its newest token on."""
        self.transcript = transcript
        self.close_editor()
        self.view.cursor = None
        self._put_away.clear()

    def reshow(self, *, follow: bool | None = None) -> None:
        """Show the lineage anew, after it has changed."""
        blocks = self.transcript.blocks()
        self.system.show(self.conversation.system)
        self.query_one(Welcome).display = not blocks
        self.view.show(blocks, follow=follow)

    @property
    def example(self) -> str:
        """The example that the welcome has picked; "" once something was said."""
        welcome = self.query_one(Welcome)
        return EXAMPLES[welcome.picked] if welcome.display else ""

    def turn_example(self) -> None:
        self.query_one(Welcome).turn()

    def extend(self, tokens: Sequence[ShownToken]) -> None:
        """More of the last message."""
        if tokens:
            self.view.extend(tokens)

    def renote(self) -> None:
        """The words beside the last message's name, as they are now."""
        index = len(self.shown) - 1
        self.view.renote(index, self.transcript.notes(index))

    @property
    def shown(self) -> list[ShownMessage]:
        """The messages on the screen."""
        return self.transcript.shown

    @property
    def conversation(self) -> Conversation:
        return self.transcript.conversation

    @property
    def cursor(self) -> TokenPlace | None:
        """The token that a person stands on; None while the newest is followed."""
        return self.view.cursor

    @cursor.setter
    def cursor(self, place: TokenPlace | None) -> None:
        self.view.cursor = place

    @property
    def place(self) -> TokenPlace | None:
        """The token that is looked at: under the cursor, else the newest."""
        return self.view.cursor or self.view.newest()

    def measured(self) -> None:
        """Words have been measured: show their tokens, the cursor on the word where it stood."""
        cursor, before, was_scored = self.view.cursor, 0, False
        if cursor is not None and cursor.block < len(self.shown):
            block = self.shown[cursor.block].block
            here = block.tokens[cursor.token].text
            before = sum(len(token.text) for token in block.tokens[: cursor.token]) + len(here) - len(here.lstrip())
            was_scored = block.scored
        blocks = self.transcript.blocks()
        self.view.show(blocks)
        if cursor is not None and not was_scored and blocks[cursor.block].scored:
            at = 0
            for index, token in enumerate(blocks[cursor.block].tokens):
                at += len(token.text)
                if at > before:
                    self.view.move_to(TokenPlace(cursor.block, index), scroll=False)
                    break

    def on_best_texts_shaded(self, event: BestTexts.Shaded) -> None:
        self.view.shared = event.levels
        self.view.redraw()

    def on_transcript_rows_follow_changed(self, event: TranscriptRows.FollowChanged) -> None:
        pill = self.query_one(JumpToLatest)
        pill.show(event.behind)
        pill.set_class(not event.following, "-shown")

    def on_jump_to_latest_pressed(self) -> None:
        self.view.action_latest()

    def _say(self, line: str) -> None:
        host(self).say(line)

    # -- reading -----------------------------------------------------------------------------------------------------

    def action_heat(self) -> None:
        """Tint by the next number."""
        self.set_heat(HEATS[(HEATS.index(self.transcript.heat) + 1) % len(HEATS)])

    def set_heat(self, heat: str, least: float | None = None) -> None:
        """Tint by surprisal, entropy or rank, or not at all; from `least` bits on."""
        self.transcript.recolour(heat, self.transcript.least if least is None else least)
        self.view.redraw()
        self.post_message(self.Rendered())
        self._say(f"heat: {heat}" if least is None else f"heat: {heat} from {least:g} bits on")

    def action_line_ends(self) -> None:
        """Show where lines end, or do not."""
        self.view.line_ends = not self.view.line_ends
        self.view.redraw()

    def action_markdown(self) -> None:
        """Show answers as they were written, or their Markdown as what it means."""
        on = not self.transcript.markdown
        self.view.show_otherwise(lambda: self.transcript.render(on))
        self.view.move_to(self.view.cursor)

    def action_fold(self) -> None:
        """Fold or unfold the message under the cursor, its thought or its result; where it has none, the last that has:
        a cursor stands on nothing that is folded."""
        blocks, place = self.view.blocks, self.place
        if place is not None and blocks[place.block].folding is not None:
            self._toggle_fold(place.block)
        elif found := [index for index, block in enumerate(blocks) if block.folding is not None]:
            self._toggle_fold(found[-1])

    def on_token_view_fold_toggled(self, event: TokenView.FoldToggled) -> None:
        self._toggle_fold(event.block)

    def _toggle_fold(self, index: int) -> None:
        block = self.view.blocks[index]
        if block.folding is not None:
            block.fold(not block.folded)
            self.transcript.folds[block.key] = block.folded
            self.transcript.blocks()  # whose notes say more where it is open
            self.view.relay()
            if not block.folded and block.thinking is not None:
                self.weigh(index)

    def toggle_specials(self) -> None:
        """Show or hide control tokens."""
        self.transcript.show_specials(not self.transcript.specials)
        self.view.show(self.view.blocks)

    def action_copy_answer(self) -> None:
        """Copy the message under the cursor, or the last answer."""
        index = self._answer()
        if index is not None:
            host(self).copy(self.shown[index].message.text.strip(), "answer")

    def action_copy_code(self) -> None:
        """Copy the code block under the cursor, or the last one before it."""
        index = self._answer()
        if index is None:
            return
        cursor, before = self.view.cursor, 10**9
        if cursor is not None and cursor.block == index:
            before = sum(len(step.text) for step in self.shown[index].steps[: cursor.token] if not step.special)
        code = attach.code_block(self.shown[index].message.text, before)
        if code is None:
            self._say("there is no code block in this answer")
        else:
            host(self).copy(code, "code block")

    def _answer(self) -> int | None:
        if self.view.cursor is not None:
            return self.view.cursor.block
        answers = [i for i, shown in enumerate(self.shown) if shown.message.role == "assistant"]
        return answers[-1] if answers else None

    # -- coming back to a place --------------------------------------------------------------------------------------

    def action_find(self, query: str = "") -> None:
        """Search this conversation, all branches of it."""
        self._pick("find", "words, on any branch", lambda query: places.search(self.conversation, query), query)

    def action_marks(self) -> None:
        """List the bookmarks."""
        if not self.conversation.marks:
            self._say("there are no bookmarks here: k in the transcript leaves one")
            return
        self._pick("bookmarks", "narrow", lambda query: places.marked(self.conversation, query))

    def _pick(self, title: str, about: str, search: Callable[[str], Sequence[SearchHit]], query: str = "") -> None:
        """Have a person pick a place, and go there, its branch checked out."""
        from likely.app.tui.widgets.lists.finder import Finder

        def picked(hit: SearchHit | None) -> None:
            if hit is not None:
                self.post_message(self.Altered(lambda talk: talk.reveal(hit.node, hit.unit), hit=hit))

        self.app.push_screen(Finder(title, about, search, query), picked)

    def altered(self, event: Altered) -> None:
        """The change was made: the cursor to where it leads."""
        if event.hit is not None:
            place = places.on_screen(self.shown, event.hit.node, event.hit.unit)
            if place is not None:
                self.view.focus()
                self.view.move_to(place)
        elif event.fork is not None and self.view.has_focus:
            place = self.transcript.place_of(event.fork)
            if place is not None:
                self.view.move_to(place)

    def action_mark(self, words: str | None = None) -> None:
        """Leave a bookmark at the token that is looked at, or take it away; `words` name it."""
        place = self.place
        if place is None:
            return
        shown = self.shown[place.block]
        node, unit = places.of(shown.message, [token.text for token in shown.block.tokens], place.token)
        gone = words is None and (node, unit) in self.conversation.marks
        note = None if gone else words or ""
        news = "the bookmark is gone" if gone else "bookmarked · K lists them"
        self.post_message(self.Altered(lambda talk: talk.mark(node, unit, note), news, keeps_run=True))

    def action_prune(self) -> None:
        """Put the message under the cursor away, with all that follows it."""
        place = self.view.cursor
        if place is None:
            self._say("the cursor says which message: arrow keys move it")
            return
        node = self.shown[place.block].message.segments[0].node
        self.prune(node.fork, node.id)

    def prune(self, fork: Fork, option: str | None) -> None:
        """Put one way out of a fork away. Nothing is lost: u brings it back."""
        try:
            self.conversation.prune(fork, option)
        except ValueError as error:
            self._say(str(error))
            return
        self._put_away.append((fork, option))
        news = "put away, with all that follows · u brings it back"
        self.post_message(self.Altered(lambda talk: talk.prune(fork, option), news))

    def action_restore(self) -> None:
        """Bring back what was put away last; what was put away in earlier sessions comes back all at once."""
        pruned = self.conversation.pruned
        recent = [way for way in self._put_away if way in pruned]
        if not pruned:
            self._say("nothing is put away")
            return
        ways = recent[-1:] or sorted(pruned, key=str)
        self._put_away = recent[:-1]

        def restored(talk: Conversation) -> Conversation:
            for fork, option in ways:
                talk = talk.restore(fork, option).choose(fork, option)
            return talk

        self.post_message(self.Altered(restored, "it is back"))

    def action_fork(self, by: int) -> None:
        """The cursor to the next or previous fork."""
        all_places = (self.transcript.place_of(fork) for fork in self.conversation.forks())
        forks, here = sorted(place for place in all_places if place is not None), self.place
        if here is None or not forks:
            self._say("there are no forks on this branch")
            return
        ahead = [place for place in forks if (place > here if by > 0 else place < here)]
        if ahead:
            self.view.move_to(ahead[0] if by > 0 else ahead[-1])

    # -- branches ----------------------------------------------------------------------------------------------------

    def check_out(self, fork: Fork, option: str | None) -> None:
        """Another way out of a fork."""
        self.post_message(self.Altered(lambda talk: talk.recall(fork, option), fork=fork))

    def on_best_texts_text_picked(self, event: BestTexts.TextPicked) -> None:
        """Another text of a search: to look at while it goes on, or to go on with. It may have been given up by now."""
        node = event.node

        def revealed(talk: Conversation) -> Conversation:
            end = len(talk.nodes[node])
            return talk if talk.hidden(node, end) else talk.reveal(node, end)

        self.post_message(self.Altered(revealed, keeps_run=not event.take))

    def on_best_texts_text_dropped(self, event: BestTexts.TextDropped) -> None:
        """A text of a search is put away as one that the search gave up; the search goes on."""
        self._put_away += self.conversation.give_up(event.node).pruned - self.conversation.pruned

        def dropped(talk: Conversation) -> Conversation:
            end = len(talk.nodes[event.then])
            return (talk if talk.hidden(event.then, end) else talk.reveal(event.then, end)).give_up(event.node)

        self.post_message(self.Altered(dropped, "dropped · u in the transcript brings it back", keeps_run=True))

    def action_sibling(self, by: int) -> None:
        """The next or previous way at the fork under the cursor, or the last one before it, or the first."""
        forks = [(self.transcript.place_of(fork), fork) for fork in self.conversation.forks()]
        known = [(place, fork) for place, fork in forks if place is not None]
        if not known:
            self._say("there is no other branch here")
            return
        before = [fork for place, fork in known if self.view.cursor is None or place <= self.view.cursor]
        fork = before[-1] if before else known[0][1]
        options = self.conversation.options(fork)
        here = options.index(self.conversation.option(fork))
        self.check_out(fork, options[(here + by) % len(options)])

    # -- editing in place --------------------------------------------------------------------------------------------

    def action_edit(self) -> None:
        """Edit the message under the cursor where it stands, or the last one of the person's."""
        yours = [i for i, turn in enumerate(self.shown) if turn.message.role == "user"]
        index = self.view.cursor.block if self.view.cursor is not None else max(yours, default=-1)
        if index < 0 or self.shown[index].message.role == "tool":
            self._say("there is nothing to edit" if index < 0 else "a tool's result stays as it came")
            return
        shown = self.shown[index]
        self._edit(MessageEditor(index, shown.block.who, shown.message.text, self.view))

    def edit_system(self) -> None:
        """Edit the system prompt where it stands."""
        self._edit(MessageEditor(SYSTEM, "system", self.conversation.system, self.view))

    def _edit(self, editor: MessageEditor) -> None:
        self.close_editor()
        self.mount(editor)
        editor.focus()

    def close_editor(self) -> None:
        for editor in self.query(MessageEditor):
            editor.remove()

    def on_resize(self) -> None:
        for editor in self.query(MessageEditor):
            self.call_after_refresh(editor.lie)

    def on_message_editor_edit_ended(self) -> None:
        self.close_editor()
        self.view.focus()

    def on_system_line_grown(self) -> None:
        """The welcome begins below it."""
        self.query_one(Welcome).styles.margin = (self.system.size.height if self.system.display else 0, 0, 0, 0)
        self.on_resize()

    def on_system_line_asked(self) -> None:
        self.edit_system()

    def on_token_view_chosen(self, event: TokenView.Chosen) -> None:
        """The alternatives to a token, beside it."""
        from likely.app.tui.widgets.lists.overlays import Alternatives

        place = event.place
        if self.shown[place.block].message.role in ("user", "tool"):
            self.action_edit()
            return
        if self.view.cursor != place:
            self.view.move_to(place)

        def chosen(choice: tuple[str, int | str] | None) -> None:
            match choice:
                case ("token", int(token)):
                    self.take(place, token)
                case ("text", str(text)):
                    self.post_message(self.Steered(place, force=text))
                case ("ban", int(token)):
                    self.post_message(self.Banned(token))

        if (table := self.table()) is not None:
            x, y = self.view.layout_.cell_of(place)
            at = self.view.region.x + x + 1, self.view.region.y + y - self.view.scroll_offset.y
            self.app.push_screen(Alternatives(table, at), chosen)

    def action_resample(self) -> None:
        """Draw again from the token under the cursor on."""
        if self.place is not None:
            self.post_message(self.Steered(self.place))

    def take(self, place: TokenPlace, token: int) -> None:
        """Go on from a token as if `token` had been drawn; where that is on a branch already, check it out."""
        step = self.transcript.step_at(place)
        if step is not None and step.token == token:
            self._say("that is the token that stands there")
            return
        fork = self.transcript.fork_at(place)
        for option in self.conversation.options(fork):
            if option is not None and (steps := self.conversation.nodes[option].steps) and steps[0].token == token:
                self.check_out(fork, option)
                return
        self.post_message(self.Steered(place, token))
