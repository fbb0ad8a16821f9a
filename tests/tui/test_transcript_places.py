"""The way between a token on the screen and the tree, in detail; and what is known where a snapshot is a part."""

from dataclasses import replace

import numpy as np
import pytest

from app.tui.chat.candidates import Names, replayed, view
from app.tui.chat.chat_session import common
from app.tui.chat.live_run import LiveRun
from app.tui.sampling import Sampling
from app.tui.tokens.layout import TokenPlace
from app.tui.tokens.transcript import Transcript
from engine.conversation import Conversation, Fork, Node
from engine.decode.control import RunControl
from engine.decode.events import Emitted, Forked, Pruned
from engine.decode.strategies import parse
from engine.trace.observe import observe
from engine.trace.trace import Recipe
from tests.pictures import assert_picture
from tests.tui.bench import Bench, prompt_of
from tests.tui.test_chat_parts import step
from tests.tui.test_session_stories import ASK, short
from tests.tui.test_token_looks import table_of


def test_places_and_forks_belong_together() -> None:
    bench = Bench(short())
    session = bench.session
    bench.say(ASK)
    session.branch(TokenPlace(1, 2), bench.ids(" glow")[0])
    bench.hear()
    session.look(0)
    bench.hear()
    bench.say("And red?")
    session.edit(3, "The written words")
    session.settle()
    bench.show()
    transcript, lines = session.transcript, []
    for index, shown in enumerate(transcript.shown):
        count = len(shown.block.tokens)
        lines.append(f"message {index}: {transcript.note(index)!r} {transcript.notes(index)}")
        for token in range(count):
            place = TokenPlace(index, token)
            fork, step_at = transcript.fork_at(place), transcript.step_at(place)
            ids, whole = transcript.ids_before(place)
            before, steps = transcript.history(place)
            _, rest = transcript.read_until(place)
            named = "no step" if step_at is None else f"step {step_at.token}"
            known = f"{len(ids)} ids before {whole}, history {len(before)} {len(steps)}, to read {rest}"
            lines.append(f"  {token}: {fork.node}@{fork.at} at {transcript.place_of(fork)}, {named}, {known}")
            lines.append(f"    {prompt_of(transcript.context_before(place))}")
            assert step_at is None or step_at is shown.steps[token]
        assert transcript.step_at(TokenPlace(index, len(shown.steps))) is None
        assert transcript.read_until(TokenPlace(index, 99))[1] == 0
    assert transcript.step_at(TokenPlace(-1, 0)) is transcript.step_at(TokenPlace(9, 0)) is None
    assert transcript.place_of(Fork("gone")) is None and transcript.place_of(Fork("n2", 99)) is None
    lines.append(f"end: {[len(each) for each in transcript.history(None)]}, {transcript.place_of(Fork())}")
    assert Transcript(Conversation("e")).history(None) == ((), ())
    assert_picture("tui/pictures/texts/places-and-forks.txt", lines)


def test_messages_that_did_not_change_keep_their_blocks() -> None:
    bench = Bench(short())
    bench.say(ASK)
    transcript = bench.session.transcript
    first = transcript.blocks()
    assert transcript.blocks() == first and all(a is b for a, b in zip(transcript.blocks(), first, strict=True))
    bench.session.look(0)
    bench.session.take(len(bench.asked), list(bench.events[len(bench.asked)]))
    second = transcript.blocks()
    assert second[0] is not first[0] and second[0].scored and second[1] is first[1]
    assert not first[0].rendered and first[1].rendered and (first[0].who, first[1].who) == ("you", "model")
    transcript.recolour("rank", 0.0)
    ranks = [token.level for token in second[1].tokens]
    transcript.recolour("off", 0.0)
    assert not any(token.level for token in second[1].tokens) and any(ranks)
    transcript.render(False)
    assert not transcript.markdown and not second[1].rendered
    transcript.render(True)
    assert second[1].rendered and not second[0].rendered
    transcript.show_specials(True)
    assert transcript.specials and second[1].specials and second[0].specials
    transcript.forget()
    assert not transcript.scores and not transcript.scored_ids and not transcript.began_ids


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ab cd", (4, 5)), ("ab c", (2, 2)), ("ab", (2, 2)), ("a", (1, 1)), ("", (0, 0)), ("x", (0, 0)),
        ("ab cde", (4, 5)), ("b", (0, 0)),
    ],
)  # fmt: skip
def test_as_many_tokens_stay_as_a_text_begins_with(text: str, kept: tuple[int, int]) -> None:
    steps = [step("a"), step("b"), step(""), step(" cd"), step("<end>", special=True)]
    assert common(steps, text) == kept
    assert common([step("<x>", special=True), *steps], text) == ((kept[0] + 1, kept[1]) if kept[0] else (0, 0))


def test_a_person_who_picks_hears_of_one_branch_alone() -> None:
    talk = Conversation("c").add(Node("u", Fork(), "user", text="x")).add(Node("a", Fork("u"), "assistant"))
    run = LiveRun("a", RunControl(), lambda: "new", stepping=True)
    forced = replace(step("y"), origin="forced")
    talk, fresh = run.take(talk, [Emitted(1, step("z")), Forked(0, 1), Pruned(0), Emitted(0, forced)])
    assert fresh == [forced] and run.peek is None and set(talk.nodes) == {"u", "a"} and not run.branched
    run.take(talk, [Emitted(0, step("p")), Emitted(0, step("q"))])
    assert run.peek is not None and run.peek.text == "p" and run.control.cancelled


@pytest.mark.parametrize("vocab", [3000, 200])
def test_what_a_part_of_a_distribution_leaves_open_is_a_range(vocab: int) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1.5, vocab).astype(np.float32)
    names = Names(tuple(f"t{number}".encode() for number in range(vocab)))
    found = observe(logits, 7, recipe=Recipe(), position=5, origin="drawn")
    lines = []
    settings: tuple[dict[str, float], ...] = (
        {"top_k": 5}, {"top_p": 0.5}, {"top_p": 0.99}, {"min_p": 0.2}, {"temp": 1.5}, {"temp": 0.5, "top_k": 2000},
        {"typical_p": 0.4},
    )  # fmt: skip
    for text in settings:
        sampling = Sampling().unshaped()
        for name, value in text.items():
            sampling = sampling.with_value(name, value)
        outcome = replayed(found, sampling.recipe, (1, 2), (), names, 3)
        assert outcome is not None
        low, high = outcome.mass
        lines += [f"{text}: kept {outcome.kept}, mass {low:.4f} to {high:.4f}, exact {outcome.exact}"]
        lines += table_of(view(found, outcome, sampling.recipe, names, title="T", live=False), 3)
    bare = replace(found, snapshot=None)
    assert replayed(bare, Recipe(), (), (), names, 3) is None
    lines += table_of(view(bare, None, Recipe(), names, title="T", live=True))
    lines += table_of(view(found, None, Recipe(), names, title="T", live=True))
    lines += table_of(view(replace(found, logprob=None), None, Recipe(), names, title="T", live=True))
    assert_picture(f"tui/pictures/texts/replayed-{vocab}.txt", lines)


def test_transforms_that_look_back_see_what_stands_before() -> None:
    bench = Bench(short())
    bench.say(ASK)
    steps = bench.session.transcript.shown[1].steps
    look_back = Sampling().unshaped().with_value("repetition_penalty", 2.0)
    look_back = look_back.with_value("repetition_context_size", 2)
    looks, three = tuple(bench.ids(" looks")), tuple(bench.ids(" looks", " sky", " blue"))
    lines = []
    for before, seen in (((), ()), (three, ()), ((1, 2), tuple(steps[:2])), (looks, tuple(steps[:1]))):
        outcome = replayed(steps[2], look_back.recipe, before, seen, bench.names, 0)
        assert outcome is not None
        lines += table_of(view(steps[2], outcome, look_back.recipe, bench.names, title="T", live=False), 3)
    assert_picture("tui/pictures/texts/replayed-looking-back.txt", lines)
    assert parse("sample").words == ""
