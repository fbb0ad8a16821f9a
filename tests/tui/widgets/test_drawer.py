"""The room of the inspector's parts without a screen, the drawer that it is where there is little, and what steers."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual.geometry import Size

from app.recipes import BAN
from app.tui.chat.inspection import Subject
from app.tui.chat.tallies import Share, VoteCount
from app.tui.sampling import Sampling
from app.tui.widgets import inspector as module
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.sampler import Sliders
from app.tui.widgets.tree import TreePane
from app.tui.widgets.votes import Votes
from engine.conversation import Conversation
from tests.tui.widgets.canvases import ID
from tests.tui.widgets.drawing import Pictures
from tests.tui.widgets.inspecting import INSTEAD, Setup


@pytest.fixture
def setup(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(pictures, monkeypatch)


# -- steering ----------------------------------------------------------------------------------------------------------


def test_a_banned_token_is_allowed_again(setup: Setup) -> None:
    it, token = setup.it, ID["blue"]
    stopped: list[str] = []
    event = Candidates.Picked(token, "ban")
    event.stop = lambda stop=True: stopped.append("stopped")  # type: ignore[method-assign, assignment, return-value]
    shown: list[Sampling] = []
    setup.monkeypatch.setattr(
        Sliders, "show", lambda self, sampling: (shown.append(sampling), vars(self).update(sampling=sampling))
    )
    it.on_candidates_picked(event)
    assert stopped and shown[-1].bias == {token: BAN} and setup.host.heard() == [("·blue is banned from now on", False)]
    assert isinstance(said := setup.pictures.said.pop(), Sliders.Changed) and said.sampling == shown[-1]
    setup.looks(Subject(None, instead=INSTEAD))
    it.ban(token)
    assert shown[-1].bias == {} and setup.host.heard() == [(f"#{token} is allowed again", False)]
    for verb in ("branch", "force"):
        it.on_candidates_picked(Candidates.Picked(token, verb))
    assert len(shown) == 2


def test_a_search_and_a_vote_have_their_lists(setup: Setup) -> None:
    it, listed = setup.it, list[Any]()
    setup.screen.best = [SimpleNamespace(show=lambda *what: listed.append(what))]
    talk, vote = Conversation("c"), VoteCount(3, True, (Share("4", 2, 0.2, 0.9),), {})
    trees: list[Conversation] = []
    setup.monkeypatch.setattr(TreePane, "show", lambda self, shown: trees.append(shown))
    for count in (vote, None):
        setup.monkeypatch.setattr("app.tui.chat.tallies.tally", lambda talk, count=count: count)
        for columns, searched in ((("log₂p", "score"), True), (("answer", "log₂p/tok"), False), ((), False)):
            it.tree_pane.columns = columns
            it.show_tree(talk)
            assert listed.pop() == (talk, count) and it.votes.tally == count and trees.pop() is talk
            assert it.has_class("-voted") == (count is not None) and it.has_class("-searched") == searched


# -- room --------------------------------------------------------------------------------------------------------------


def test_parts_fold_one_after_another_as_the_panel_gets_lower(setup: Setup) -> None:
    heights = {
        40: (14, 3, 8, 5), 33: (14, 3, 8, 5), 32: (14, 3, 8, 4), 29: (14, 3, 8, 1), 28: (14, 1, 8, 2),
        27: (14, 1, 8, 1), 26: (9, 1, 8, 5), 25: (9, 1, 8, 4), 22: (9, 1, 8, 1), 21: (9, 1, 7, 1), 18: (9, 1, 4, 1),
        17: (9, 1, 3, 1), 16: (9, 1, 3, 1), 5: (9, 1, 3, 1),
    }  # fmt: skip
    searched = {
        33: (14, 3, 8, 5), 32: (9, 3, 8, 5), 28: (9, 3, 8, 5), 27: (9, 1, 8, 5), 26: (9, 1, 8, 5), 25: (9, 1, 8, 4),
        22: (9, 1, 8, 1), 17: (9, 1, 3, 1),
    }  # fmt: skip
    for columns, table in (((), heights), (("log₂p", "score"), searched)):
        setup.it.tree_pane.columns = columns
        for height, parts in table.items():
            setup.screen.inner = Size(40, height)
            setup.it.fit()
            assert setup.heights == parts, (columns, height)
    setup.it.tree_pane.columns = ()
    setup.it.votes.tally = VoteCount(3, True, (Share("4", 2, 0.2, 0.9),), {})
    assert Votes.rows(setup.it.votes.tally) == 4
    for height, parts in heights.items():  # and a row between
        setup.screen.inner = Size(40, height + 5)
        setup.it.fit()
        assert setup.heights == parts
    setup.screen.classes = {"-narrow"}
    setup.it.fit()
    assert setup.heights == (None,) * 4


def test_a_change_of_rows_or_size_fits_again(setup: Setup) -> None:
    it, laid = setup.it, list[bool]()
    it.fit()
    setup.screen.inner = Size(40, 29)
    setup.monkeypatch.setattr(Sliders, "refresh", lambda self, *, layout: laid.append(layout))
    it.on_sliders_rows_changed()
    assert laid == [True] and setup.heights == (14, 3, 8, 1)
    for width, narrow, slim in ((120, False, False), (76, True, False), (75, True, True), (75, False, True)):
        setup.screen.size, setup.screen.classes = Size(width, 40), {"-narrow"} if narrow else set()
        it.on_resize()
        assert (it.has_class("-drawer"), it.has_class("-slim")) == (narrow, slim)
        assert setup.heights[0] == (None if narrow else 14)


# -- the drawer --------------------------------------------------------------------------------------------------------


def test_the_drawers_parts_come_by_turns(setup: Setup) -> None:
    it = setup.it

    def turns(count: int) -> list[str]:
        found = []
        for _ in range(count):
            it.next_face()
            found.append(it.face)
        return found

    assert it.face == "glance"
    assert turns(2) == ["glance", "glance"]  # it is no drawer
    setup.screen.classes = {"-narrow"}
    assert turns(5) == ["entropy", "sampler", "", "glance", "entropy"]
    it.set_class(True, "-voted")
    it.turn("glance")
    assert turns(5) == ["token", "entropy", "sampler", "", "glance"]
    it.set_class(True, "-slim")
    assert turns(6) == ["token", "entropy", "tree", "sampler", "", "glance"]
    it.set_class(False, "-voted")
    it.turn("token")
    assert turns(2) == ["glance", "entropy"]
    it.turn("sampler")
    it.display = False
    assert turns(1) == ["glance"]


def test_the_drawer_opens_and_closes(setup: Setup) -> None:
    it = setup.it
    it.open()
    assert it.face == "glance" and not it.close()
    setup.screen.classes = {"-tiny"}
    it.open()
    assert it.face == "token" and setup.later == [it.look]
    for face, closes in (
        ("token", True),
        ("entropy", True),
        ("tree", True),
        ("sampler", True),
        ("glance", False),
        ("", False),
    ):
        setup.later.clear()
        it.turn(face)
        assert it.face == face and it.has_class("-shut") == (not face) and len(setup.later) == 1
        assert it.close() == closes
        assert len(setup.later) == 1 + closes
        assert it.face == ("glance" if closes else face)
        assert not closes or not any(it.has_class(f"-{each}") for each in (*module.FACES, "shut"))
    it.turn("token")
    setup.screen.classes = set()
    assert not it.close() and it.face == "token"


def test_the_way_to_the_sampler_and_back(setup: Setup) -> None:
    it, focused = setup.it, list[str]()
    setup.monkeypatch.setattr(Sliders, "focus", lambda self: focused.append("sampler"))
    back = cast(Any, SimpleNamespace(focus=lambda: focused.append("back")))
    it.to_sampler(back)
    assert focused == ["sampler"] and it.face == "glance"
    setup.screen.classes = {"-narrow"}
    it.to_sampler(back)
    assert it.face == "sampler" and len(focused) == 1
    for call in setup.later:
        call()
    assert focused == ["sampler", "sampler"]
    it.to_sampler(back)
    assert it.face == "glance" and focused[2:] == ["back"]
    it.turn("sampler")
    setup.screen.classes = set()
    it.to_sampler(back)
    assert focused[3:] == ["sampler"]
