"""What a person does to a conversation and what the engine makes of it, as stories beside tellings that were read.

Each step of a story is followed by all that is known of the session then: the tree, the screen's tokens, the figures.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from app import requests as r
from app.tui.sampling import Sampling
from app.tui.tokens.layout import TokenPlace
from engine.conversation import Fork
from engine.decode.strategies import parse
from tests.pictures import assert_picture
from tests.support.model import THOUGHT, ScriptedEngine
from tests.tui.bench import Bench, heard_of, request_of, state

ASK = "Why is the sky blue?"


@pytest.fixture(autouse=True)
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event takes a hundredth of a second."""
    times = count()
    monkeypatch.setattr("app.jobs.perf_counter", lambda: next(times) / 100)


def short() -> ScriptedEngine:
    return ScriptedEngine(scripts=(" The sky looks blue.", " Blue light."))


Story = Iterator[tuple[str, Bench]]


def asking() -> Story:
    bench = Bench(short(), ready=False)
    session = bench.session
    session.submit(ASK)
    bench.show()
    yield "asked before there is a model", bench
    session.ready(bench.facts)
    yield "there is one", bench
    for size in (1, 2, 1, 2):
        yield f"{size} events: {heard_of(bench.hear(size))}", bench
    yield f"the rest: {heard_of(bench.hear())}", bench
    yield f"none are left: {heard_of(bench.hear())}", bench


def answering_again() -> Story:
    bench = Bench(short())
    session = bench.session
    bench.say(ASK)
    yield f"again: {session.regenerate()}", bench
    bench.hear()
    yield f"with a seed: {session.regenerate(seed=3)}", bench
    bench.hear(4)
    yield (
        f"hotter, while it runs: {session.regenerate(Sampling().with_value('temp', 0.5))}",
        bench,
    )
    bench.hear()
    bench.session.conversation = replace(session.conversation, chosen={})
    yield "all", bench
    session.submit("Hello")
    bench.show()
    bench.hear(3)
    yield f"stopped {session.stop()}, again {session.stop()}", bench
    bench.show()
    yield f"go on {session.resume()}", bench
    bench.hear()
    yield "gone on", bench


def branching() -> Story:
    bench = Bench(short())
    session = bench.session
    bench.say(ASK)
    yield f"at the third token: {session.branch(TokenPlace(1, 2))}", bench
    bench.hear()
    bench.show()
    yield f"with another token: {session.branch(TokenPlace(1, 1), bench.ids(' glow')[0])}", bench
    yield heard_of(bench.hear(3)), bench
    yield heard_of(bench.hear()), bench
    yield f"with words: {session.branch(TokenPlace(1, 0), force=' fill tint')}", bench
    bench.hear()
    nowhere = [session.branch(TokenPlace(block, 0)) for block in (0, 2, -1)]
    yield f"not there: {nowhere}", bench


def editing() -> Story:
    bench = Bench(short())
    session = bench.session
    bench.say(ASK)
    bench.say("And red")
    session.edit(0, "Why blue?")
    bench.show()
    bench.hear()
    yield "the first message in other words", bench
    session.edit(1, " The sky glow tint")
    yield "an answer from its third token on", bench
    yield heard_of(bench.hear()), bench
    session.edit(1, " The sky")
    bench.show()
    yield "an answer cut", bench
    session.edit(1, " The sky reach", go_on=True)
    bench.hear()
    yield "an answer changed, to be gone on with", bench
    yield heard_of(bench.hear()), bench
    session.edit(1, "Otherwise")
    session.settle()
    bench.show()
    yield "otherwise, and settled before it was measured", bench
    session.edit(1, "What else")
    del bench.jobs.engines["scripted"]
    yield f"the model went: {heard_of(bench.hear())}", bench
    session.facts = None
    session.edit(1, "No model")
    bench.show()
    yield "without a model", bench


def steering() -> Story:
    bench = Bench(short())
    session = bench.session
    nothing = session.force_next(300), session.regenerate(), session.resume()
    yield f"nothing to force, to draw again, to go on with: {nothing}", bench
    session.instruct("  Be brief. ")
    session.max_tokens = 3
    session.adapters = "calm 1"
    session.submit(ASK)
    bench.show()
    bench.hear(3)
    yield f"a token forced: {session.force_next(bench.ids(' tint')[0])}", bench
    assert session.run is not None
    before = session.run.control.recipe
    session.resample(Sampling().with_value("temp", 0.7).biased(300, -100.0))
    assert session.run.control.recipe == session.recipe != before
    bench.hear()
    yield f"by the recipe {session.conversation.recipe == session.sampling.recipe}, {session.conversation.order}", bench
    leaf = session.conversation.leaf
    assert leaf is not None
    changed = session.change(lambda talk: talk.prune(leaf.fork, leaf.id))
    bench.show()
    yield f"the answer put away: {changed}", bench
    same = session.change(lambda talk: replace(talk, title="name"))
    kept = session.change(lambda talk: talk, keeps_run=True)
    yield f"a name alone: {same}, nothing at all {kept}", bench
    yield f"answer again: {session.regenerate()}", bench


def stepping() -> Story:
    bench = Bench(short())
    session = bench.session
    yield f"nothing to answer: {session.step_on()}", bench
    session.submit(ASK)
    bench.show()
    yield f"begun: {session.step_on()}", bench
    yield f"looked: {heard_of(bench.hear())}", bench
    session.pick(None)
    bench.show()
    yield f"the model's own: {heard_of(bench.hear())}", bench
    session.pick(bench.ids(" tint")[0])
    bench.show()
    yield f"another: {heard_of(bench.hear())}", bench
    session.answer(Fork("n1"), tokens=bench.ids(" glow", " shine"), force=" fill")
    bench.show()
    yield f"given tokens and words: {heard_of(bench.hear())}", bench
    session.pick(None)
    session.step_off()
    session.pick(None)
    bench.show()
    yield "left while it was looking", bench
    session.step_on()
    bench.hear()
    session.change(lambda talk: replace(talk, title="name"))
    bench.show()
    yield "left by another thing", bench


def measuring() -> Story:
    bench = Bench(short(), system="Be brief.")
    session = bench.session
    bench.say(ASK)
    session.look(0)
    session.look(0)
    session.look(1)
    yield "asked once", bench
    yield heard_of(bench.hear()), bench
    session.look(0)
    bench.say("And red")
    session.look(2)
    bench.hear(0)
    other = replace(bench.facts, name="other")
    session.ready(bench.facts)
    yield "the same model again", bench
    session.ready(other)
    bench.show()
    yield "another model", bench
    yield f"what comes late: {session.take(99, [r.Scored((), (), 0)]).scored}", bench
    yield f"nothing found: {session.take(max(session.scoring), [r.Scored((), (None,), 0)]).scored}", bench


def failing() -> Story:
    engine = short()
    bench = Bench(engine)
    engine.fail_at = 2
    bench.session.submit(ASK)
    bench.show()
    yield heard_of(bench.hear(3)), bench
    yield heard_of(bench.hear()), bench
    engine.fail_at = None
    bench.session.submit("Hello")
    bench.show()
    bench.hear(2)
    del bench.jobs.engines["scripted"]
    yield heard_of(bench.hear()), bench


def thinking() -> Story:
    bench = Bench(ScriptedEngine(scripts=(THOUGHT,)))
    bench.session.submit(ASK)
    bench.show()
    bench.hear(5)
    yield "thinking", bench
    bench.hear()
    bench.session.transcript.show_specials(True)
    yield "with its marks", bench


def searching(plan: str, strategy: str, size: int) -> Callable[[], Story]:
    def story() -> Story:
        engine = short()
        engine.plans = {strategy: plan}
        bench = Bench(engine)
        bench.session.strategy = parse(strategy)
        bench.session.submit(ASK)
        bench.show()
        while bench.session.running:
            yield heard_of(bench.hear(size)), bench
        bench.show()
        yield "in the end", bench

    return story


def looking_at_another_branch() -> Story:
    engine = short()
    engine.plans = {"beam 3": "search"}
    bench = Bench(engine)
    session = bench.session
    session.strategy = parse("beam 3")
    session.submit(ASK)
    bench.show()
    bench.hear(9)
    assert session.run is not None
    other = next(node for branch, node in session.run.nodes.items() if branch == 1)
    changed = session.change(lambda talk: talk.check_out(other), keeps_run=True)
    bench.show()
    yield f"another branch: {changed}", bench
    yield f"given up {session.run.drop(other)}, one that is none {session.run.drop('n1')}", bench
    yield heard_of(bench.hear()), bench


STORIES: dict[str, Callable[[], Story]] = {
    "asking": asking,
    "answering again": answering_again,
    "branching": branching,
    "editing": editing,
    "steering": steering,
    "stepping": stepping,
    "measuring": measuring,
    "failing": failing,
    "thinking": thinking,
    "a search": searching("search", "beam 3", 4),
    "a rated search": searching("beams", "beam 3", 5),
    "a vote": searching("votes", "vote 4", 9),
    "a lost branch": searching("lost", "vote 2", 3),
    "revised": searching("revised", "vote 3", 3),
    "several": searching("several", "vote 2", 3),
    "another branch": looking_at_another_branch,
}


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_as_it_was_read(name: str) -> None:
    lines: list[str] = []
    asked = 0
    for about, bench in STORIES[name]():
        lines += [f"{about}", *state(bench)]
        lines += [f"  asked: {request_of(request)}" for request in bench.asked[asked:]]
        asked = len(bench.asked)
    assert_picture(f"tui/pictures/texts/story-{name.replace(' ', '-')}.txt", lines)
