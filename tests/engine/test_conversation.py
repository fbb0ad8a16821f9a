"""The tree against a slow reference: the set of full texts that were ever seen can always be seen again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.conversation import ROOT, Conversation, Fork, Node
from likely.engine.decode.events import Done, Emitted, Event, Forked, Pruned, Revised, Stats
from likely.engine.trace.step import Recipe, TokenStep


def step(text: str, special: bool = False) -> TokenStep:
    return TokenStep(
        token=ord(text[0]), piece=text.encode(), text=text, logprob=-1.0, logprob_after=-1.0, entropy=1.0,
        entropy_after=1.0, rank=1, kept=1, recipe=Recipe(), snapshot=None, removed_by=None, position=0, special=special,
    )  # fmt: skip


def drawn(id: str, fork: Fork, letters: str, joins: bool = False, finish: str = "eot") -> Node:
    return Node(id, fork, "assistant", steps=tuple(step(letter) for letter in letters), joins=joins, finish=finish)


@pytest.fixture
def talk() -> Conversation:
    """Why? -> abcdef, with xyz after abc, and a follow-up on each."""
    talk = Conversation("c").add(Node("u", Fork(), "user", text="Why?"))
    talk = talk.add(drawn("a", Fork("u"), "abcdef"))
    talk = talk.add(Node("u2", Fork("a"), "user", text="And?"))
    talk = talk.add(drawn("x", Fork("a", 3), "xyz", joins=True))
    return talk.add(Node("u3", Fork("x"), "user", text="So?"))


def texts(talk: Conversation) -> list[str]:
    return [message.text for message in talk.messages()]


def test_an_earlier_branch_hides_a_later_fork_until_it_is_chosen(talk: Conversation) -> None:
    talk = talk.add(drawn("y", Fork("a", 1), "YY", joins=True))
    assert texts(talk) == ["Why?", "aYY"]
    assert talk.forks() == (Fork("a", 1),)
    assert texts(talk.check_out("x")) == ["Why?", "abcxyz", "So?"]
    assert talk.check_out("x").forks() == (Fork("a", 1), Fork("a", 3))


def test_extending_closes_once() -> None:
    talk = Conversation("c").add(Node("u", Fork(), "user", text="Why?")).add(drawn("a", Fork("u"), "", finish=""))
    talk = talk.extend("a", (step("A"),)).extend("a", (step("B"),), finish="stop")
    assert texts(talk) == ["Why?", "AB"]
    with pytest.raises(ValueError, match="closed"):
        talk.extend("a", (step("C"),))


def test_control_tokens_are_not_text() -> None:
    talk = Conversation("c").add(Node("a", Fork(), "assistant", steps=(step("A"), step("<|end|>", special=True))))
    assert texts(talk) == ["A"]


@pytest.mark.parametrize(
    "node", [Node("u", Fork(), "user", text="x"), Node("n", Fork("a", 9), "user"), Node("n", Fork(), "wizard")]
)
def test_what_cannot_hang_is_refused(talk: Conversation, node: Node) -> None:
    with pytest.raises(ValueError):
        talk.add(node)


def test_walk_names_every_way_out_of_every_fork_once(talk: Conversation) -> None:
    talk = talk.add(drawn("y", Fork("a", 1), "YY", joins=True)).add(drawn("b", Fork("u"), "QQ"))
    ways = [(fork, option) for fork, option, _ in talk.walk()]
    assert len(ways) == len(set(ways))
    assert set(ways) == {
        (Fork(), "u"), (Fork("u"), "a"), (Fork("u"), "b"), (Fork("a", 1), None), (Fork("a", 1), "y"),
        (Fork("a", 3), None), (Fork("a", 3), "x"),
    }  # fmt: skip
    assert talk.leaves() == 4


def test_a_pruned_way_is_out_of_sight_until_it_is_restored(talk: Conversation) -> None:
    without = talk.prune(Fork("a", 3), "x")
    assert texts(without) == ["Why?", "abcdef", "And?"] and without.forks() == () and without.leaves() == 1
    assert without.hidden("x", 0) and without.hidden("u3", 0) and not without.hidden("a", 5)
    assert without.restore(Fork("a", 3), "x") == talk
    other = talk.prune(Fork("a", 3), None)
    assert texts(other) == texts(talk) and other.leaves() == 1
    assert other.hidden("a", 3) and not other.hidden("a", 2) and other.hidden("u2", 0)
    assert [(fork, option) for fork, option, _ in other.walk()] == [(Fork(), "u")]
    with pytest.raises(ValueError, match="last way"):
        other.prune(Fork("a", 3), "x")
    with pytest.raises(ValueError, match="put away"):
        other.reveal("u2", 0)
    assert texts(talk.prune(Fork("u"), "a")) == ["Why?"]
    assert Conversation("c").leaves() == 0


def test_any_place_can_be_revealed_and_marked(talk: Conversation) -> None:
    assert texts(talk.reveal("a", 4)) == ["Why?", "abcdef", "And?"]
    assert texts(talk.reveal("a", 4).reveal("x", 0)) == ["Why?", "abcxyz", "So?"]
    assert texts(talk.reveal("a", 2)) == texts(talk)
    marked = talk.mark("a", 4, "here").mark("x", 1, "")
    assert dict(marked.marks) == {("a", 4): "here", ("x", 1): ""}
    assert dict(marked.mark("a", 4, None).marks) == {("x", 1): ""}


def assert_nothing_lost(growth: Sequence[tuple[int, int, str]]) -> None:
    """Every text that a branch showed when it was made is shown again when it is checked out, in any order. A branch is
    of which node it parts from, at which token, and what it says."""
    talk, seen = Conversation("c"), {}
    for number, (which, at, letters) in enumerate(growth):
        id = f"n{number}"
        if talk.nodes:
            parent = talk.nodes[f"n{which % number}"]
            fork = Fork(parent.id, at) if at < len(parent) else Fork(parent.id)
            # the reference: what stands before, by hand
            head = prefix(talk, fork)
        else:
            fork, head = Fork(), ""
        talk = talk.add(drawn(id, fork, letters, joins=True))
        seen[id] = head + letters
        assert "".join(texts(talk)) == seen[id]
    for id, text in reversed(list(seen.items())):
        back = talk.check_out(id)
        for fork in talk.children:
            if fork.node == id and fork.at is not None:
                back = back.choose(fork, None)
        assert "".join(texts(back)).startswith(text)
        shown = talk.reveal(id, len(talk.nodes[id]))
        assert id in [segment.node.id for segment in shown.lineage()]
    for fork in {node.fork for node in talk.nodes.values()}:
        for option in talk.options(fork):
            assert talk.choose(fork, option).option(fork) == option


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 6), st.text("abcdef", min_size=1, max_size=6)), max_size=9))
def test_nothing_is_ever_lost(growth: list[tuple[int, int, str]]) -> None:
    assert_nothing_lost(growth)


def prefix(talk: Conversation, fork: Fork) -> str:
    """The text before a fork, recursively: slow and obvious."""
    if fork.node == ROOT:
        return ""
    node = talk.nodes[fork.node]
    own = "".join(step.text for step in node.steps)
    return prefix(talk, node.fork) + (own if fork.at is None else own[: fork.at])


# -- a run of several branches ---------------------------------------------------------------------------------------


def grown(events: list[tuple[int, int, int]], branches: int = 2) -> tuple[Conversation, dict[int, str], dict[int, str]]:
    """A run, by numbers that say what happens; the nodes of its branches, and what each branch reads as."""
    talk = Conversation("c").add(Node("u", Fork(), "user", text="Why?"))
    nodes = {b: f"n{b}" for b in range(branches)}
    for b, node in nodes.items():
        talk = talk.add(Node(node, Fork("u"), "assistant", seed=b))
    texts = dict.fromkeys(nodes, "")
    names = (f"m{i}" for i in range(1000))
    for what, which, letter in events:
        alive = sorted(nodes)
        branch = alive[which % len(alive)]
        text, char = texts[branch], chr(97 + letter % 26)
        event: Event
        if what == 0 and len(alive) < 5:
            event = Forked(branch, max(texts) + 1)
            texts[event.child] = text
        elif what == 1 and len(alive) > 1:
            event = Pruned(branch)
        elif what == 2 and text:
            at = letter % len(text)
            event = Revised(branch, at + 7, replace(step(char), position=at + 7))
            texts[branch] = text[:at] + char + text[at + 1 :]
        else:
            event = Emitted(branch, replace(step(char), position=len(text) + 7))
            texts[branch] = text + char
        talk = talk.record(event, nodes, lambda: next(names))
    return talk, nodes, texts


RUNS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 25)), max_size=40)


@given(RUNS)
@settings(max_examples=30, deadline=None)
def test_branches_of_a_run_are_ways_of_the_tree(run: list[tuple[int, int, int]]) -> None:
    """Each that lives reads as its events say, wherever it parted; what was given up is put away, and none other."""
    talk, nodes, texts_of = grown(run)
    for branch, node in nodes.items():
        there = talk.reveal(node, len(talk.nodes[node]))
        leaf = there.leaf
        assert leaf is not None and leaf.id == node and not leaf.finish
        assert [m.text for m in there.messages()] == ["Why?", texts_of[branch]]
        assert not talk.hidden(node, max(len(talk.nodes[node]) - 1, 0))
    assert talk.leaf is not None and (talk.leaf.id in nodes.values())
    if len(run) and not any(what == 1 for what, *_ in run):
        assert not talk.pruned


def test_a_run_begins_as_siblings_and_ends_branch_by_branch() -> None:
    talk, nodes, _ = grown([(9, 0, 0), (9, 1, 1), (0, 0, 0), (9, 0, 2), (9, 2, 3)])
    assert talk.options(Fork("u")) == ("n0", "n1") and talk.leaf is not None and talk.leaf.id == "n1"
    stats = Stats(4, 0, 2, 0.1, 0.1)
    for branch, reason, rest in ((0, "eot", ""), (2, "length", "!"), (1, "cancelled", "")):
        talk = talk.record(Done(branch, reason, stats, rest), nodes, lambda: "")
    assert nodes == {}
    assert {n.id: n.finish for n in talk.nodes.values() if n.drawn} == {"n0": "eot", "n1": "cancelled", "m0": "length"}
    assert texts(talk.check_out("m0")) == ["Why?", "ad!"] and texts(talk.check_out("n0")) == ["Why?", "ac"]
    assert texts(talk.check_out("n1")) == ["Why?", "b"]


def test_what_the_detokeniser_held_back_is_the_last_tokens() -> None:
    """Nothing where there was no token: a text without one has no place in an answer."""
    talk, nodes, _ = grown([(9, 0, 0), (9, 0, 1), (9, 0, 2)])
    stats = Stats(4, 0, 3, 0.1, 0.1)
    talk = talk.record(Done(0, "stop", stats, "?!"), nodes, lambda: "")
    talk = talk.record(Done(1, "stop", stats, "?!"), nodes, lambda: "")
    assert [s.text for s in talk.nodes["n0"].steps] == ["a", "b", "c?!"] and talk.nodes["n1"].steps == ()
    assert [talk.nodes[node].finish for node in ("n0", "n1")] == ["stop", "stop"]


def test_a_revision_that_is_accepted_is_checked_out_and_the_text_before_stays() -> None:
    talk, nodes, _ = grown([(9, 0, 0), (9, 0, 1), (9, 0, 2)], branches=1)
    talk = talk.record(Revised(0, 8, replace(step("X"), position=8)), nodes, lambda: "r")
    assert texts(talk) == ["Why?", "aXc"] and nodes == {0: "r"}
    assert texts(talk.choose(Fork("n0", 1), None)) == ["Why?", "abc"] and talk.nodes["n0"].finish == "revised"
    with pytest.raises(ValueError, match="no token at position 99"):
        talk.revise("r", 99, step("X"), "s")


def test_what_lies_behind_a_way_that_is_put_away(talk: Conversation) -> None:
    found = talk
    put = found.prune(Fork("a", 3), None)
    assert [put.hidden("a", unit) for unit in range(6)] == [False] * 3 + [True] * 3 and put.hidden("u2", 0)
    assert not put.hidden("x", 0)
    away = found.prune(Fork("a", 3), "x")
    assert away.hidden("x", 0) and away.hidden("u3", 0) and not away.hidden("a", 5) and not away.hidden("u2", 0)
    assert not found.hidden("x", 0)
    for line, way in (
        ("does not leave at", (Fork("a", 3), "zz")),
        ("the last way of a fork stays", (Fork("a", 2), None)),
    ):
        with pytest.raises(ValueError, match=line):
            found.prune(*way)
    gone = found.prune(Fork("u"), "a")
    assert texts(gone) == ["Why?"] and gone.hidden("a", 0) and gone.restore(Fork("u"), "a") == found
    assert texts(away.recall(Fork("a", 3), "x")) == texts(found) and not away.recall(Fork("a", 3), "x").pruned
    deep = gone.prune(Fork("x"), "u3")
    back = deep.recall(Fork("x"), "u3")
    assert texts(back) == ["Why?", "abcxyz", "So?"] and not back.pruned
    lost = put.prune(Fork("a"), "u2")
    assert texts(lost.recall(Fork("a"), "u2")) == ["Why?", "abcdef", "And?"]
    y = found.add(drawn("y", Fork("a", 1), "Y", joins=True)).prune(Fork("a", 1), None)
    assert not y.recall(Fork("a", 3), "x").pruned and y.recall(Fork("a", 1), "y").pruned == y.pruned
    with pytest.raises(ValueError, match="unit 3 of 'a' is put away"):
        put.reveal("a", 3)
    assert texts(put.reveal("a", 2)) == texts(found)


def test_a_branch_that_is_given_up_is_put_away_from_where_others_left() -> None:
    found = Conversation("c").add(Node("u", Fork(), "user", text="?"))
    for i in range(2):
        found = found.add(Node(f"n{i}", Fork("u"), "assistant", seed=i))
    found = found.extend("n0", (step("a"), step("b")))
    alone = found.give_up("n0")
    assert alone.pruned == {(Fork("u"), "n0")} and alone.nodes["n0"].finish == "pruned"
    parted = found.part("n0", "m").extend("n0", (step("c"),))
    assert parted.give_up("n0").pruned == {(Fork("n0", 2), None)}
    assert parted.give_up("m").pruned == {(Fork("n0", 2), "m")}
    both = parted.give_up("n0").give_up("m")
    assert (Fork("u"), "n0") in both.pruned and both.give_up("m").pruned >= both.pruned
    closed = found.extend("n0", (), "eot").give_up("n0")
    assert closed.nodes["n0"].finish == "eot"
    nodes = {0: "n0", 1: "n1"}
    after = found.check_out("n0").record(Pruned(0), nodes, lambda: "z")
    assert nodes == {1: "n1"} and after.leaf is not None and after.leaf.id == "n1"
    stays = found.check_out("n1").record(Pruned(0), {0: "n0", 1: "n1"}, lambda: "z")
    assert stays.leaf is not None and stays.leaf.id == "n1"
    none = found.record(Pruned(1), {1: "n1"}, lambda: "z")
    assert none.pruned == {(Fork("u"), "n1")}


def test_a_branch_parts_where_its_parent_stands_now() -> None:
    found = (
        Conversation("c")
        .add(Node("u", Fork(), "user", text="?"))
        .add(Node("n", Fork("u"), "assistant", seed=3, label="l"))
    )
    early = found.part("n", "m")
    assert early.nodes["m"] == replace(found.nodes["n"], id="m") and early.option(Fork("u")) == "n"
    late = found.extend("n", (step("a"),)).part("n", "m")
    assert late.nodes["m"].fork == Fork("n", 1) and late.nodes["m"].joins and late.nodes["m"].steps == ()
    assert late.nodes["m"].seed == 3
    assert late.leaf is not None and late.leaf.id == "n"
    fresh = replace(found, chosen={})
    assert fresh.part("n", "m").option(Fork("u")) == "n"
    with pytest.raises(ValueError, match=r"node 'n' is closed \(eot\): no branch can part"):
        found.extend("n", (), "eot").part("n", "m")


def at(letters: str, first: int = 0) -> tuple[Any, ...]:
    return tuple(replace(step(c), position=first + i) for i, c in enumerate(letters))


def test_a_revision_takes_the_tail_along_from_wherever_the_token_stood() -> None:
    found = Conversation("c").add(Node("n", Fork(), "assistant")).extend("n", at("abc"))
    found = found.part("n", "m").extend("m", at("de", 3)).check_out("m")
    assert texts(found) == ["abcde"]
    for position, want in ((0, "Xbcde"), (2, "abXde"), (3, "abcXe"), (4, "abcdX")):
        new = replace(step("X"), position=position)
        revised = found.revise("m", position, new, "r")
        assert texts(revised) == [want] and revised.nodes["m"].finish == "revised"
        assert revised.nodes["r"].joins == (position > 0)
    hidden = found.choose(Fork("n", 3), None).revise("m", 4, replace(step("X"), position=4), "r")
    assert texts(hidden) == ["abc"] and texts(hidden.check_out("r")) == ["abcdX"]
    closed = found.extend("m", (), "eot").revise("m", 4, replace(step("X"), position=4), "r")
    assert closed.nodes["m"].finish == "eot" and closed.nodes["r"].finish == "eot"
    amended = found.amend("m", 4, replace(step("Z"), position=4))
    assert texts(amended) == ["abcdZ"] and set(amended.nodes) == {"n", "m"}
    for call in (lambda: found.amend("m", 2, step("Z")), lambda: found.revise("m", 5, step("Z"), "r")):
        with pytest.raises(ValueError, match="node 'm' has no token at position"):
            call()
    later = found.extend(
        "n", at("Q", 3)
    )  # a token of the parent behind the place where the branch left is none of its own
    with pytest.raises(ValueError, match="no token at position 9"):
        later.revise("m", 9, step("Z"), "r")
