"""Full-screen views: a new one is a file and a line of the table; each is left while it works, and found done."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from likely.app.tui.base.view_table import VIEWS, ViewEntry
from tests.support.everyday import everyday
from tests.support.model import SKY
from tests.support.screen import Screen

ASK = "Why is the sky blue?"
CLOCK = '''
"""A view that tells the time."""

from textual.binding import Binding

from likely.app.tui.views.view import View
from likely.app.tui.widgets.bars import Hints, TopBar


class ClockScreen(View):
    NAME = "clock"
    BINDINGS = [Binding("w", "wind", "Wind", id="clock.wind", tooltip="wind it up")]
    wound = 0

    def compose(self):
        yield TopBar(self.NAME)
        yield Hints()

    def on_mount(self):
        self.models_changed()

    def models_changed(self):
        self.top.show(self.host.engine.current.name if self.host.engine.current else "", ())

    def action_wind(self):
        self.wound += 1

    def leave(self):
        (self.host.home / "wound").write_text(str(self.wound))

    def commands(self):
        yield "clock: Wind", "once more", self.action_wind
'''


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One file and one line; what the view does when it is told to leave is in a file."""
    (tmp_path / "clock_view.py").write_text(CLOCK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(VIEWS, "clock", ViewEntry("f8", "clock_view:ClockScreen", "the time", "what time it is"))
    yield
    sys.modules.pop("clock_view", None)


def found(screen: Screen, words: str) -> bool:
    """Whether the palette offers something."""
    screen.press("ctrl+p")
    screen.type(words[1:])
    seen = words in screen.text
    screen.press("escape")
    return seen


@pytest.mark.slow(2)
def test_a_view_is_a_file_and_a_line(tmp_path: Path, clock: None) -> None:
    with Screen(tmp_path, size=(160, 40)) as screen:
        tabs = (f"{entry.key} {name}" for name, entry in VIEWS.items() if entry.key and not entry.within)
        assert f" likely  {'  '.join(tabs)}  │" in screen.lines[0]
        assert found(screen, "view: Clock") and not found(screen, "clock: Wind")
        screen.type("/cl")
        assert "/clock" in screen.text and "what time it is" in screen.text
        screen.press("escape", "ctrl+u")
        screen.resize(90, 460)
        screen.press("f1")
        assert all(words in screen.text for words in ("the time", '"clock.wind" = "w"', '"app.clock" = "f8"'))
        screen.press("escape")
        screen.resize(160, 40)
        screen.press("f8")  # the key
        assert "│ scripted" in screen.lines[0] and "Message" not in screen.text
        screen.press("w")
        assert found(screen, "clock: Wind") and found(screen, "view: Chat") and not found(screen, "view: Clock")
        screen.press("f1")
        assert "wind it up" in screen.text
        screen.press("escape", "f2")
        assert (screen.home / "wound").read_text() == "1"
        screen.say(ASK)
        screen.press("tab", "g")
        assert "2 chat" in screen.lines[-1] and "8 clock" in screen.lines[-1] and "ladders" not in screen.lines[-1]
        screen.press("8", "f2", "escape")  # goto
        assert (screen.home / "wound").read_text() == "0"
        screen.type("/clock")
        screen.press("enter", "w", "w", "ctrl+q")  # the command
        assert (screen.home / "wound").read_text() == "2"


def test_its_keys_can_be_others(tmp_path: Path, clock: None) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "keys.toml").write_text('"app.clock" = "f11"\n"clock.wind" = "x"\n')
    with Screen(tmp_path) as screen:
        screen.press("f8", "w")
        assert "│ w" in screen.text and " f11 clock " in screen.lines[0]
        screen.press("f11", "x", "f2")
        assert (screen.home / "wound").read_text() == "1"


# a view, what begins its work, what is seen while it works, and what when it is done, or was stopped by being left
WORK = {
    "chat": ((*ASK, "enter"), "esc Stop", "TOKEN 67/67"),
    "compare": ((*ASK, "enter"), "Blue light is", "the same · ppl 2.7 · 3 tok"),
    "text": ((*" The sky", "ctrl+r"), "BITS SO FAR  continuing", "predicted 4 of 5 tokens"),
    "runs": (("n", *"arithmetic", "down", "down", *["backspace"] * 3, "6", "enter"), "evaluations", "∎ done · kept"),
    "tune": ((*"rows.jsonl", "enter"), "step 3", "done after step"),
}


@pytest.mark.parametrize("name", everyday(WORK, 3))
def test_a_view_is_left_while_it_works_and_its_work_is_there(screen: Screen, name: str) -> None:
    begins, working, done = WORK[name]
    screen.go(name)
    screen.hold(after={"compare": 9, "runs": 0}.get(name, 3))
    screen.press(*begins)
    assert working in screen.text and (name == "compare" or done not in screen.text)
    screen.press("f4" if name != "text" else "f3")
    screen.type("qz")
    assert "qz" in screen.text
    screen.release()
    screen.wait(2)
    screen.go(name)
    screen.wait()
    assert done in screen.text and "qz" not in screen.text


@pytest.mark.slow
def test_every_view_is_gone_to_from_every_other_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(160, 24)) as screen:
        screen.hold(after=2)
        screen.say(ASK)
        for i, start in enumerate(VIEWS):
            assert start == VIEWS[start].load().NAME
            screen.go(start)
            for end in list(VIEWS)[i + 1 :]:  # there and back
                screen.go(end)
                screen.go(start)
                assert screen.running
        screen.release()
        screen.press("f2")
        assert "TOKEN 67/67" in screen.text
        (talk,) = screen.kept
        assert talk.messages()[1].text == SKY and talk.leaf is not None and talk.leaf.finish == "eot"
