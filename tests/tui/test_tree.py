"""The tree of a conversation, drawn without an app from conversations that are made by hand; walks through it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.geometry import Offset, Size

from app.tui.widgets.tree import TreePane, Way, _Numbers, _words, given_up, ways
from engine.conversation import Conversation, Fork, Node
from engine.trace.trace import Recipe, TokenStep
from tests.pictures import assert_picture
from tests.tui.drawn import asked, page, paper, posted, stand

SIZE = Size(80, 24)


def steps(text: str, bits: float = 1.0) -> tuple[TokenStep, ...]:
    """A word a token."""
    words = [f" {word}" for word in text.split(" ")]
    return tuple(
        TokenStep(i, word.encode(), word, -bits * math.log(2), None, None, None, 0, 0, Recipe(), None, None, i)
        for i, word in enumerate(words)
    )


def said(id: str, fork: Fork, text: str) -> Node:
    return Node(id, fork, "user", text=text)


def drawn(id: str, fork: Fork, text: str, bits: float = 1.0, **more: Any) -> Node:
    return Node(id, fork, "assistant", steps=steps(text, bits), **{"finish": "eot", **more})


def grown(*nodes: Node) -> Conversation:
    talk = Conversation("c")
    for node in nodes:
        talk = talk.add(node)
    return talk


LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
# an answer with a branch inside, a second answer, a second question below the first of them
TALK = grown(
    said("q", Fork(), "Why is the sky blue?"), drawn("a", Fork("q"), "it is the air that scatters"),
    drawn("b", Fork("a", 3), "light of short waves", joins=True), drawn("c", Fork("b", 2), "long ones", joins=True),
    drawn("d", Fork("q"), LONG), said("r", Fork("d"), "And\nred?"), drawn("e", Fork("r"), "\x1b[31m 二十"),
)  # fmt: skip
ALONE = grown(said("q", Fork(), "Why?"), drawn("a", Fork("q"), "so"))
TWO = grown(said("q", Fork(), "Why?"), said("p", Fork(), "How?"))


def searched() -> Conversation:
    """A beam search with a text that was given up."""
    rated = lambda score: {"score": score}  # noqa: E731
    talk = grown(
        said("q", Fork(), "Why?"), drawn("a", Fork("q"), "it is air", 0.5, figures=rated(-1.5 * math.log(2))),
        drawn("b", Fork("a", 1), "was light today", 2.0, joins=True, figures=rated(-0.25 * math.log(2))),
        drawn("c", Fork("b", 1), "red", 3.0, joins=True, finish="pruned"),
        drawn("d", Fork("a"), "at night", 1.0, joins=True),
    )  # fmt: skip
    return replace(talk, pruned=frozenset({(Fork("b", 1), "c")})).check_out("a")


def voted() -> Conversation:
    """Paths of a vote, one of them without an answer."""
    label = "vote 4"
    talk = grown(said("q", Fork(), "What is 2 + 2?"))
    for i, text in enumerate(("It is 4", "It is 5", "No idea", "I think that the answer is 4000000000")):
        talk = talk.add(drawn(f"p{i}", Fork("q"), text, i + 1.0, label=label, seed=1))
    return talk.check_out("p1")


def pane(talk: Conversation | None, **how: Any) -> TreePane:
    found = stand(TreePane, **how)
    if talk is not None:
        found.show(talk)
    asked(found)
    return found


def click(x: int, y: int) -> events.Click:
    return cast(events.Click, SimpleNamespace(get_content_offset=lambda widget: Offset(x, y)))


TALKS: Mapping[str, Conversation] = {
    "branches": TALK, "another branch": TALK.check_out("c"), "its continuation": TALK.choose(Fork("a", 3), None),
    "one": ALONE, "two questions": TWO, "none": Conversation("c"), "a search": searched(), "a vote": voted(),
    "given up, no numbers": replace(
        grown(said("q", Fork(), "Why?"), drawn("a", Fork("q"), "it is"), drawn("b", Fork("q"), "was", finish="pruned")),
        pruned=frozenset({(Fork("q"), "b")}),
    ),
}  # fmt: skip


def test_trees_are_as_they_were_looked_at() -> None:
    with paper():
        rows = []
        for name, talk in TALKS.items():
            for width, height in ((46, 12), (30, 5)):
                it = pane(talk, drawer=name == "one")
                rows += [f"== {name}, {width}x{height}", *page(it, width, height)]
                assert it.get_content_height(SIZE, SIZE, width) == 1 + (
                    len(it.ways) if it.columns else min(len(it.ways), 8)
                )
            if it.pruned:
                it.action_fold()
                rows += ["== unfolded", *page(it, 46, 12)]
        it = pane(TALK, focus=True)
        for picked in (0, 3, len(it.ways) - 1):
            it.picked = picked
            rows += [f"== at {picked}", *page(it, 40, 4), f"top {it.top}"]
        it = pane(TALK)
        it.picked = 0
        rows += ["== left", *page(it, 40, 4)]
        rows += ["== narrow", *page(it, 12, 9)]
    assert_picture("tui/pictures/pages-trees.txt", rows)


def test_every_way_is_a_line_with_its_depth_its_number_and_whether_it_is_on() -> None:
    talk = TALK.check_out("c")
    found = ways(talk, _Numbers(talk))
    assert [(way.option, way.depth, way.last, way.number, way.on, way.text) for way in found] == [
        ("q", 0, True, "", True, "Why is the sky blue?"),
        ("a", 1, False, "1/2", True, "it is the"),
        (None, 2, False, "1/2", False, "…air that scatters"),
        ("b", 2, True, "2/2", True, "…light of"),
        (None, 3, False, "1/2", False, "…short waves"),
        ("c", 3, True, "2/2", True, "…long ones"),
        ("d", 1, True, "2/2", False, " ".join(LONG.split()[:16])),
    ]  # fmt: skip
    inside = TALK.choose(Fork("a", 3), None)
    assert [way.on for way in ways(inside, _Numbers(inside))] == [True, True, True, False, False, False, False]
    assert all(not way.given_up and way.numbers == () for way in found)


def test_a_way_begins_with_its_words_up_to_where_it_parts_and_sixteen_tokens_at_most() -> None:
    assert _words(TALK, Fork("q"), "d", None) == " ".join(LONG.split()[:16])
    assert _words(TALK, Fork("q"), "d", 5) == "one two three four five"
    assert _words(TALK, Fork("q"), "d", 17) == " ".join(LONG.split()[:16])
    assert _words(TALK, Fork("d", 1), None, None) == "…" + " ".join(LONG.split()[1:17])
    assert _words(TALK, Fork("d", 1), None, 4) == "…two three four"
    assert _words(TALK, Fork("d", 0), None, None) == "…" + " ".join(LONG.split()[:16])
    assert _words(TALK, Fork("d"), "r", None) == "And red?" and _words(TALK, Fork("r"), "e", None) == "␛[31m 二十"
    blank = grown(said("q", Fork(), "Why?"), Node("a", Fork("q"), "assistant"))
    assert _words(blank, Fork("q"), "a", None) == "…"
    odd = replace(steps("a b")[0], text="", piece=b"\xe4", special=False), replace(steps("c")[0], special=True)
    piece = grown(said("q", Fork(), "Why?"), Node("a", Fork("q"), "assistant", steps=odd))
    assert _words(piece, Fork("q"), "a", None) == "� c"
    root = grown(Node("a", Fork(), "text", steps=steps("first words"), joins=True))
    assert _words(root, Fork(), "a", None) == "first words"


def test_numbers_of_a_search_are_its_texts_bits_and_scores() -> None:
    talk = searched()
    assert given_up(talk) == {(Fork("b", 1), "c")}
    numbers = _Numbers(talk)
    assert numbers.columns == ("log₂p", "score")
    for end, of in (
        (Fork("q"), ("", "")), (Fork("a"), ("−1.50", "−1.50")), (Fork("a", 3), ("−1.50", "−1.50")),
        (Fork("a", 1), ("−0.50", "")),
        (Fork("b"), ("−6.50", "−0.25")), (Fork("b", 1), ("−2.50", "")), (Fork("d"), ("−3.50", "")),
        (Fork("a", 0), ("", "")),
    ):  # fmt: skip
        assert numbers.of(end.node, end) == of, end
    shown, hidden = ways(talk, numbers, away=True), ways(talk, numbers)
    assert len(shown) == len(hidden) + 1 or len(shown) == len(hidden) + 2
    assert [way.option for way in shown if way.given_up] == ["c"] and not any(way.given_up for way in hidden)
    plain = _Numbers(TALK)
    assert plain.columns == () and plain.of("a", Fork("a")) == ()


def test_a_branch_whose_next_turn_was_searched_has_its_own_numbers() -> None:
    """Not those of the beginning that the beams of the next answer share."""
    talk = grown(
        said("q", Fork(), "Why?"), drawn("plain", Fork("q"), "it is", 2.0), drawn("other", Fork("q"), "was", 1.0),
        said("again", Fork("plain"), "And?"), drawn("a", Fork("again"), "so it", 5.0, figures={"score": -0.5}),
        drawn("b", Fork("a", 1), "there", 2.0, joins=True, figures={"score": -0.7}),
    )  # fmt: skip
    total = sum(step.logprob or 0.0 for step in talk.nodes["plain"].steps) / math.log(2)
    shown = {way.option: way.numbers for way in ways(talk, _Numbers(talk))}
    assert shown["plain"] == (f"{total:.2f}".replace("-", "−"), "") and shown["other"][0] == "−1.00"


def test_numbers_of_a_vote_are_its_answers_and_bits_by_the_token() -> None:
    numbers = _Numbers(voted())
    assert numbers.columns == ("answer", "log₂p/tok")
    assert [numbers.of(f"p{i}", Fork(f"p{i}")) for i in range(3)] == [("4", "−1.00"), ("5", "−2.00"), ("", "−3.00")]
    assert numbers.of("p3", Fork("p3"))[0] == "4000000000" and numbers.of("p0", Fork("p0", 0)) == ("4", "")


def test_a_tree_is_drawn_and_laid_out_anew_where_it_is_another() -> None:
    with paper():
        it = pane(None)
        for talk, anew in (
            (ALONE, (True, True)), (ALONE, (False, False)), (TWO, (True, True)),
            (replace(TWO, title="x"), (False, False)),
            (TALK, (True, True)), (searched(), (True, True)), (searched(), (False, False)),
            (Conversation("c"), (True, True)),
        ):  # fmt: skip
            it.show(talk)
            assert asked(it) == anew and it.talk is talk and it.leaves == talk.leaves()
        many = grown(said("q", Fork(), "Why?"), *(drawn(str(i), Fork("q"), f"so {i}") for i in range(9)))
        it.show(many)
        asked(it)
        it.show(many.add(drawn("10", Fork("q"), "more")))
        assert asked(it) == (True, False)  # eight rows are all that it takes
        unrated = replace(searched(), nodes={id: replace(n, figures={}) for id, n in searched().nodes.items()})
        it.show(searched())
        asked(it)
        it.show(unrated)
        assert asked(it) == (True, True)
        it.picked = 3
        it.show(TALK)
        assert it.picked == 3
        it.show(ALONE)
        assert it.picked is None
        it.show(TALK)
        it.picked = 2
        it.show(TWO)
        assert it.picked is None


def test_keys_pick_and_check_out_and_put_away() -> None:
    with paper():
        empty = pane(Conversation("c"))
        for act in (lambda: empty.action_pick(1), empty.action_choose, empty.action_prune, empty.on_focus):
            act()
        assert empty.picked is None and not posted(empty)
        fresh = stand(TreePane)
        fresh.action_fold()
        assert fresh.unfolded and fresh.ways == []
        it = pane(TALK.check_out("c"))
        it.action_choose()
        it.action_prune()
        assert not posted(it)
        it.on_focus()
        assert it.picked == 5
        it.action_pick(1)
        assert it.picked == 6 and asked(it)[0]
        it.action_pick(1)
        it.on_focus()
        assert it.picked == 6
        it.action_pick(-99)
        assert it.picked == 0
        it.picked = None
        it.action_pick(2)
        assert it.picked == 2
        it.action_choose()
        it.action_prune()
        it.action_restore()
        first, second, third = cast(list[Any], posted(it))
        assert type(first) is TreePane.CheckedOut and (first.fork, first.option) == (Fork("a", 3), None)
        assert type(second) is TreePane.PutAway and (second.fork, second.option) == (Fork("a", 3), None)
        assert type(third) is TreePane.BroughtBack
        it.picked = 7
        it.action_choose()
        assert not posted(it)


def test_a_click_checks_a_way_out() -> None:
    with paper():
        it = pane(TALK, focus=True)
        page(it, 40, 4)
        top = it.top
        assert top > 0
        for y, picked in (
            (1, top),
            (3, top + 2),
            (0, None),
            (len(it.ways) - top, len(it.ways) - 1),
            (len(it.ways) - top + 1, None),
        ):
            it.on_click(click(2, y))
            found = cast(list[Any], posted(it))
            assert [m.option for m in found] == ([] if picked is None else [it.ways[picked].option]), y
            assert picked is None or it.picked == picked
        it.on_click(cast(events.Click, SimpleNamespace(get_content_offset=lambda widget: None)))
        assert not posted(it)


@pytest.mark.parametrize("height", range(1, 10))
def test_the_way_that_is_looked_at_is_seen(height: int) -> None:
    with paper():
        it = pane(TALK, focus=True)
        for at in range(len(it.ways)):
            it.picked = at
            lines = page(it, 40, height)
            room = height - 1
            assert len(lines) == 1 + min(room, len(it.ways)) and it.top == min(
                max(at - room + 1, 0), max(len(it.ways) - room, 0)
            )
            assert any("[row]" in line for line in lines) is (room > 0)


def test_lines_lead_from_every_ancestor_that_has_siblings_below() -> None:
    with paper():
        it = pane(None)
        shape = [
            (0, False),
            (1, False),
            (2, False),
            (3, True),
            (2, True),
            (3, False),
            (3, True),
            (1, True),
            (2, True),
            (0, True),
        ]
        it.ways = [Way(Fork(), None, depth, last, "", False, "") for depth, last in shape]
        assert [it._stem(i) for i in range(len(shape))] == [
            "● ", "├─ ", "│  ├─ ", "│  │  └─ ", "│  └─ ", "│     ├─ ", "│     └─ ", "└─ ", "   └─ ", "● ",
        ]  # fmt: skip
