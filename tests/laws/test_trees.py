"""Trees of a conversation against a slow reference: a text that was ever seen can always be seen again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.engine.chat.conversation import ROOT, Conversation, Fork, Node
from likely.engine.decode.loop.events import Done, Emitted, Event, Forked, Pruned, Stats
from likely.engine.decode.loop.texts import GrownText, Texts
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep

U = Node("u", Fork(), "user", text="Why?")


def step(text: str, special: bool = False, position: int = 0) -> TokenStep:
    return TokenStep(
        token=ord(text[0]), piece=text.encode(), text=text, logprob=-1.0, logprob_after=-1.0, entropy=1.0,
        entropy_after=1.0, rank=1, kept=1, recipe=SamplingConfig(), snapshot=None, removed_by=None, position=position,
        special=special,
    )  # fmt: skip


def steps(letters: str, first: int = 0) -> tuple[TokenStep, ...]:
    return tuple(step(letter, position=first + i) for i, letter in enumerate(letters))


def drawn(id: str, fork: Fork, letters: str, joins: bool = False, finish: str = "eot") -> Node:
    return Node(id, fork, "assistant", steps=steps(letters), joins=joins, finish=finish)


@pytest.fixture
def talk() -> Conversation:
    """Why? -> abcdef, with xyz after abc, and a follow-up on each."""
    talk = Conversation("c").add(U).add(drawn("a", Fork("u"), "abcdef"))
    talk = talk.add(Node("u2", Fork("a"), "user", text="And?"))
    talk = talk.add(drawn("x", Fork("a", 3), "xyz", joins=True))
    return talk.add(Node("u3", Fork("x"), "user", text="So?"))


def texts(talk: Conversation) -> str:
    return " ".join(message.text for message in talk.messages())


def prefix(talk: Conversation, fork: Fork) -> str:
    """The text before a fork, recursively: slow and obvious."""
    if fork.node == ROOT:
        return ""
    node = talk.nodes[fork.node]
    own = "".join(step.text for step in node.steps)
    return prefix(talk, node.fork) + (own if fork.at is None else own[: fork.at])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 6), st.text("abcdef", min_size=1, max_size=6)), max_size=9))
def test_nothing_is_ever_lost(growth: list[tuple[int, int, str]]) -> None:
    """Every text that a branch showed when it was made is shown again when it is checked out, in any order. A branch is
    of which node it parts from, at which token, and what it says."""
    talk, seen = Conversation("c"), {}
    for number, (which, at, letters) in enumerate(growth):
        fork = Fork()
        if talk.nodes:
            parent = talk.nodes[f"n{which % number}"]
            fork = Fork(parent.id, at) if at < len(parent) else Fork(parent.id)
        seen[f"n{number}"] = prefix(talk, fork) + letters
        talk = talk.add(drawn(f"n{number}", fork, letters, joins=True))
        assert "".join(m.text for m in talk.messages()) == seen[f"n{number}"]
    for id, text in reversed(list(seen.items())):
        back = talk.check_out(id)
        for fork in talk.children:
            if fork.node == id and fork.at is not None:
                back = back.choose(fork, None)
        assert "".join(m.text for m in back.messages()).startswith(text)
        cut = back.cut(0, len(back.messages()), "copy")  # alone, and nothing hidden beside it
        assert [m.text for m in cut.messages()] == [m.text for m in back.messages()] and not cut.forks()
        shown = talk.reveal(id, len(talk.nodes[id]))
        assert id in [segment.node.id for segment in shown.lineage()]
    for fork in {node.fork for node in talk.nodes.values()}:
        for option in talk.options(fork):
            assert talk.choose(fork, option).option(fork) == option


def test_an_earlier_branch_hides_a_later_fork_until_it_is_chosen(talk: Conversation) -> None:
    talk = talk.add(drawn("y", Fork("a", 1), "YY", joins=True))
    assert texts(talk) == "Why? aYY" and talk.forks() == (Fork("a", 1),)
    assert texts(talk.check_out("x")) == "Why? abcxyz So?"
    assert talk.check_out("x").forks() == (Fork("a", 1), Fork("a", 3))


def test_extending_closes_once_and_control_tokens_are_not_text(talk: Conversation) -> None:
    open_ = Conversation("c").add(U).add(drawn("a", Fork("u"), "", finish=""))
    open_ = open_.extend("a", (step("A"),)).extend("a", (step("B"), step("<|end|>", special=True)), finish="stop")
    assert texts(open_) == "Why? AB"
    with pytest.raises(ValueError, match="closed"):
        open_.extend("a", (step("C"),))
    for node in (Node("u", Fork(), "user", text="x"), Node("n", Fork("a", 9), "user"), Node("n", Fork(), "wizard")):
        with pytest.raises(ValueError):
            talk.add(node)


def test_walk_names_every_way_out_of_every_fork_once(talk: Conversation) -> None:
    talk = talk.add(drawn("y", Fork("a", 1), "YY", joins=True)).add(drawn("b", Fork("u"), "QQ"))
    ways = [(fork, option) for fork, option, _ in talk.walk()]
    assert len(ways) == len(set(ways)) and talk.leaves() == 4
    assert set(ways) == {
        (Fork(), "u"), (Fork("u"), "a"), (Fork("u"), "b"), (Fork("a", 1), None), (Fork("a", 1), "y"),
        (Fork("a", 3), None), (Fork("a", 3), "x"),
    }  # fmt: skip


# -- what is put away --------------------------------------------------------------------------------------------------


def hidden(talk: Conversation) -> set[tuple[str, int]]:
    units = ((id, unit) for id, node in talk.nodes.items() for unit in range(len(node.steps) or 1))
    return {place for place in units if talk.hidden(*place)}


X = {("x", 0), ("x", 1), ("x", 2), ("u3", 0)}
TAIL = {("a", 3), ("a", 4), ("a", 5), ("u2", 0)}


@pytest.mark.parametrize(
    ("fork", "option", "shown", "gone"),
    [
        (Fork("a", 3), "x", "Why? abcdef And?", X), (Fork("a", 3), None, "Why? abcxyz So?", TAIL),
        (Fork("u"), "a", "Why?", X | TAIL | {("a", 0), ("a", 1), ("a", 2)}),
    ],
)  # fmt: skip
def test_a_pruned_way_is_out_of_sight_until_it_is_restored(
    talk: Conversation, fork: Fork, option: str | None, shown: str, gone: set[tuple[str, int]]
) -> None:
    put = talk.prune(fork, option)
    assert texts(put) == shown and hidden(put) == gone and not hidden(talk)
    assert put.restore(fork, option) == talk and not put.recall(fork, option).pruned
    assert put.leaves() == 1 and put.forks() == ()


def test_the_last_way_stays_and_what_lies_behind_is_recalled_with_what_hides_it(talk: Conversation) -> None:
    away, put, gone = talk.prune(Fork("a", 3), "x"), talk.prune(Fork("a", 3), None), talk.prune(Fork("u"), "a")
    assert texts(away.recall(Fork("a", 3), "x")) == texts(talk)
    back = gone.prune(Fork("x"), "u3").recall(Fork("x"), "u3")
    assert texts(back) == "Why? abcxyz So?" and not back.pruned
    assert texts(put.prune(Fork("a"), "u2").recall(Fork("a"), "u2")) == "Why? abcdef And?"
    y = talk.add(drawn("y", Fork("a", 1), "Y", joins=True)).prune(Fork("a", 1), None)
    assert not y.recall(Fork("a", 3), "x").pruned and y.recall(Fork("a", 1), "y").pruned == y.pruned
    assert texts(put.reveal("a", 2)) == texts(talk) and Conversation("c").leaves() == 0
    refused: list[tuple[str, Callable[[], Any]]] = [
        ("does not leave at", lambda: talk.prune(Fork("a", 3), "zz")),
        ("the last way of a fork stays", lambda: talk.prune(Fork("a", 2), None)),
        ("last way", lambda: put.prune(Fork("a", 3), "x")),
        ("unit 3 of 'a' is put away", lambda: put.reveal("a", 3)), ("put away", lambda: put.reveal("u2", 0)),
    ]  # fmt: skip
    for line, call in refused:
        with pytest.raises(ValueError, match=line):
            call()


def test_any_place_can_be_revealed_and_marked(talk: Conversation) -> None:
    assert texts(talk.reveal("a", 4)) == "Why? abcdef And?" and texts(talk.reveal("a", 2)) == texts(talk)
    assert texts(talk.reveal("a", 4).reveal("x", 0)) == "Why? abcxyz So?"
    marked = talk.mark("a", 4, "here").mark("x", 1, "")
    assert dict(marked.marks) == {("a", 4): "here", ("x", 1): ""}
    assert dict(marked.mark("a", 4, None).marks) == {("x", 1): ""}


# -- a run of several branches -----------------------------------------------------------------------------------------


def grown(events: list[tuple[int, int, int]], branches: int = 2) -> tuple[Conversation, dict[int, str], dict[int, str]]:
    """A run, by numbers that say what happens; the nodes of its branches, and what each branch reads as, in the fold
    of its events, too."""
    talk, nodes = Conversation("c").add(U), {b: f"n{b}" for b in range(branches)}
    for b, node in nodes.items():
        talk = talk.add(Node(node, Fork("u"), "assistant", seed=b))
    texts, names = dict.fromkeys(nodes, ""), (f"m{i}" for i in range(1000))
    fold = Texts[GrownText](branches)
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
        else:
            event = Emitted(branch, step(char, position=len(text) + 7))
            texts[branch] = text + char
        talk = talk.record(event, nodes, lambda: next(names))
        assert list(fold.follow([event])) == [event]
    assert {branch: text.text for branch, text in fold.items()} == {branch: texts[branch] for branch in nodes}
    return talk, nodes, texts


RUNS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 25)), max_size=40)


@given(RUNS)
@settings(max_examples=30)
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
    if run and not any(what == 1 for what, *_ in run):
        assert not talk.pruned


def test_a_run_begins_as_siblings_and_ends_branch_by_branch() -> None:
    """What the detokeniser held back is the last token's; nothing where there was none."""
    talk, nodes, _ = grown([(9, 0, 0), (9, 1, 1), (0, 0, 0), (9, 0, 2), (9, 2, 3)])
    assert talk.options(Fork("u")) == ("n0", "n1") and talk.leaf is not None and talk.leaf.id == "n1"
    stats = Stats(4, 0, 2, 0.1, 0.1)
    for branch, reason, rest in ((0, "eot", ""), (2, "length", "!"), (1, "cancelled", "")):
        talk = talk.record(Done(branch, reason, stats, rest), nodes, lambda: "")
    assert nodes == {}
    assert {n.id: n.finish for n in talk.nodes.values() if n.drawn} == {"n0": "eot", "n1": "cancelled", "m0": "length"}
    assert [texts(talk.check_out(id)) for id in ("m0", "n0", "n1")] == ["Why? ad!", "Why? ac", "Why? b"]
    talk, nodes, _ = grown([(9, 0, 0), (9, 0, 1)])
    for branch in (0, 1):
        talk = talk.record(Done(branch, "stop", stats, "?!"), nodes, lambda: "")
    assert [s.text for s in talk.nodes["n0"].steps] == ["a", "b?!"] and talk.nodes["n1"].steps == ()


def two() -> Conversation:
    """An answer of two branches, ab and nothing."""
    found = Conversation("c").add(U)
    for i in range(2):
        found = found.add(Node(f"n{i}", Fork("u"), "assistant", seed=i, label="l"))
    return found.extend("n0", steps("ab"))


def test_a_branch_that_is_given_up_is_put_away_from_where_others_left() -> None:
    alone = two().give_up("n0")
    assert alone.pruned == {(Fork("u"), "n0")} and alone.nodes["n0"].finish == "pruned"
    parted = two().part("n0", "m").extend("m", steps("d")).extend("n0", steps("c"))
    assert parted.give_up("n0").pruned == {(Fork("n0", 2), None)}
    assert parted.give_up("m").pruned == {(Fork("n0", 2), "m")}
    both = parted.give_up("n0").give_up("m")
    assert (Fork("u"), "n0") in both.pruned and both.give_up("m").pruned >= both.pruned
    assert two().extend("n0", (), "eot").give_up("n0").nodes["n0"].finish == "eot"
    for shown, gone, leaf in (("n0", 0, "n1"), ("n1", 0, "n1"), ("n0", 1, "n0")):
        nodes = {0: "n0", 1: "n1"}
        after = two().check_out(shown).record(Pruned(gone), nodes, lambda: "z")
        assert nodes == {1 - gone: f"n{1 - gone}"} and after.leaf is not None and after.leaf.id == leaf


def test_a_branch_parts_where_its_parent_stands_now() -> None:
    found = two().check_out("n1")
    early = found.part("n1", "m")
    assert early.nodes["m"] == replace(found.nodes["n1"], id="m") and early.option(Fork("u")) == "n1"
    late = found.extend("n1", steps("a")).part("n1", "m")
    made = late.nodes["m"]
    assert (made.fork, made.joins, made.steps, made.seed) == (Fork("n1", 1), True, (), 1)
    assert late.leaf is not None and late.leaf.id == "n1"
    with pytest.raises(ValueError, match=r"node 'n1' is closed \(eot\): no branch can part"):
        found.extend("n1", (), "eot").part("n1", "m")
