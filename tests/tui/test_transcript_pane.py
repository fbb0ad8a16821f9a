"""The transcript pane in an app of its own: what it shows, and what it says is to become of a conversation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from textual.pilot import Pilot

from app.heat import BITS, HEATS
from app.tui.chat.candidates import CandidateTable
from app.tui.chat.places import SearchHit
from app.tui.dialogs.finder import Finder
from app.tui.dialogs.overlays import Alternatives
from app.tui.tokens.layout import TokenPlace
from app.tui.tokens.transcript import Transcript
from app.tui.widgets.bars import JumpToLatest
from app.tui.widgets.best_texts import BestTexts
from app.tui.widgets.place_editor import SYSTEM, PlaceEditor
from app.tui.widgets.rows import TranscriptRows
from app.tui.widgets.system_line import SystemLine
from app.tui.widgets.transcript_pane import TranscriptPane
from app.tui.widgets.welcome import EXAMPLES, Welcome
from engine.conversation import Conversation, Fork, Node
from engine.prompt import Prompt
from engine.trace.trace import TokenStep
from tests.tui.drawn import Lone, alone
from tests.tui.test_tree import drawn, grown, said, steps

CSS = """TranscriptPane { layers: base above; } PlaceEditor, Welcome, JumpToLatest { layer: above; }
TokenView { height: 1fr; overflow-x: hidden; } SystemLine { height: auto; } BestTexts { display: none; }
JumpToLatest { dock: bottom; height: 1; }"""
# a question; an answer that parts after two tokens; a second question, its answer with code and a thought
TALK = replace(
    grown(
        said("q", Fork(), "Why is it?"), drawn("a", Fork("q"), "it is air"),
        drawn("b", Fork("a", 2), "light here", joins=True),
        said("r", Fork("b"), "And then?"), drawn("d", Fork("r"), "so it is"),
    ),
    system="Be brief.",
)  # fmt: skip


PIECES = ("see\n```python\n", "x = 1\n", "<|x|>", "```\n", "and\n```\n", "y = 2\n", "```\n")


class Seat:
    """The pane in its app, and what it has said."""

    def __init__(self, app: Lone, pilot: Pilot[None], pane: TranscriptPane) -> None:
        self.app, self.pilot, self.pane, self.view = app, pilot, pane, pane.view
        self.host = cast(Any, app)

    async def altered(self) -> list[Any]:
        await self.pilot.pause()
        return self.app.took(TranscriptPane.Altered)

    async def changed(self) -> Conversation:
        """The conversation as a change makes it."""
        (event,) = await self.altered()
        return cast(Conversation, event.change(self.pane.conversation))

    def line(self) -> str:
        found = self.app.said[-1] if self.app.said else ""
        self.app.said.clear()
        return found


@asynccontextmanager
async def seated(talk: Conversation = TALK, size: tuple[int, int] = (60, 24)) -> AsyncIterator[Seat]:
    went: list[str] = []
    copied: list[tuple[str, str]] = []
    host: dict[str, Any] = {
        "engine": SimpleNamespace(current=None, submit=lambda *args: None), "go": went.append, "went": went,
        "looked_into": None,
        "copied": copied, "copy": lambda text, what: copied.append((text, what)),
        "keys_of": lambda action, default="": default or "f9",
    }  # fmt: skip
    pane = TranscriptPane(id="left")
    async with alone(pane, size, CSS, **host) as (app, pilot):
        pane.open(Transcript(talk))
        pane.reshow(follow=True)
        await pilot.pause()
        app.took()
        yield Seat(app, pilot, pane)


async def test_an_empty_conversation_shows_its_welcome_with_an_example() -> None:
    async with seated(Conversation("c")) as it:
        welcome = it.pane.query_one(Welcome)
        assert welcome.display and it.pane.example == EXAMPLES[0] and it.pane.shown == [] and it.pane.place is None
        it.pane.turn_example()
        assert it.pane.example == EXAMPLES[1]
        for act in (
            it.pane.action_mark, it.pane.action_fold, it.pane.action_copy_answer, it.pane.action_copy_code,
            it.pane.action_resample,
        ):  # fmt: skip
            act()
        assert not await it.altered() and not it.host.copied and it.line() == ""
        for act, line in (
            (it.pane.action_edit, "there is nothing to edit"),
            (lambda: it.pane.action_fork(1), "there are no forks on this branch"),
            (lambda: it.pane.action_sibling(1), "there is no other branch here"),
            (it.pane.action_restore, "nothing is put away"),
            (it.pane.action_marks, "there are no bookmarks here: k in the transcript leaves one"),
            (it.pane.action_prune, "the cursor says which message: arrow keys move it"),
        ):  # fmt: skip
            act()
            assert it.line() == line
        it.pane.action_inside()
        assert it.host.went == ["inside"] and it.host.looked_into is None
        it.pane.transcript.conversation = TALK
        it.pane.reshow()
        assert not welcome.display and it.pane.example == "" and len(it.pane.shown) == 4
        assert it.pane.system.text == "Be brief." and it.pane.conversation is TALK


async def test_another_conversation_begins_at_its_newest_token() -> None:
    async with seated() as it:
        it.pane.cursor = TokenPlace(1, 0)
        assert it.pane.place == it.pane.cursor == it.view.cursor == TokenPlace(1, 0)
        it.pane._put_away.append((Fork("a"), "b"))
        it.pane.edit_system()
        await it.pilot.pause()
        assert it.pane.query(PlaceEditor)
        it.pane.open(Transcript(Conversation("c")))
        await it.pilot.pause()
        assert it.pane.cursor is None and it.pane._put_away == [] and not it.pane.query(PlaceEditor)


async def test_what_comes_is_shown_with_its_words() -> None:
    async with seated() as it:
        height = it.view.layout_.height
        it.pane.extend([])
        it.pane.renote()
        assert it.view.layout_.height == height and it.view.blocks[3].note == it.pane.transcript.notes(3)[0] != ""
        token = it.pane.transcript.token(steps("more")[0])
        it.pane.extend([token, token])
        assert len(it.view.blocks[3].tokens) == 5
        it.view.blocks[3].note = "other"
        it.pane.renote()
        assert it.view.blocks[3].note == it.pane.transcript.notes(3)[0]
        pill = it.pane.query_one(JumpToLatest)
        it.pane.on_transcript_rows_follow_changed(TranscriptRows.FollowChanged(False, 7))
        assert pill.behind == 7 and pill.has_class("-shown")
        it.pane.on_transcript_rows_follow_changed(TranscriptRows.FollowChanged(True, 0))
        assert pill.behind == 0 and not pill.has_class("-shown")
        it.view.move_to(TokenPlace(1, 0))
        it.pane.on_jump_to_latest_pressed()
        assert it.view.cursor is None and it.view.following
        it.pane.on_best_texts_shaded(BestTexts.Shaded([1, 2]))
        assert it.view.shared == [1, 2]


async def test_words_that_were_measured_keep_the_cursor_on_their_word() -> None:
    async with seated() as it:
        scored = tuple(
            TokenStep(i, text.encode(), text, -1.0, None, None, None, 0, 0, s.recipe, None, None, i, "given")
            for i, (text, s) in enumerate(zip(["Wh", "y", " is", " ", "it?"], steps("a b c d e"), strict=True))
        )
        for word, token in ((0, 0), (1, 2), (2, 4)):
            transcript = Transcript(TALK)
            it.pane.open(transcript)
            it.pane.reshow()
            it.view.move_to(TokenPlace(0, word))
            transcript.scores["q"] = list(scored)
            it.pane.measured()
            assert it.view.cursor == TokenPlace(0, token), word
            it.view.move_to(TokenPlace(0, 1))
            it.pane.measured()
            assert it.view.cursor == TokenPlace(0, 1)  # they were measured already
        it.view.move_to(TokenPlace(1, 2))
        it.pane.measured()
        assert it.view.cursor == TokenPlace(1, 2)
        it.view.move_to(None)
        it.pane.measured()
        assert it.view.cursor is None


async def test_reading_keys_tint_fold_and_render() -> None:
    thought = grown(said("q", Fork(), "Why?"), Node("a", Fork("q"), "assistant", finish="eot", steps=(
        *(replace(s, text=t, piece=t.encode()) for s,
        t in zip(steps("a b c d e"), ("<think>", " x", "</think>", " **so", "**"), strict=True)),
    )))  # fmt: skip
    async with seated(thought) as it:
        transcript = it.pane.transcript
        for heat in (*HEATS[1:], HEATS[0]):
            it.view.render_lines(it.view.size.region)
            it.pane.action_heat()
            assert (
                not it.view._strips
                and transcript.heat == heat
                and it.line() == f"heat: {heat}"
                and transcript.least == BITS[0]
            )
            await it.pilot.pause()
            assert len(it.app.took(TranscriptPane.Rendered)) == 1
        it.pane.set_heat("entropy", 4.0)
        assert it.line() == "heat: entropy from 4 bits on" and (transcript.heat, transcript.least) == ("entropy", 4.0)
        it.pane.action_heat()
        assert transcript.least == 4.0
        for on in (True, False):
            it.view.render_lines(it.view.size.region)
            it.pane.action_line_ends()
            assert it.view.line_ends is on and not it.view._strips
        block = it.view.blocks[1]
        assert block.folded and block.rendered
        for rendered in (False, True):
            it.pane.action_markdown()
            assert transcript.markdown is block.rendered is rendered
        for folded in (False, True, False):
            it.pane.action_fold()
            assert block.folded is folded is transcript.folds["a"]
        it.view.move_to(TokenPlace(0, 0))
        it.pane.action_fold()
        assert block.folded is False
        it.view.post_message(it.view.FoldToggled(1))
        await it.pilot.pause()
        assert block.folded is True
        block.fold(False)
        transcript.folds.clear()
        it.pane.fold_thinking()
        assert block.folded is True and transcript.folds == {"a": True}
        transcript.folds["a"] = False
        block.fold(False)
        it.pane.fold_thinking()
        assert block.folded is False
        for on in (True, False):
            it.pane.toggle_specials()
            assert transcript.specials is block.specials is on


async def test_answers_and_their_code_are_copied() -> None:
    code = grown(
        said("q", Fork(), " Why? "), Node("a", Fork("q"), "assistant", finish="eot", steps=tuple(
            replace(s, text=t, piece=t.encode(), special=t == "<|x|>") for s,
            t in zip(steps("a b c d e f g"), PIECES, strict=True)
        )), said("r", Fork("a"), "more"), drawn("d", Fork("r"), "none here"),
    )  # fmt: skip
    async with seated(code) as it:
        it.pane.action_copy_answer()
        it.view.move_to(TokenPlace(0, 0))
        it.pane.action_copy_answer()
        assert it.host.copied == [("none here", "answer"), ("Why?", "answer")]
        it.host.copied.clear()
        it.view.move_to(None)
        it.pane.action_copy_code()
        assert it.line() == "there is no code block in this answer" and not it.host.copied
        for token, block in ((1, "x = 1\n"), (3, "x = 1\n"), (5, "y = 2\n"), (6, "y = 2\n")):
            it.view.move_to(TokenPlace(1, token))
            it.pane.action_copy_code()
            ((text, what),) = it.host.copied
            assert (text.strip(), what) == (block.strip(), "code block"), token
            it.host.copied.clear()


async def test_a_place_is_found_and_bookmarked_and_come_back_to() -> None:
    async with seated() as it:
        it.view.move_to(TokenPlace(1, 3))
        it.pane.action_mark()
        (event,) = await it.altered()
        assert (event.news, event.keeps_run) == ("bookmarked · K lists them", True)
        marked = event.change(TALK)
        assert marked.marks == {("b", 1): ""}
        it.pane.action_mark("here")
        assert (await it.changed()).marks == {("b", 1): "here"}
        it.pane.transcript.conversation = marked
        it.pane.reshow()
        it.pane.action_mark()
        (event,) = await it.altered()
        assert event.news == "the bookmark is gone" and event.change(marked).marks == {}
        it.pane.action_mark("still")
        assert (await it.changed()).marks == {("b", 1): "still"}
        it.view.move_to(None)
        it.pane.action_mark()
        assert list((await it.changed()).marks) == [("b", 1), ("d", 2)]
        for act, title, query, found in (
            (lambda: it.pane.action_find("air"), "find", "air", [("a", 2)]),
            (it.pane.action_marks, "bookmarks", "", [("b", 1)]),
            (it.pane.action_find, "find", "", []),
        ):  # fmt: skip
            act()
            await it.pilot.pause()
            finder = cast(Any, it.app.screen)
            assert isinstance(finder, Finder) and title in map(str, vars(finder).values())
            assert [(hit.node, hit.unit) for hit in finder.search(query)] == found and finder.query_ == query
            finder.dismiss(SearchHit("a", 2, "", "", "", "", False) if title == "find" and query else None)
            await it.pilot.pause()
            events = await it.altered()
            assert len(events) == (title == "find" and query != "")
            for event in events:
                assert (
                    event.found is not None
                    and event.change(marked).lineage()[-1].node.id == "a"
                    and not event.keeps_run
                )
        assert it.pane.view.cursor is None
        it.pane.altered(TranscriptPane.Altered(lambda talk: talk, found=SearchHit("b", 1, "", "", "", "", True)))
        await it.pilot.pause()
        assert it.view.cursor == TokenPlace(1, 3) and it.view.has_focus
        it.pane.altered(TranscriptPane.Altered(lambda talk: talk, found=SearchHit("a", 2, "", "", "", "", True)))
        assert it.view.cursor == TokenPlace(1, 3)
        it.pane.altered(TranscriptPane.Altered(lambda talk: talk, fork=Fork("a", 2)))
        assert it.view.cursor == TokenPlace(1, 2)
        it.pane.altered(TranscriptPane.Altered(lambda talk: talk, fork=Fork("zzz", 2)))
        assert it.view.cursor == TokenPlace(1, 2)
        it.app.screen.set_focus(None)
        await it.pilot.pause()
        it.pane.altered(TranscriptPane.Altered(lambda talk: talk, fork=Fork("q")))
        assert it.view.cursor == TokenPlace(1, 2)


async def test_ways_are_put_away_and_brought_back() -> None:
    async with seated() as it:
        it.view.move_to(TokenPlace(1, 3))
        it.pane.action_prune()
        (event,) = await it.altered()
        away = event.change(TALK)
        assert away.pruned == {(Fork("q"), "a")} and "u brings it back" in event.news and not event.keeps_run
        it.pane.prune(Fork("a", 2), "b")
        twice = (await it.changed()).prune(Fork("q"), "a")
        it.pane.transcript.conversation = twice
        it.pane.action_restore()
        (event,) = await it.altered()
        back = event.change(twice)
        assert back.pruned == {(Fork("q"), "a")} and event.news == "it is back" and back.option(Fork("a", 2)) == "b"
        it.pane.transcript.conversation = back
        it.pane.action_restore()
        assert (await it.changed()).pruned == frozenset()
        assert it.pane._put_away == []
        it.pane.transcript.conversation = twice  # put away in an earlier session: all at once
        it.pane.action_restore()
        assert (await it.changed()).pruned == frozenset()
        one = TALK.prune(Fork("a", 2), "b")
        it.pane.transcript.conversation = one
        it.pane.prune(Fork("a", 2), None)
        assert it.line() == "the last way of a fork stays" and not await it.altered() and it.pane._put_away == []


async def test_forks_are_walked_and_their_ways_turned() -> None:
    talk = TALK.add(drawn("e", Fork("r"), "no")).check_out("d")
    async with seated(talk) as it:
        for start, by, place in (
            (None, -1, (3, 0)), ((3, 0), -1, (1, 2)), ((1, 2), -1, (1, 2)), ((0, 0), 1, (1, 2)), ((1, 2), 1, (3, 0)),
            ((3, 1), 1, (3, 1)),
            ((3, 1), -1, (3, 0)),
        ):  # fmt: skip
            it.view.move_to(None if start is None else TokenPlace(*start))
            it.pane.action_fork(by)
            assert it.view.cursor == (None if place is None else TokenPlace(*place)), (start, by)
        for start, by, fork, option in (
            (None, 1, Fork("r"), "e"), ((3, 0), -1, Fork("r"), "e"), ((2, 0), 1, Fork("a", 2), None),
            ((1, 2), 1, Fork("a", 2), None),
            ((1, 1), 1, Fork("a", 2), None), ((0, 0), -1, Fork("a", 2), None),
        ):  # fmt: skip
            it.view.move_to(None if start is None else TokenPlace(*start))
            it.pane.action_sibling(by)
            (event,) = await it.altered()
            assert event.fork == fork and event.change(talk).option(fork) == option, start
        three = talk.add(drawn("f", Fork("r"), "maybe")).check_out("d")
        it.pane.transcript.conversation = three
        for by, option in ((1, "e"), (-1, "f")):
            it.view.move_to(None)
            it.pane.action_sibling(by)
            assert (await it.changed()).option(Fork("r")) == option


async def test_texts_of_a_search_are_shown_taken_and_dropped() -> None:
    talk = grown(said("q", Fork(), "Why?"), drawn("a", Fork("q"), "it is"), drawn("b", Fork("q"), "was", finish=""))
    async with seated(talk) as it:
        for take in (False, True):
            it.pane.on_best_texts_text_picked(BestTexts.TextPicked("a", take=take))
            (event,) = await it.altered()
            assert event.keeps_run is not take and event.change(talk).leaf.id == "a"
            gone = talk.prune(Fork("q"), "a")
            assert event.change(gone) is gone
        it.pane.on_best_texts_text_dropped(BestTexts.TextDropped("a", "b"))
        (event,) = await it.altered()
        dropped = event.change(talk.check_out("a"))
        assert (
            dropped.pruned == {(Fork("q"), "a")}
            and dropped.leaf.id == "b"
            and event.keeps_run
            and "dropped" in event.news
        )
        assert it.pane._put_away == [(Fork("q"), "a")]
        hidden = talk.check_out("a").prune(Fork("q"), "b")
        assert event.change(hidden).pruned == {(Fork("q"), "a"), (Fork("q"), "b")}


async def test_messages_are_edited_where_they_stand() -> None:
    async with seated() as it:
        for start, index, who, text in (
            (None, 2, "you", "And then?"), ((0, 1), 0, "you", "Why is it?"), ((1, 0), 1, "model", " it is light here"),
        ):  # fmt: skip
            it.view.move_to(None if start is None else TokenPlace(*start))
            it.pane.action_edit()
            await it.pilot.pause()
            (editor,) = it.pane.query(PlaceEditor)
            assert (editor.index, editor.who, editor.was, editor.has_focus) == (index, who, text, True)
        it.pane.on_system_line_asked()
        await it.pilot.pause()
        (editor,) = it.pane.query(PlaceEditor)
        assert (editor.index, editor.who, editor.was) == (SYSTEM, "system", "Be brief.")
        laid: list[int] = []
        editor.lie = lambda: laid.append(1)  # type: ignore[method-assign]
        it.pane.on_system_line_grown()
        await it.pilot.pause()
        assert laid
        await it.pilot.press("escape")
        await it.pilot.pause()
        assert not it.pane.query(PlaceEditor) and it.view.has_focus
        system = it.pane.query_one(SystemLine)
        it.pane.on_system_line_grown()
        welcome = it.pane.query_one(Welcome)
        assert welcome.styles.margin.top == system.size.height == 1
        system.display = False
        it.pane.on_system_line_grown()
        assert welcome.styles.margin.top == 0


async def test_other_tokens_are_chosen_forced_banned_and_taken() -> None:
    table = cast(CandidateTable, SimpleNamespace(rows=(), name="x"))
    async with seated() as it:
        assert it.pane.table() is None and it.pane.near() is None  # type: ignore[func-returns-value]
        near: list[int] = []
        it.pane.near = lambda: near.append(1)
        it.pane.action_near()
        assert near == [1]
        it.pane.action_resample()
        it.view.move_to(TokenPlace(1, 1))
        it.pane.action_resample()
        await it.pilot.pause()
        assert [e.place for e in it.app.took(TranscriptPane.Steered)] == [TokenPlace(3, 2), TokenPlace(1, 1)]
        pushed: list[Any] = []
        it.host.push_screen = lambda screen, then: pushed.append((screen, then))
        it.pane.on_token_view_chosen(it.view.Chosen(TokenPlace(1, 2)))
        assert not pushed and it.view.cursor == TokenPlace(1, 2)
        it.pane.table = lambda: table
        it.pane.on_token_view_chosen(it.view.Chosen(TokenPlace(1, 0)))
        ((screen, then),) = pushed
        assert isinstance(screen, Alternatives) and it.view.cursor == TokenPlace(1, 0)
        x, y = it.view.layout_.cell_of(TokenPlace(1, 0))
        at = it.view.region.x + x + 1, it.view.region.y + y - it.view.scroll_offset.y
        assert at in vars(screen).values()
        for choice in (None, ("token", 77), ("text", "words"), ("ban", 5)):
            then(choice)
        await it.pilot.pause()
        found = it.app.took(TranscriptPane.Steered, TranscriptPane.Banned)
        assert [vars(e).get("force", "ban") for e in found] == ["", "words", "ban"]
        assert (found[0].place, found[0].token, found[1].token, found[2].token) == (TokenPlace(1, 0), 77, None, 5)
        it.pane.on_token_view_chosen(it.view.Chosen(TokenPlace(0, 0)))
        await it.pilot.pause()
        assert len(pushed) == 1 and it.pane.query(PlaceEditor)
        it.pane.take(TokenPlace(1, 0), 0)
        assert it.line() == "that is the token that stands there"
        it.pane.take(TokenPlace(1, 2), 0)  # on this branch "light" stands there
        assert it.line() == "that is the token that stands there"
        it.pane.transcript.conversation = TALK.choose(Fork("a", 2), None)
        it.pane.reshow()
        it.pane.take(TokenPlace(1, 2), 0)
        (event,) = await it.altered()
        assert event.fork == Fork("a", 2) and event.change(TALK).option(Fork("a", 2)) == "b"
        it.pane.take(TokenPlace(1, 2), 99)
        await it.pilot.pause()
        (steered,) = it.app.took(TranscriptPane.Steered)
        assert (steered.place, steered.token, steered.force) == (TokenPlace(1, 2), 99, "")


async def test_the_model_is_looked_into_at_the_token_or_at_the_end() -> None:
    async with seated() as it:
        it.view.move_to(TokenPlace(1, 1))
        it.pane.action_inside()
        prompt, count = it.host.looked_into
        assert count == 3 and it.host.went == ["inside"] and isinstance(prompt, Prompt)
        it.view.move_to(TokenPlace(0, 0))
        it.pane.action_inside()
        prompt, count = it.host.looked_into
        assert count == 0 and len(prompt.turns) == 4 and prompt.turns[0] == ("system", "Be brief.")
