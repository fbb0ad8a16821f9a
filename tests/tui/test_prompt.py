"""Where a person writes, in an app of its own: keys that send, recall, complete; an editor in its place."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Region
from textual.pilot import Pilot

from likely.app.tui.widgets.place_editor import SYSTEM, PlaceEditor
from likely.app.tui.widgets.prompt import PASTE_SHOWN, PromptInput
from likely.app.tui.widgets.token_view import TokenView
from tests.tui.drawn import Lone, alone, stand
from tests.tui.test_token_view import ViewApp, block, lines, question

KEYS = {"keys_of": lambda action, default="": {"prompt.newline": "ctrl+j,ctrl+n"}.get(action) or default}


class Choosing(PromptInput):
    """A prompt above which completions may be listed."""

    listed = False

    def __init__(self) -> None:
        super().__init__(placeholder="write here")
        self.picks: list[int] = []

    def pick(self, by: int) -> bool:
        self.picks.append(by)
        return self.listed


async def test_enter_sends_and_other_keys_break_the_line() -> None:
    prompt = PromptInput(placeholder="write here", id="p")
    async with alone(prompt, **KEYS) as (app, pilot):
        prompt.focus()
        assert (prompt.placeholder, prompt.id, prompt.soft_wrap, prompt.show_line_numbers) == (
            "write here",
            "p",
            True,
            False,
        )
        assert prompt.tab_behavior == "focus" and not prompt.cursor_blink
        await pilot.press(*"ab", "ctrl+j", *"c", "shift+enter")
        assert prompt.text == "ab\nc\n"
        await pilot.press("ctrl+n", *"d")  # as it was remapped
        assert prompt.text == "ab\nc\n\nd"
        app.took()
        await pilot.press("enter")
        assert [message.text for message in app.took(PromptInput.Sent)] == [
            "ab\nc\n\nd"
        ] and prompt.text == "ab\nc\n\nd"
        prompt.take("xyz\nw")
        assert prompt.cursor_location == (1, 1)
        prompt.action_newline()
        assert prompt.text == "xyz\nw\n"
        prompt.text = "a\x1b[31mb"
        assert prompt.get_line(0).plain == "a␛[31mb"


@pytest.mark.slow
async def test_earlier_prompts_come_back_and_what_was_written_too() -> None:
    prompt = Choosing()
    async with alone(prompt, **KEYS) as (app, pilot):
        prompt.focus()
        await pilot.press("up", "down")
        assert prompt.text == "" and prompt._at is None and prompt.picks == [-1, 1]
        prompt.prompts = ["first", "second\nline"]
        prompt.take("draft\nof two")
        await pilot.press("up")  # to the first line, where the next one recalls
        assert prompt.text == "draft\nof two" and prompt.cursor_location[0] == 0
        for key, text in (
            ("up", "second\nline"), ("up", "second\nline"), ("up", "first"), ("up", "first"), ("down", "second\nline"),
            ("down", "draft\nof two"),
        ):  # fmt: skip
            await pilot.press(key)
            assert prompt.text == text, key
        assert prompt._at is None
        await pilot.press("down")
        assert prompt.text == "draft\nof two"
        await pilot.press("up", "up", "enter")
        assert prompt._at is None and [message.text for message in app.took(PromptInput.Sent)] == ["second\nline"]
        prompt.take("mine")
        prompt.listed, prompt.picks = True, []
        await pilot.press("up", "down")
        assert prompt.text == "mine" and prompt.picks == [-1, 1]
        prompt.listed = False
        await pilot.press("up")
        prompt.picks = []
        await pilot.press("up")
        assert prompt.picks == []  # while prompts are recalled nothing is picked


async def test_tab_completes_one_after_another_and_leaves_where_there_is_nothing() -> None:
    prompt = PromptInput(placeholder="")
    async with alone(prompt, **KEYS) as (_, pilot):
        prompt.focus()
        asked: list[str] = []
        prompt.complete = lambda text: [asked.append(text), "/ab", "/abc", "/abd"][1:] if text.startswith("/") else ()  # type: ignore[func-returns-value]
        prompt.take("/ab")
        for text in ("/abc", "/abd", "/abc"):
            await pilot.press("tab")
            assert prompt.text == text
        assert asked == ["/ab"]
        await pilot.press("backspace", "tab")
        assert prompt.text == "/abc" and asked == ["/ab", "/ab"]
        prompt.take("none")
        prompt._cycle = []
        assert prompt._complete() is False and prompt.text == "none"
        prompt.take("/ab")
        assert prompt._complete() is True
        prompt.prompts = ["earlier"]
        await pilot.press("up")  # nothing is listed that it could pick
        assert prompt.text == "earlier"


async def test_a_paste_is_made_safe_and_a_big_one_is_told() -> None:
    prompt = PromptInput(placeholder="")
    async with alone(prompt, **KEYS) as (app, pilot):
        prompt.focus()
        prompt.post_message(events.Paste("a\tb\r\nc\rd\x1b[31m"))
        await pilot.pause()
        assert prompt.text == "a   b\nc\nd␛[31m"
        prompt.text = ""
        app.took()
        prompt.post_message(events.Paste("x" * PASTE_SHOWN))
        await pilot.pause()
        assert prompt.text == "x" * PASTE_SHOWN and not app.took(PromptInput.BigPaste)
        prompt.text = ""
        prompt.post_message(events.Paste("y" * (PASTE_SHOWN + 1)))
        await pilot.pause()
        (big,) = app.took(PromptInput.BigPaste)
        assert prompt.text == "" and len(big.text) == PASTE_SHOWN + 1


# -- an editor in its place ------------------------------------------------------------------------------------------


class Page(ViewApp):
    """A view, and over it an editor."""

    CSS = """Container { layers: base above; height: 1fr; }
        TokenView { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
        PlaceEditor { layer: above; border: round white; padding: 0; }"""

    said: list[str]

    def compose(self) -> ComposeResult:
        with Container():
            yield TokenView(id="view")

    def keys_of(self, action: str, default: str = "") -> str:
        return default

    def say(self, line: str, alarm: bool = False) -> None:
        self.said.append(line)


async def edited(app: Page, pilot: Pilot[None], index: int, who: str, text: str) -> PlaceEditor:
    editor = PlaceEditor(index, who, text, app.query_one(TokenView))
    for other in app.query(PlaceEditor):
        await other.remove()
    await app.query_one(Container).mount(editor)
    editor.focus()
    await pilot.pause()
    await pilot.pause()
    return editor


@pytest.mark.slow
async def test_an_editor_lies_over_the_rows_of_its_text() -> None:
    app = Page()
    async with app.run_test(size=(30, 12)) as pilot:
        app.said = []
        view = app.query_one(TokenView)
        view.show([question(), block("a", *lines(3)), block("b", *lines(12))])
        await pilot.pause()
        view.scroll_to(y=0, animate=False)
        await pilot.pause()
        for index, text, top, height in (
            (0, "Why is it?", 1, 3), (1, "x", 4, 6), (2, "x", 0, 12), (SYSTEM, "one", 0, 3), (SYSTEM, "1\n2\n3", 0, 5),
            (7, "1\n2", 0, 4), (SYSTEM, "", 0, 3), (SYSTEM, "\n".join("abcdefghijklmnop"), 0, 12),
        ):  # fmt: skip
            editor = await edited(app, pilot, index, "you", text)
            assert (editor.region.x, editor.region.y, editor.region.height) == (0, top, height), (index, text)
            assert editor.text == text and editor.border_title == "you" and editor.was == text
        view.scroll_to(y=3, animate=False)
        await pilot.pause()
        for index, top, height in ((0, 0, 3), (1, 1, 6)):
            editor = await edited(app, pilot, index, "model", "x")
            assert (editor.region.y, editor.region.height) == (top, height)
        assert len(editor.render_lines(Region(0, 0, 30, 3))) == 3
        await editor.remove()
        blank = editor.render_lines(Region(2, 0, 7, 3))
        assert [(strip.text, strip.cell_length) for strip in blank] == [(" " * 7, 7)] * 3
        editor.lie()  # it is gone


@pytest.mark.parametrize(
    ("index", "who", "was", "now", "key", "kept", "said"),
    [
        (1, "model", "so", "so it is", "enter", ("so it is", False), False),
        (1, "model", "so", "so", "enter", None, False),
        (1, "model", "so", "so", "tab", ("so", True), False), (0, "you", "why", "why", "enter", ("why", False), False),
        (0, "you", "why", "why", "tab", None, None), (0, "you", "why", "  ", "enter", None, True),
        (SYSTEM, "system", "be brief", "", "enter", ("", False), False),
        (SYSTEM, "system", "a", "a", "enter", None, False),
        (1, "model", "so", " \n", "tab", None, True), (1, "model", "so", "x", "escape", None, False),
    ],
)  # fmt: skip
async def test_what_was_written_is_kept_where_it_is_another(
    index: int, who: str, was: str, now: str, key: str, kept: tuple[str, bool] | None, said: bool | None
) -> None:
    editor = stand(PlaceEditor, index, who, was, cast(TokenView, SimpleNamespace()))
    editor.text = now
    app = cast(Any, SimpleNamespace(said=[]))
    app.say = app.said.append
    type(editor).app = app
    did: dict[str, Any] = {"enter": editor.action_send, "tab": editor._complete, "escape": editor.action_leave}
    assert did[key]() is (True if key == "tab" else None)
    told = [each for each in cast(Any, editor).posted if isinstance(each, PlaceEditor.Kept | PlaceEditor.EditEnded)]
    found = [(each.index, each.text, each.go_on) for each in told if isinstance(each, PlaceEditor.Kept)]
    assert found == ([] if kept is None else [(index, *kept)])
    assert len(app.said) == bool(said)
    assert [type(each) for each in told][-1:] == ([] if said is not False else [PlaceEditor.EditEnded])


async def test_a_paste_of_any_size_is_edited_in_place() -> None:
    async with alone(PromptInput(placeholder=""), **KEYS) as (app, pilot):
        assert isinstance(app, Lone)
        editor = PlaceEditor(SYSTEM, "system", "", cast(TokenView, SimpleNamespace(blocks=[])))
        await app.screen.mount(editor)
        editor.focus()
        editor.post_message(events.Paste("z" * (PASTE_SHOWN + 1)))
        for _ in range(3):
            await pilot.pause()
        assert len(editor.text) == PASTE_SHOWN + 1
