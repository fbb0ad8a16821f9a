"""Ways of drawing as they are used: what they do with words put in front, stops, drops and budgets."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli import likely as program
from likely.app.cli.options.sampling import read_recipe
from likely.engine.base.errors import ParameterError
from likely.engine.decode.drafts.combine import Contrast, Layers
from likely.engine.decode.drafts.prompt_lookup import Drafting, NGram
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event, Forked, Pruned, Rated
from likely.engine.decode.loop.sampler import Sampler
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.decode.sampled.budget import Budget
from likely.engine.decode.sampled.entropy_branching import EntropyBranching
from likely.engine.decode.sampled.infill import Holes
from likely.engine.decode.searches.beam import Beam
from likely.engine.decode.searches.exact import ExactMode
from likely.engine.decode.searches.power import Power
from likely.engine.decode.searches.stochastic_beam import StochasticBeam
from likely.engine.decode.strategy_table import STRATEGIES, parse
from likely.engine.sampling.presets import PARAMETERS
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.replay import replay, states_at
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import MirostatV2, RepetitionPenalty, Temperature, TopK
from tests.fakes import EOS, VOCAB, ByteTokenizer, MarkovModel, random_table
from tests.serve.served import write_model
from tests.support.decoding import (
    PROMPT,
    Found,
    at,
    endless,
    few,
    log_softmax,
    rows,
    run,
    search,
    session,
    texts,
    transformer,
)


def until(table: np.ndarray, strategy: Strategy, then: Callable[[Event, RunControl], None], **more: Any) -> Found:
    """A run whose person does something as events come."""
    control = RunControl()

    def events() -> Any:
        for event in session(table).generate(PROMPT, control, strategy=strategy, **more):
            yield event
            then(event, control)

    return Found(events())


# -- one more ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Likeliest(Strategy):
    """The `most` likeliest texts so far, each step."""

    NAME: ClassVar[str] = "likeliest"
    TITLE: ClassVar[str] = "likeliest"
    ABOUT: ClassVar[str] = "the likeliest texts"

    most: int = 4

    def width(self, n: int) -> int:
        return self.most

    def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
        score = np.zeros(1)
        for _ in range(limit):
            raw = np.asarray(branches.logits())
            total = (log_softmax(raw) + score[:, None]).ravel()
            best = np.argsort(-total, kind="stable")[: self.most]
            before, tokens, score = best // raw.shape[1], (best % raw.shape[1]).tolist(), total[best]
            yield from branches.part(before.tolist())
            place = branches.length
            branches.feed(tokens)
            branches.settle(tokens)
            for number, row, token in zip(branches.numbers, before, tokens, strict=True):
                yield Emitted(number, observe(raw[row], token, recipe=SamplingConfig(), position=place))


def test_a_new_strategy_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """With room for as many as there are, it is enumeration: here, and on the command line."""
    monkeypatch.setitem(STRATEGIES, "likeliest", f"{__name__}.Likeliest")
    table = few(2, 5)
    table[:, EOS] = -np.inf
    made, strategy = session(table), parse("likeliest 125")
    assert str(strategy) == "likeliest 125" and str(parse("likeliest")) == "likeliest"
    seen = run(made, strategy=strategy, max_tokens=4)
    every = texts(table, 4, 5)
    want = sorted(every, key=lambda ids: -every[ids])[:125]
    assert {tuple(seen.tokens[b]) for b in seen.ends} == set(want) and seen.pruned
    assert set(seen.reasons.values()) == {"length"} and not set(seen.pruned) & set(seen.ends)
    assert all(seen.text[b] == bytes(seen.tokens[b]).decode() for b in seen.ends)
    assert run(made, max_tokens=1).ends[0].stats.reused_tokens == len(PROMPT)  # the place it came from is kept
    options = ["-M", str(write_model(tmp_path / "tiny")), "--strategy", "likeliest 3", "-m", "4", "-q", "--raw"]
    shown = CliRunner().invoke(program, ["run", "hello", *options])
    assert shown.exit_code == 0, shown.output
    assert len(set(shown.stdout.splitlines()[1::2])) == 3


# -- texts that part ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script(Strategy):
    """Gives the events it is told, without a model: a text is a step for each of its letters."""

    NAME: ClassVar[str] = "script"

    events: tuple[Any, ...] = ()

    def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
        position = {0: len(PROMPT)}
        for event in self.events:
            match event:
                case (int(branch), str(text)):
                    for byte in text.encode("latin-1"):
                        yield Emitted(branch, step(byte, position[branch]))
                        position[branch] += 1
                case Forked(parent, child):
                    position[child] = position[parent]
                    yield event
                case _:
                    yield event


def step(token: int, position: int) -> TokenStep:
    return observe(np.zeros(VOCAB, np.float32), token, recipe=SamplingConfig(), position=position)


def watch(*events: Any, stop: tuple[str, ...] = ()) -> Found:
    return run(few(0), strategy=Script(events), stop=stop)


def test_a_text_parts_in_the_middle_of_a_character_and_of_a_stop_string() -> None:
    """The first byte of "é" and "è" stands before the fork: each branch completes its own."""
    seen = watch((0, "caf\xc3"), Forked(0, 1), (0, "\xa9!"), (1, "\xa8?"), Forked(1, 2), (2, "\xc3"))
    assert seen.text == {0: "café!", 1: "cafè?", 2: "cafè?\ufffd"}
    assert [end.stats.tokens for end in seen.ends.values()] == [6, 6, 7]
    seen = watch((0, "ab<"), Forked(0, 1), (0, "end>"), (1, "e"), stop=("<end>",))
    assert seen.text == {0: "ab", 1: "ab<e"} and seen.reasons == {0: "stop", 1: "length"}
    assert seen.tokens[1] == list(b"ab<e")
    seen = watch((0, "ab"), Forked(0, 1), Pruned(0), (1, "c"), Forked(1, 2), Pruned(2), stop=("cd",))
    assert seen.pruned == [0, 2] and list(seen.ends) == [1] and seen.text[1] == "abc"


def test_the_answer_to_an_event_says_whether_its_branch_is_over() -> None:
    answers: dict[int, list[bool | None]] = {0: [], 1: []}

    class Listening(Script):
        def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
            for branch, token in ((0, 97), (1, 97), (0, EOS), (1, 98), (1, 99), (1, 100)):
                answers[branch].append((yield Emitted(branch, step(token, len(PROMPT)))))

    assert run(few(0), n=2, strategy=Listening(), stop=("cd",)).reasons == {0: "eot", 1: "stop"}
    assert answers == {0: [False, True], 1: [False, False, False, True]}


@pytest.mark.parametrize("recipe", [SamplingConfig(), SamplingConfig((RepetitionPenalty(1.4), Temperature(1.2)))])
def test_branches_in_another_order_go_on_as_themselves(recipe: SamplingConfig) -> None:
    table = endless(6, 1.0)
    place = at(MarkovModel(table), PROMPT)
    place.select([0] * 3)
    sampler = Sampler.start(recipe, place.ids, seed=5, vocabulary=ByteTokenizer())
    drawn: dict[int, list[int]] = {number: [] for number in place.numbers}
    for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2], [0, 1, 2], [2, 1, 0]):
        assert list(place.part(order)) == []
        sampler = sampler.select(order)
        draws = sampler.draw(place)
        tokens = [int(draw.token) for draw in draws]
        for number, token in zip(place.numbers, tokens, strict=True):
            drawn[number].append(token)
        place.feed(tokens)
        place.settle(tokens)
        sampler = sampler.advance(draws)
    for number, tokens in drawn.items():
        assert tokens == run(table, recipe, seed=5 + number, max_tokens=5).tokens[0]


# -- what a person does meanwhile --------------------------------------------------------------------------------------


def test_a_stop_string_ends_a_text_among_the_others() -> None:
    found = search(few(7), Beam(3, 0.0, "never"), 6, stop=("b",))
    for branch, reason in found.reasons.items():
        tokens, stopped = found.tokens[branch], reason == "stop"
        assert tokens.count(98) == stopped and (not stopped or tokens[-1] == 98)
    assert "stop" in found.reasons.values()


def test_what_is_cancelled_keeps_what_was_found() -> None:
    table = few(8)
    table[:, EOS] += 1

    def cancel(event: Event, control: RunControl) -> None:
        if isinstance(event, Emitted) and event.step.position == len(PROMPT) + 3:
            control.cancel()

    found = until(table, Beam(3, 2.0, "never"), cancel, max_tokens=40)
    assert set(found.reasons.values()) == {"cancelled", "eot"} and all(found.steps.values())
    long = few(6)
    long[:, EOS] = -50
    walk = until(long, Power(2.0, 1000, 8), lambda e, c: c.cancel() if isinstance(e, Rated) else None, max_tokens=200)
    assert len(walk.tokens[0]) == 8  # what there was by then


@pytest.mark.parametrize("strategy", [Beam(3, 0.7, "never"), ExactMode(500), StochasticBeam(3), Power(2.0, 3)])
def test_words_that_are_put_in_front_are_no_part_of_the_search(strategy: Strategy) -> None:
    control = RunControl()
    control.force(list(b"ba"))
    forced = search(few(6), strategy, 6, control=control, seed=4)
    assert all(ids[:2] == list(b"ba") for ids in forced.ids) and forced.steps[forced.order[0]][0].origin == "forced"
    if isinstance(strategy, Beam | ExactMode):  # found, and scored, as behind a longer prompt
        plain = search(few(6), strategy, 4, prompt=[*PROMPT, *b"ba"])
        assert forced.ids == [[*b"ba", *ids] for ids in plain.ids]
        assert forced.scores == pytest.approx(plain.scores, abs=1e-5)


def test_a_beginning_that_is_dropped_leaves_its_place_to_others() -> None:
    def drop(event: Event, control: RunControl) -> None:
        if isinstance(event, Forked) and event.child == 2:  # told, and its token is not
            control.given_up.add(2)

    found = until(few(3), Beam(3), drop, max_tokens=5)
    dropped = found.tokens[2]
    assert found.reasons[2] == "cancelled" and len(dropped) == 1  # as it was told: it ends there
    others = [ids for branch, ids in found.tokens.items() if branch != 2]
    assert len(others) == 3 and all(ids[0] != dropped[0] for ids in others)
    assert all(ids[0] == 97 for ids in search(few(1), Beam(3), 5).ids)  # it would have taken every place
    first: list[int] = []
    told: list[int] = []

    def between(event: Event, control: RunControl) -> None:
        if isinstance(event, Emitted):
            told.append(event.step.token)
            first.extend([event.branch] if event.step.token == 97 and len(told) <= 3 else [])
            if len(told) == 3:
                control.given_up.update(first)

    found = until(few(1), Beam(3), between, max_tokens=5)
    assert len(first) == 1 and len(found.ids) == 3 and all(ids[0] != 97 for ids in found.ids)


def test_one_branch_can_be_given_up_alone() -> None:
    def give_up(event: Event, control: RunControl) -> None:
        if isinstance(event, Emitted) and event.branch == 0:
            control.given_up.add(0)

    whole = run(few(3), n=2, seed=5, max_tokens=12)
    cut = until(few(3), parse("sample"), give_up, n=2, seed=5, max_tokens=12)
    assert cut.reasons[0] == "cancelled" and cut.tokens[0] == whole.tokens[0][:1] != whole.tokens[0]
    assert cut.reasons[1] != "cancelled" and cut.tokens[1] == whole.tokens[1]


# -- what is said of a step --------------------------------------------------------------------------------------------


def test_a_step_says_the_raw_log_probability_beside_what_was_made_of_it() -> None:
    table = few(10)
    found = search(table, Beam(2, 0.0), 4, SamplingConfig((RepetitionPenalty(1.5), Temperature(0.7))))
    for steps in found.steps.values():
        ids = [*PROMPT, *(step.token for step in steps)]
        for step in steps:
            assert step.logprob == pytest.approx(log_softmax(table)[ids[step.position - 1], step.token], abs=1e-4)


def test_a_search_applies_no_preset_unasked() -> None:
    values = dict.fromkeys(PARAMETERS) | {
        "preset": None, "order": "mlx-lm", "bias": (), "seed": 0, "max_tokens": None, "stop": ()
    }  # fmt: skip
    assert read_recipe(values, searches=True)[0] == SamplingConfig() != read_recipe(values)[0]
    with pytest.raises(ParameterError, match="a search has no use for temperature 0"):
        read_recipe(values | {"temp": 0.0}, searches=True)


def test_a_power_says_what_it_cost_and_reads_nothing_twice() -> None:
    table = few(2)
    made = session(table)
    found = search(made, Power(4.0, 10, 4), 8, seed=1)
    figures = found.figures[0]
    assert figures["score"] == pytest.approx(sum(s.logprob or 0 for s in found.steps[0]), abs=1e-4)
    assert 0 <= figures["accepted"] <= 1 and figures["effective"] >= 1
    assert made.model.read <= len(PROMPT) + figures["drawn"]  # every drawn token once at most
    table[:, EOS] -= 6.0
    events = session(table).generate(PROMPT, RunControl(), seed=1, max_tokens=24, strategy=Power(4.0, 3, 8))
    rated = [event.figures["score"] for event in events if isinstance(event, Rated)]
    assert rated[-1] == rated[-2]  # the text that is told is the one that the walk ended with, to the last digit


# -- branches at high entropy ------------------------------------------------------------------------------------------

PARTING = rows({PROMPT[-1]: {97: 0.5, 98: 0.3, 99: 0.2}, 97: {100: 1.0}, 98: {100: 1.0}, 99: {100: 0.5, 101: 0.5},
                100: {EOS: 1.0}, 101: {EOS: 1.0}})  # fmt: skip


def test_it_parts_where_the_entropy_is_reached_and_as_often_as_it_may() -> None:
    """1.49 bits at first, one way behind two of them, and 1 bit behind the third."""
    assert len(run(PARTING, strategy=EntropyBranching(8, bits=1.6), seed=3).steps) == 1
    every = [run(PARTING, strategy=EntropyBranching(8, bits=0.9), seed=seed) for seed in range(12)]
    assert {len(found.steps) for found in every} == {2, 3}  # three where one of the two ways parts again
    for found in every:
        assert set(found.reasons.values()) == {"eot"}
        assert len({tuple(ids) for ids in found.tokens.values()}) == len(found.tokens)
    assert len(run(few(1), strategy=EntropyBranching(5, bits=0.0), seed=2, max_tokens=8).steps) == 5
    never = run(few(4), strategy=EntropyBranching(8, bits=60.0), seed=9, max_tokens=8)
    assert never.tokens == run(few(4), seed=9, max_tokens=8).tokens  # it is sampling
    greedy = run(PARTING, SamplingConfig(greedy=True), strategy=EntropyBranching(2, bits=1.2))
    assert greedy.tokens == {0: [97, 100, EOS], 1: [98, 100, EOS]}
    for steps in run(PARTING, strategy=parse("entropy 2 1.2")).steps.values():
        share = {97: 0.5, 98: 0.3, 99: 0.2}[steps[0].token]
        assert math.exp(steps[0].logprob or 0) == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize(("most", "paths"), [(1, 2), (3, 3)])  # a path parts once a token
def test_every_path_has_as_many_tokens_as_it_may(most: int, paths: int) -> None:
    table = few(5)
    table[:, EOS] = -50
    found = run(table, strategy=EntropyBranching(3, bits=0.0), max_tokens=most)
    assert found.reasons == dict.fromkeys(range(paths), "length")
    assert [len(ids) for ids in found.tokens.values()] == [most] * paths


# -- a budget of thought -----------------------------------------------------------------------------------------------


def thought(tokens: int, waits: int, go_on: float, seed: int = 0, begin: str = "?") -> tuple[str, list[str]]:
    """A text of a model that thinks in `x`, ends a thought by `|` and says `y` and its end; where tokens came from."""
    table = rows({**{key: {ord("x"): go_on, ord("|"): 1 - go_on} for key in range(VOCAB)}, ord("|"): {ord("y"): 1.0},
                  ord("y"): {EOS: 1.0}})  # fmt: skip
    strategy = Budget(tokens, waits, begin=begin, marker="|", word="ww").bind({}, ByteTokenizer())
    found = run(table, prompt=list(b"?"), seed=seed, max_tokens=30, strategy=strategy)
    return "".join(step.text for step in found.steps[0]), [step.origin for step in found.steps[0]]


def test_a_thought_is_cut_where_its_budget_is_spent_and_waits_where_it_would_end() -> None:
    assert thought(5, 0, 0.999999) == ("xxxxx|y", ["drawn"] * 5 + ["forced"] + ["drawn"] * 2)
    text, origins = thought(20, 2, 0.000001)
    assert text == "wwww|y" and origins[:4] == ["forced"] * 4
    assert thought(4, 9, 0.000001)[0] == "wwww|y"  # no wait goes beyond the budget
    assert thought(5, 0, 0.999999, begin="x")[0] == "x" * 6 + "|y"  # from where the answer begins to think
    assert thought(5, 3, 0.999999, begin="!")[0] == "x" * 30  # one that does not think is left alone
    for seed in range(8):  # one that is never spent changes nothing
        plain = thought(1000, 0, 0.7, seed)[0]
        assert plain == thought(29, 0, 0.7, seed)[0] and set(plain) <= set("x|y")


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_a_way_needs_is_asked_for_by_name() -> None:
    for strategy, n, line in (
        (NGram(), 2, "ngram uses the room of a pass"), (Drafting("x"), 2, "draft uses the room of a pass"),
        (Drafting("x"), 1, "'draft x' is no way of drawing while x is not loaded"),
        (Contrast("weak"), 1, "while weak is not loaded"), (parse("vote 4"), 2, "vote has several answers by itself"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=line):
            run(few(0), n=n, strategy=strategy)
    other = SimpleNamespace(model=None, tokenizer=SimpleNamespace(fingerprint="x"), info=SimpleNamespace(name="weak"))
    for strategy in (Contrast("weak"), Drafting("weak")):
        with pytest.raises(ParameterError, match=r"needs two models with one tokenizer|weak has another one"):
            strategy.bind({"weak": other}, SimpleNamespace(fingerprint="y"))
    with pytest.raises(ParameterError, match="has 2 layers, so there are none below 9"):
        run(transformer(), max_tokens=2, strategy=Layers(9))
    with pytest.raises(
        ParameterError, match="this model does not think: neither its tokenizer nor its template has </think>"
    ):
        parse("budget 64").bind({}, ByteTokenizer())
    for canvas, recipe, line in (
        ((0, 1), SamplingConfig(), "nothing to fill"), ((9, 1), SamplingConfig(), "begin the text with a word"),
        ((1, 9), SamplingConfig((MirostatV2(5.0),)), "MirostatV2 follows the surprisals"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=line):
            Holes(SimpleNamespace(), canvas, 9, recipe)  # type: ignore[arg-type]


def test_a_vote_draws_what_as_many_samples_do() -> None:
    several = run(few(3), n=4, seed=5, max_tokens=6)
    vote = run(few(3), seed=5, max_tokens=6, strategy=parse("vote 4 answer"))
    assert vote.tokens == several.tokens and len(set(vote.text.values())) > 1


def test_a_replay_of_a_combination_needs_neither_of_the_two() -> None:
    """The trace has the combined logits: with other transforms it gives what a draw from them would have been."""
    recipe = SamplingConfig((Temperature(0.7), TopK(5)))
    weak = Contrast("weak", loaded=SimpleNamespace(model=MarkovModel(random_table(1))))
    steps = run(random_table(0), recipe, seed=2, max_tokens=6, strategy=weak).steps[0]
    for n, step in enumerate(steps):
        assert step.snapshot is not None and step.logprob_after is not None
        states = states_at(recipe.transforms, ByteTokenizer(), PROMPT, steps[:n])  # type: ignore[arg-type]
        again = replay(step.snapshot, recipe.transforms, states, (2, step.position), greedy=False)
        share = again.middle[list(again.ids).index(step.token)]
        assert again.exact and math.log(share) == pytest.approx(step.logprob_after, abs=1e-5)
