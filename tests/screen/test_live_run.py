"""Whole searches as a conversation keeps them: every text that a search gives is a branch there, with its rating."""

import math
from dataclasses import replace
from typing import Any

import pytest

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Failed
from likely.app.tui.chat.inspecting.ranking import state_of
from likely.app.tui.chat.inspecting.search_choice import choice
from likely.app.tui.chat.live_run import LiveRun
from likely.app.tui.chat.tallies import AnswerSums
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Forked, Prefilled, Pruned, Rated
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import parse
from likely.engine.sampling.trace.step import SamplingConfig
from tests.fakes import EOS, FakeCheckpoint, MarkovModel, random_table
from tests.support.model import PLANS, Planned, ScriptedEngine

PROMPT = list(b"ask")
SEARCHES = ["beam 4", "beam 5 0.0 never", "diverse 4", "gnmt 3", "stochastic 4", "exact 9", "power 2 3 3", "vote 4"]


@pytest.mark.parametrize("every", [1, 7, 10**6])
@pytest.mark.parametrize("text", SEARCHES)
def test_every_answer_of_a_search_is_a_branch(text: str, every: int) -> None:
    session = Session(FakeCheckpoint(MarkovModel(random_table(2, 1.5))))  # type: ignore[arg-type]
    run_of: dict[str, Any] = {"seed": 4, "max_tokens": 8, "strategy": parse(text)}
    events: list[Any] = list(session.generate(PROMPT, RunControl(SamplingConfig()), **run_of))
    tokens: dict[int, list[int]] = {0: []}
    scores: dict[int, float] = {}
    for event in events:
        match event:
            case Emitted(branch, step):
                tokens[branch].append(step.token)
            case Forked(parent, child):
                tokens[child] = list(tokens[parent])
            case Pruned(branch):
                del tokens[branch]
            case Rated(branch, figures):
                scores[branch] = figures["score"]
    ended = {event.branch for event in events if isinstance(event, Done)}
    ids = iter(range(10**6))
    talk = Conversation("c").add(Node("u", Fork(), "user", text="ask")).add(Node("a", Fork("u"), "assistant"))
    run = LiveRun("a", RunControl(), lambda: f"n{next(ids)}")
    for start in range(0, len(events), every):
        talk, _ = run.take(talk, [r.Began(tuple(PROMPT)), *events[start : start + every]])
        talk = run.keep(talk)
    assert run.ended and sorted(tokens) == sorted(ended)
    bare, kept = replace(talk, pruned=frozenset()), []
    for node in talk.nodes.values():
        if node.finish and node.finish != "pruned" and node.role == "assistant":
            message = bare.reveal(node.id, len(node)).messages()[-1]
            kept.append(([step.token for step in message.steps], node.figures.get("score", math.nan)))
    assert sorted(k for k, _ in kept) == sorted(tokens[branch] for branch in ended)
    for branch, score in scores.items():
        if branch in ended:
            assert any(t == tokens[branch] and s == score for t, s in kept)
    shown = [step.token for step in talk.messages()[-1].steps]
    if scores:
        best = max((branch for branch in ended), key=lambda branch: scores[branch])
        assert shown == tokens[best]


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("stop", [20, 60, 110])
def test_a_search_that_is_stopped_shows_the_best_it_holds(stop: int, heard: bool) -> None:
    """By the mean log-probability of the texts' tokens; one that has ended and whose end is not told has its rating."""
    table = random_table(2, 1.5)
    table[:, EOS] += 3
    session, control = Session(FakeCheckpoint(MarkovModel(table))), RunControl(SamplingConfig())  # type: ignore[arg-type]
    ids = iter(range(10**6))
    talk = Conversation("c").add(Node("u", Fork(), "user", text="ask"))
    talk = talk.add(Node("a", Fork("u"), "assistant", label="beam 6", seed=4))
    run = LiveRun("a", control, lambda: f"n{next(ids)}")
    talk, _ = run.take(talk, [r.Began(tuple(PROMPT))])
    for number, event in enumerate(session.generate(PROMPT, control, seed=4, max_tokens=30, strategy=parse("beam 6"))):
        talk, _ = run.take(talk, [event])
        if number == stop:
            control.cancel()
            if not heard:
                break
    if not heard:
        talk = run.close(talk, "cancelled")
    assert run.ended
    bare, scores = replace(talk, pruned=frozenset()), dict[str, float]()
    for node in talk.nodes.values():
        if node.finish not in ("", "pruned") and node.role == "assistant" and not talk.hidden(node.id, len(node)):
            logprobs = [step.logprob or 0.0 for step in bare.reveal(node.id, len(node)).messages()[-1].steps]
            scores[node.id] = math.fsum(logprobs) / max(len(logprobs), 1)
            if node.finish == "eot" and not node.steps:
                scores[node.id] = node.figures["score"]
    leaf = talk.leaf
    assert leaf is not None and len(scores) > 3 and scores[leaf.id] == pytest.approx(max(scores.values()))
    assert {state_of(talk.nodes[id]) for id in scores} <= {"ended", "stopped"}


@pytest.mark.parametrize("text", ["beam 4", "gnmt 3", "stochastic 4"])
def test_what_went_on_from_each_place_and_how_it_ranked_is_what_the_search_did(text: str) -> None:
    """Against the events: at each place of the answer the tokens drawn there, in the order of their scores."""
    session = Session(FakeCheckpoint(MarkovModel(random_table(2, 1.5))))  # type: ignore[arg-type]
    run_of: dict[str, Any] = {"seed": 4, "max_tokens": 8, "strategy": parse(text)}
    said: dict[int, tuple[int, ...]] = {0: ()}
    scores: dict[tuple[int, ...], float] = {}  # of all beginnings that were held
    rated: dict[int, float] = {}
    label = Node("a", Fork("u"), "assistant", label=text, seed=4)
    talk = Conversation("c").add(Node("u", Fork(), "user", text="ask")).add(label)
    ids, kept = iter(range(10**6)), set[tuple[int, ...]]()
    run = LiveRun("a", RunControl(), lambda: f"n{next(ids)}")
    for event in session.generate(PROMPT, RunControl(SamplingConfig()), **run_of):
        talk, _ = run.take(talk, [event])
        match event:
            case Forked(parent, child):
                said[child] = said[parent]
            case Rated(branch, figures):
                rated[branch] = figures["score"]
            case Emitted(branch, step):
                said[branch] = (*said[branch], step.token)
                scores[said[branch]] = rated[branch]
            case Done(branch):
                kept.add(said[branch])
    talk = run.keep(talk)
    message = talk.messages()[-1]
    tokens = tuple(step.token for step in message.steps)
    for depth in range(len(tokens)):
        made = choice(talk, message, depth)
        assert made is not None and made.length == depth
        assert made.total == pytest.approx(sum(step.logprob or 0.0 for step in message.steps[:depth]))
        went = {each[depth]: score for each, score in scores.items() if each[:-1] == tokens[:depth]}
        assert set(made.ranks) == set(went)
        if text.startswith("stochastic"):
            assert set(made.ranks.values()) == {0}
        else:
            assert sorted(went, key=lambda t: -went[t]) == sorted(went, key=lambda t: made.ranks[t])
            alike = [score for each, score in scores.items() if len(each) == depth + 1]
            ended = [s for each, s in scores.items() if len(each) <= depth and each in kept]
            assert made.ranks[tokens[depth]] == 1 + sum(s > went[tokens[depth]] for s in alike + ended)


def test_a_text_that_parted_at_every_token_is_added_up() -> None:
    step = next(e.step for e in Session(FakeCheckpoint(MarkovModel(random_table(2, 1.5)))).generate(  # type: ignore[arg-type]
        PROMPT, RunControl(SamplingConfig()), max_tokens=1) if isinstance(e, Emitted))  # fmt: skip
    nodes = {str(i): Node(str(i), Fork(str(i - 1)), "assistant", steps=(step,), joins=True) for i in range(1, 3000)}
    nodes["0"] = Node("0", Fork("u"), "assistant", steps=(step,))
    sums = AnswerSums(Conversation("c", nodes={"u": Node("u", Fork(), "user", text="ask"), **nodes}))
    total, count = sums.of(Fork("2999"))
    assert count == 3000 and total == pytest.approx(3000 * (step.logprob or 0.0))


def texts(talk: Conversation) -> dict[str, str]:
    """The whole text of every branch that ends, those that are put away too, and how it ended."""
    talk = replace(talk, pruned=frozenset())
    found = {}
    for node in talk.nodes.values():
        if node.finish and node.role == "assistant":
            message = talk.reveal(node.id, max(len(node) - 1, 0)).messages()[-1]
            found[message.text] = node.finish
    return found


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("every", [1, 2, 5, 99])
def test_how_often_it_is_kept_changes_nothing(plan: str, every: int) -> None:
    """Whenever the conversation is asked for, it is whole, and in the end the branches are the same ones."""
    engine, ids = ScriptedEngine(), iter(range(10**6))
    asked = Conversation("c").add(Node("u", Fork(), "user", text="Why?")).add(Node("a", Fork("u"), "assistant"))

    def played(every: int) -> dict[str, str]:
        talk, run = asked, LiveRun("a", RunControl(), lambda: f"n{next(ids)}")
        prompt = [1, 2, 3]
        events: list[Any] = [r.Began(tuple(prompt)), *engine.generate(prompt, run.control, strategy=Planned(plan))]
        for start in range(0, len(events), every):
            talk, fresh = run.take(talk, events[start : start + every])
            seen = talk.messages()[-1]
            assert seen.last.id == run.node and (not fresh or run.steps[-len(fresh) :] == fresh)
            talk = run.keep(talk)
            assert talk.messages()[-1].text.endswith("".join(step.text for step in run.steps))
        assert run.ended
        return texts(run.close(talk, "never"))

    assert played(every) == played(10**6)


def test_what_was_drawn_stays_where_a_run_fails_or_is_stopped() -> None:
    engine, ids = ScriptedEngine(), iter(range(10**6))
    asked = Conversation("c").add(Node("u", Fork(), "user", text="Why?")).add(Node("a", Fork("u"), "assistant"))
    events = list(engine.generate([1], RunControl(), strategy=Planned("search")))
    for cut in range(len(events)):
        run = LiveRun("a", RunControl(), lambda: f"n{next(ids)}")
        talk, _ = run.take(asked, [r.Began((1,)), *events[:cut], Failed("stopped")])
        assert run.ended
        talk = run.close(talk, "failed")
        drawn = sum(isinstance(event, Emitted) for event in events[:cut])
        assert sum(len(node.steps) for node in talk.nodes.values()) == drawn
        assert all(node.finish for node in talk.nodes.values() if node.role == "assistant")


def test_a_prompt_is_being_read_until_it_is_read() -> None:
    asked = Conversation("c").add(Node("u", Fork(), "user", text="Why?")).add(Node("a", Fork("u"), "assistant"))
    run = LiveRun("a", RunControl(), lambda: "n")
    for done, told in ((3, (3, 5)), (5, None)):
        run.take(asked, [Prefilled(done, 5)])
        assert run.read == told
