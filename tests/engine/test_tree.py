"""The tree of a conversation: runs of many branches by seed against their own texts, and every change at its edges."""

import random
from dataclasses import replace
from typing import Any

import pytest

from engine.conversation import ROOT, Conversation, Fork, Node, Segment
from engine.decode.events import Pruned, Rated
from tests.engine.test_conversation import assert_nothing_lost, drawn, grown, step, texts


def talk() -> Conversation:
    """Why? -> abcdef, with xyz after abc, and a follow-up on each."""
    found = Conversation("c").add(Node("u", Fork(), "user", text="Why?")).add(drawn("a", Fork("u"), "abcdef"))
    found = found.add(Node("u2", Fork("a"), "user", text="And?")).add(drawn("x", Fork("a", 3), "xyz", joins=True))
    return found.add(Node("u3", Fork("x"), "user", text="So?"))


def test_branches_of_runs_are_ways_of_the_tree() -> None:
    """Each that lives reads as its events say, wherever it parted; what was given up is put away, and none other."""
    for seed in range(20):
        rng = random.Random(seed)
        run = [(rng.randint(0, 6), rng.randint(0, 4), rng.randint(0, 25)) for _ in range(rng.randint(0, 30))]
        found, nodes, said = grown(run)
        for branch, node in nodes.items():
            there = found.reveal(node, len(found.nodes[node]))
            leaf = there.leaf
            assert leaf is not None and leaf.id == node and not leaf.finish
            assert texts(there) == ["Why?", said[branch]]
            assert not found.hidden(node, max(len(found.nodes[node]) - 1, 0))
        assert found.leaf is not None and found.leaf.id in nodes.values()
        if not any(what == 1 for what, *_ in run):
            assert not found.pruned
        assert found.leaves() >= len(nodes)


def test_every_text_is_shown_again_when_it_is_checked_out() -> None:
    for seed in range(15):
        rng = random.Random(seed)
        assert_nothing_lost(
            [
                (rng.randint(0, 7), rng.randint(0, 6), "".join(rng.choices("abc", k=rng.randint(1, 5))))
                for _ in range(rng.randint(1, 8))
            ]
        )


def test_a_segment_is_a_nodes_first_units() -> None:
    node = drawn("a", Fork(), "abc")
    assert node.drawn and len(node) == 3 and Segment(node, 2).text == "ab" and Segment(node, 3).steps is node.steps
    special = Node("b", Fork(), "assistant", steps=(step("a"), step("<e>", special=True)))
    written, empty = Node("w", Fork(), "user", text="hello"), Node("e", Fork(), "assistant")
    assert Segment(special, 2).text == "a" and len(Segment(special, 2).steps) == 2 and Segment(written, 2).text == "he"
    assert not written.drawn and len(written) == 5 and empty.drawn and len(empty) == 0
    message = talk().messages()[1]
    assert message.text == "abcxyz" and message.last.id == "x" and [s.text for s in message.steps] == list("abcxyz")
    assert Conversation("c").leaf is None and Conversation("c").messages() == () and Conversation("c").forks() == ()


def test_forks_are_named_by_one_spelling() -> None:
    found = talk()
    assert (
        found.place(Fork("a", 0)) == Fork("u")
        and found.place(Fork("a", 6)) == Fork("a")
        and found.place(Fork("a", 5)) == Fork("a", 5)
    )
    assert found.place(Fork("a")) == Fork("a") and found.place(Fork(ROOT, 2)) == Fork()
    for fork, line in (
        (Fork("zz"), "no node 'zz' to leave from"),
        (Fork("a", 7), "a node of 6 cannot be left at 7"),
        (Fork("a", -1), "left at -1"),
    ):
        with pytest.raises(ValueError, match=line):
            found.place(fork)
    parted = Conversation("c").add(drawn("a", Fork(), "ab", finish="")).part("a", "b")
    assert parted.nodes["b"].fork == Fork("a", 2) and parted.place(Fork("a", 2)) == Fork("a", 2)


def test_options_of_a_fork() -> None:
    found = talk()
    assert (
        found.options(Fork()) == ("u",)
        and found.options(Fork("a", 3)) == (None, "x")
        and found.options(Fork("a")) == ("u2",)
    )
    assert (
        found.options(Fork("a", 2)) == (None,) and found.options(Fork("u3")) == () and found.option(Fork("u3")) is None
    )
    two = found.add(drawn("b", Fork("u"), "Q"))
    assert two.option(Fork("u")) == "b" and replace(two, chosen={}).option(Fork("u")) == "b"  # the newest
    assert (
        replace(two, chosen={}).option(Fork("a", 3)) is None
        and replace(two, chosen={Fork("u"): "a"}).option(Fork("u")) == "a"
    )
    put = two.prune(Fork("u"), "b")
    assert put.option(Fork("u")) == "a" and put.options(Fork("u")) == ("a",) and two.forks() == (Fork("u"),)
    assert found.forks() == (Fork("a", 3),) and found.check_out("u2").forks() == (Fork("a", 3),)
    roots = found.add(Node("r", Fork(), "user", text="Other"))
    assert roots.forks() == (Fork(),) and roots.check_out("u").forks() == (Fork(), Fork("a", 3))


def test_the_way_to_a_place_is_checked_out_with_it() -> None:
    found = talk().add(drawn("y", Fork("a", 1), "YY", joins=True))
    assert texts(found) == ["Why?", "aYY"] and texts(found.check_out("u3")) == ["Why?", "abcxyz", "So?"]
    assert texts(found.check_out("u2")) == ["Why?", "abcdef", "And?"] and texts(found.choose(Fork("a", 1), None)) == [
        "Why?",
        "abcxyz",
        "So?",
    ]
    assert (
        dict(found.check_out("u2").chosen)[Fork("a", 1)] is None
        and dict(found.check_out("u2").chosen)[Fork("a", 3)] is None
    )
    assert texts(found.reveal("a", 1)) == ["Why?", "abcxyz", "So?"] and texts(found.reveal("a", 0)) == ["Why?", "aYY"]
    assert texts(found.reveal("a", 3)) == ["Why?", "abcdef", "And?"] and texts(found.reveal("a", 2)) == [
        "Why?",
        "abcxyz",
        "So?",
    ]
    with pytest.raises(ValueError, match="'u2' does not leave at"):
        found.choose(Fork("a", 3), "u2")


def test_what_lies_behind_a_way_that_is_put_away() -> None:
    found = talk()
    put = found.prune(Fork("a", 3), None)
    assert (
        [put.hidden("a", unit) for unit in range(6)] == [False] * 3 + [True] * 3
        and put.hidden("u2", 0)
        and not put.hidden("x", 0)
    )
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
    assert parted.give_up("n0").pruned == {(Fork("n0", 2), None)} and parted.give_up("m").pruned == {
        (Fork("n0", 2), "m")
    }
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
    assert (
        late.nodes["m"].fork == Fork("n", 1)
        and late.nodes["m"].joins
        and late.nodes["m"].steps == ()
        and late.nodes["m"].seed == 3
    )
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
        assert (
            texts(revised) == [want]
            and revised.nodes["m"].finish == "revised"
            and revised.nodes["r"].joins == (position > 0)
        )
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


def test_ratings_and_marks_are_of_a_node() -> None:
    found = talk().record(Rated(0, {"score": 1.5}), {0: "x"}, lambda: "z")
    assert dict(found.nodes["x"].figures) == {"score": 1.5} and found.rate("a", {}).nodes["a"].figures == {}
    assert talk().record(object(), {}, lambda: "z") == talk()  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        found.nodes["new"] = found.nodes["a"]  # type: ignore[index]
    for node, line in (
        (Node("u", Fork(), "user"), "node ids must be new, got 'u' again"),
        (Node(ROOT, Fork(), "user"), "must be new"),
        (Node("n", Fork(), "wizard"), "role must be one of user, assistant, text, got 'wizard'"),
    ):
        with pytest.raises(ValueError, match=line):
            talk().add(node)


def test_walks_end_where_nothing_parts_again() -> None:
    found = talk()
    assert (
        list(found.walk()) == [(Fork(), "u", 0), (Fork("a", 3), None, 1), (Fork("a", 3), "x", 1)]
        and found.leaves() == 2
    )
    assert found.next_fork(Fork(), "u") == Fork("a", 3) and found.next_fork(Fork("a", 3), "x") == Fork("u3")
    assert found.next_fork(Fork("a", 3), None) == Fork("u2")
    more = found.add(drawn("y", Fork("a", 4), "Y", joins=True)).add(drawn("b", Fork("u"), "B"))
    assert more.next_fork(Fork("a", 3), None) == Fork("a", 4) and more.leaves() == 4
    assert [depth for *_, depth in more.walk()] == [0, 1, 2, 3, 3, 2, 1]
    assert more.next_fork(Fork("a", 4), None) == Fork("u2") and more.next_fork(Fork("u"), "a") == Fork("a", 3)
