"""The composer on a screen of its own: what enter sends, what is attached first, and what is completed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from textual import events
from textual.pilot import Pilot

from likely.app import requests as r
from likely.app.tui.chat.attach import Attachment
from likely.app.tui.widgets.composer import Composer
from likely.app.tui.widgets.prompt import PromptInput
from likely.app.tui.widgets.suggestions import Suggestion
from likely.app.worker import Failed
from tests.tui.widgets.alone import Alone

COMMANDS = (
    Suggestion("/help", "/help"),
    Suggestion("/heat ", "/heat", whole=False),
    Suggestion("/heat off", "/heat off"),
    Suggestion("/quit", "/quit"),
)


class Stage:
    """A composer, its host, and what it has posted."""

    def __init__(self, pilot: Pilot[None], home: Path) -> None:
        app = cast(Alone, pilot.app)
        self.it, self.pilot, self.engine, self.host = app.query_one(Composer), pilot, app.engine, app.host
        vars(app)["home"] = home
        self.history = home / "history.jsonl"
        self.posted: list[tuple[str, ...]] = []
        post = self.it.post_message

        def keep(message: Any) -> bool:
            if isinstance(message, Composer.Said):
                assert not message.is_forwarded
                self.posted.append(("said", message.text, message.news))
            elif isinstance(message, Composer.Commanded):
                assert not message.is_forwarded
                self.posted.append(("commanded", message.text))
            else:
                return post(message)
            return True

        self.it.post_message = keep  # type: ignore[method-assign]
        self.it.commands = lambda text: [each for each in COMMANDS if each.text.startswith(text)]

    async def write(self, text: str) -> None:
        self.it.take(text)
        self.it.on_text_area_changed()  # as by its event, without waiting for that

    async def send(self, text: str) -> list[tuple[str, ...]]:
        """Write a text and send it: what was posted."""
        await self.write(text)
        self.it.action_send()
        found, self.posted = self.posted, []
        return found

    def heard(self) -> list[str]:
        """What was said, but for what clears the line."""
        return [("! " if alarm else "") + line for line, alarm in self.host.heard() if line]

    @property
    def offered(self) -> list[str]:
        return [each.text for each in self.it.list.offered]


@asynccontextmanager
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.chdir(tmp_path)
    it = Composer(placeholder="Say", id="composer")
    async with Alone(it.list, it, css="Composer { height: 4; } Suggestions { height: 3; }").run_test() as pilot:
        assert it.id == "composer" and it.placeholder == "Say"
        yield Stage(pilot, tmp_path / "home")


async def test_enter_says_what_is_written_and_remembers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        it = on.it
        it.action_send()
        assert not on.posted
        assert await on.send(" ") == await on.send("") == []
        assert await on.send("Why?") == [("said", "Why?", "")] and it.text == ""
        assert await on.send("Why?") == [("said", "Why?", "")] and it.prompts == ["Why?"]
        assert await on.send("//literal") == [("said", "/literal", "")]
        assert await on.send("Why?") == [("said", "Why?", "")] and it.prompts == ["Why?", "/literal", "Why?"]
        assert on.history.read_text().splitlines() == ['"Why?"', '"/literal"', '"Why?"']
        on.heard()
        (said,) = await on.send("as @they.py said")
        assert said[2] == "there is no file they.py here: it was sent as a word"
        it.busy = lambda: True
        assert await on.send("more") == [] and it.text == "more"
        assert on.heard() == ["still answering: esc stops it, then enter sends"]
        it.example = lambda: "An example"
        assert await on.send(" ") == [] and not on.heard()
        it.busy = lambda: False
        assert await on.send(" ") == [("said", "An example", "")] and it.prompts[-1] == "An example"
        it._at = 0
        await on.send("x")
        assert it._at is None
        on.host.heard()
        await on.send("y")
        assert on.host.heard() == [("", False)]  # what was said before is gone


async def test_commands_are_picked_from_their_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        it = on.it
        await on.write("/h")
        assert on.offered == ["/help", "/heat ", "/heat off"] and it.list.display
        assert await on.send("/h") == [("commanded", "/help")] and it.text == "" and not it.list.display
        await on.write("/h")
        assert it.pick(1) and it.list.index == 1
        it.action_send()
        assert it.text == "/heat " and not on.posted  # it needs more
        await on.pilot.pause()
        assert on.offered == ["/heat off"]
        assert await on.send("/heat ") == [("commanded", "/heat ")]  # nothing of the list was begun
        await on.write("/heat ")
        it.list.index = 0
        assert await on.send("/heat o") == [("commanded", "/heat off")]
        await on.write("/")
        assert await on.send("/") == [("commanded", "/")]
        await on.write("/")
        it.pick(1)
        it.pick(1)
        it.action_send()
        assert on.posted.pop() == ("commanded", "/heat off")
        assert await on.send("/quit") == [("commanded", "/quit")]
        assert await on.send("/heat") == [("commanded", "/heat")]  # all of it is there
        assert await on.send("/hea") == [] and it.text == "/heat "
        it.commands = lambda text: [Suggestion("/quit ", "/quit"), *COMMANDS[:1]]
        assert await on.send("/quit") == [("commanded", "/quit")]  # it is one of them, but for a space
        assert await on.send("/nothing at all") == [("commanded", "/quit ")]
        it.commands = lambda text: ()
        assert await on.send("/nothing at all") == [("commanded", "/nothing at all")]
        assert it.prompts[-1] == "/nothing at all"
        await on.write("//lit")
        assert not on.offered and it._suggested("//lit") == ()
        # typed so fast that the list is still of fewer letters
        it.commands = lambda text: [each for each in COMMANDS if each.text.startswith(text)]
        await on.write("/h")
        it.text = "/q"
        it.action_send()
        assert on.posted.pop() == ("commanded", "/quit")
        it._at = 0
        await on.write("/h")
        assert not on.offered  # a prompt of earlier times is left alone
        it._at = None
        await on.write("/help")
        assert not on.offered  # it is all there


async def test_files_are_counted_before_they_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("words of a file\n")
    (tmp_path / "b c.txt").write_text("x")
    async with stage(tmp_path, monkeypatch) as on:
        it, engine = on.it, on.engine
        it.room = lambda: 10
        assert await on.send("see @./none.txt") == [] and on.heard() == [
            "! there is no file none.txt: nothing was sent"
        ] and it.text == "see @./none.txt"  # fmt: skip
        whole = "see @a.txt\n\n```a.txt\nwords of a file\n```"
        assert await on.send("see @a.txt") == []
        (asked,) = engine.asked
        assert (asked.model, asked.text) == ("m", whole) and isinstance(asked, r.Count)
        engine.tell("else", r.Tokenized(tuple(range(9))))
        assert on.posted.pop() == ("said", whole, "attached a.txt: 9 tokens") and it.text == "" and not on.heard()
        await on.send("see @a.txt")
        engine.tell(r.Tokenized(tuple(range(10))))
        assert not on.posted and on.heard() == ["! a.txt: 10 tokens, and 10 are left of the context"]
        engine.tell(Failed("no memory"))
        assert on.heard() == ["! no memory"] and it.text == "see @a.txt"
        it.on_prompt_input_big_paste(event := PromptInput.BigPaste("p" * 30_000))
        assert event._stop_propagation and it.attached == [Attachment("pasted text", "p" * 30_000)]
        assert on.heard() == ["pasted text of 30000 characters is attached to the next message · esc drops it"]
        assert await on.send("") == [] and len(engine.asked) == 3
        engine.tell(r.Tokenized((1,)))
        assert on.posted.pop()[2] == "attached pasted text: 1 tokens" and not it.attached
        await on.send("@a.txt and @a.txt")
        engine.tell(r.Tokenized((1,)))
        assert on.posted.pop()[2] == "attached a.txt, a.txt: 1 tokens"
        assert not it.drop()
        it.attached.append(Attachment("x", "y"))
        it.text = "words"
        assert it.drop() and not it.attached and it.text == "" and not it.drop()
        engine.current = None
        await on.send("see @a.txt")
        assert on.heard() == ["files are attached once the model is loaded, since it counts their tokens"]
        assert len(engine.asked) == 4

        # a path that is dropped is a file
        it.text = ""
        for before, path, after in (
            ("", "a.txt", "@{}/a.txt "), ("see", "a.txt", "see @{}/a.txt "), ("see ", "a.txt", "see @{}/a.txt "),
            ("see\n", "b c.txt", 'see\n@"{}/b c.txt" '),
        ):  # fmt: skip
            await on.write(before)
            paste = events.Paste(str(tmp_path / path))
            await it._on_paste(paste)
            assert it.text == after.format(tmp_path) and paste._no_default_action and paste._stop_propagation
            assert on.heard() == ["the file is attached: its tokens are counted when it is sent"]
        await on.write("")
        await it._on_paste(events.Paste("only words"))
        assert it.text == "only words" and not on.heard()


async def test_paths_are_completed_and_examples_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one.txt", "other.txt"):
        (tmp_path / name).write_text("x")
    async with stage(tmp_path, monkeypatch) as on:
        it = on.it
        turned: list[bool] = []
        it.turn = lambda: turned.append(True)
        assert not it.pick(1)
        it.example = lambda: "An example"
        assert it.pick(1) and not it.pick(-1) and len(turned) == 1
        await on.write("x")
        assert not it.pick(1) and len(turned) == 1
        await on.write("see @o")
        assert on.offered == ["see @one.txt", "see @other.txt"]
        assert [(each.shown, each.whole) for each in it.list.offered] == [("@one.txt", False), ("@other.txt", False)]
        assert it.pick(-1) and it.list.index == 0
        assert list(it.complete("see @o")) == on.offered
        assert it._complete() and it.text == "see @one.txt"
        assert it._complete() and it.text == "see @other.txt"
        await on.write("see @")
        it._cycle = []
        await on.write("see @o")
        it.pick(1)
        assert it._complete() and it.text == "see @other.txt"
        await on.write("plain")
        it._cycle = []
        assert not it._complete()
