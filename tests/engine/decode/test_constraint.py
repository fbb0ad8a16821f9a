"""Constraints: whatever is drawn, by whatever strategy, satisfies them, and what they cut is told and replayed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import ParameterError
from likely.engine.decode.drafts.prompt_lookup import NGram
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.sampled.sample import Sample
from likely.engine.decode.searches.beam import Beam
from likely.engine.decode.searches.exact import ExactMode
from likely.engine.decode.searches.power import Power
from likely.engine.decode.searches.spelling import respelled
from likely.engine.decode.searches.stochastic_beam import StochasticBeam
from likely.engine.measure.answer_form import AnswerForm, binding
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.replay import replay, states_at
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStrings
from likely.engine.sampling.transforms import Constraint, LogitBias, Temperature, TopP
from tests.fakes import EOS, VOCAB, random_table
from tests.support.decoding import PROMPT, log_softmax, run, search, session
from tests.support.everyday import everyday
from tests.support.merging import merging

SCHEMA = json.dumps({
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"],
    "additionalProperties": False,
})  # fmt: skip


def table(seed: int) -> np.ndarray:
    found = random_table(seed, 1.0)
    found[:, EOS] += 3
    return found


def answer(tokens: list[int]) -> str:
    return bytes(token for token in tokens if token != EOS).decode()


@pytest.mark.parametrize(
    "strategy", [Sample(), NGram(3), Beam(3, 0.0), StochasticBeam(3), Power(2.0, 4), ExactMode(200)], ids=str
)
@pytest.mark.parametrize("greedy", everyday([False, True], 2))
def test_every_strategy_keeps_to_it(strategy: Strategy, greedy: bool) -> None:
    """A date, drawn by random models; the whole of it, as there is room."""
    recipe = SamplingConfig((Constraint("regex", "[0-9]{2}-[0-9]{2}", len(PROMPT)), TopP(0.9)), greedy)
    for seed in range(3):
        for ids in search(table(seed), strategy, 10, recipe, seed=seed).ids:
            assert re.fullmatch("[0-9]{2}-[0-9]{2}", answer(ids)) and ids[-1] == EOS
        made = run(table(seed), SamplingConfig((Constraint("json", SCHEMA, len(PROMPT)),)), seed=seed, max_tokens=300)
        if made.reasons[0] == "eot":
            value = json.loads(made.text[0])
            assert set(value) == {"a", "b"} and isinstance(value["a"], int) and value["b"] in ("x", "y")


def test_forty_tokens_are_enough_for_three_fields_of_json_also_where_a_model_likes_blanks() -> None:
    """But one behind a separator there is none, unless the schema itself allows others."""
    fields = {"a": {"enum": ["x", "y"]}, "b": {"type": "boolean"}, "c": {"enum": [[1, 2], [3]]}}
    schema = {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}
    blanks, own = random_table(3, 1.0), schema | {"x-guidance": {"whitespace_flexible": True}}
    blanks[:, list(b" \n\t")] += 8
    for allowed, reason in ((schema, "eot"), (own, "length")):
        made = run(
            blanks, SamplingConfig((Constraint("json", json.dumps(allowed), len(PROMPT)),)), seed=1, max_tokens=40
        )
        assert made.reasons[0] == reason
        if reason == "eot":
            text, value = made.text[0], json.loads(made.text[0])
            assert re.sub("([,:]) ", r"\1", text) == json.dumps(value, separators=(",", ":")) and ": " in text


@pytest.mark.parametrize("seed", range(6))
def test_the_likeliest_under_a_constraint_is_that_of_all_texts_which_satisfy_it(seed: int) -> None:
    """By the model's own log p, in whatever tokens: what is forbidden beside a token makes it no likelier. Four beams
    may miss it, yet what they end with is ordered by the same numbers."""
    made, every = merging(seed)
    recipe = SamplingConfig((Constraint("regex", "(ab|cd){1,2}", len(PROMPT)),))
    mode, wide, narrow = (search(made, how, 9, recipe) for how in (ExactMode(3000), Beam(20, 0.0), Beam(4, 0.0)))
    best = max(every, key=lambda ids: every[ids])
    assert mode.ids == [list(best)] and mode.figures[0]["proven"]
    assert mode.scores == pytest.approx([every[best]], abs=1e-4) == wide.scores[:1]
    for found in (wide, narrow):
        assert found.scores == pytest.approx([every[tuple(ids)] for ids in found.ids], abs=1e-4)
    assert {tuple(ids) for ids in wide.ids} == set(every)


def test_beams_keep_a_text_that_has_ended_however_unlikely_its_end_was() -> None:
    """Two texts are allowed. The likelier one ends at once, dearly; the beginnings of the other have it all to come."""
    raw = np.full((VOCAB, VOCAB), -60.0)
    raw[:, 0] = 0  # nearly all of each row
    for before, token, nats in [(PROMPT[-1], 99, -1), (99, EOS, -9), (PROMPT[-1], 97, -2), (97, 97, -1), (97, 98, -1)]:
        raw[before, token] = nats
    raw[[97, 98], EOS] = -28
    recipe = SamplingConfig((Constraint("regex", "c|a[ab]", len(PROMPT)),))
    found, mode = (search(raw, how, 9, recipe) for how in (Beam(2, 0.0), ExactMode()))
    assert [answer(ids) for ids in (found.ids[0], mode.ids[0])] == ["c", "c"]
    assert found.scores[0] == pytest.approx(mode.scores[0], abs=1e-5)


def test_a_text_in_other_tokens_than_its_own_is_looked_up_in_those() -> None:
    """A budget that ends before the search would have come to them."""
    made, _ = merging(1)
    recipe = SamplingConfig((Constraint("regex", "abab", len(PROMPT)), LogitBias({97: 4.0})))
    ids = search(made, ExactMode(9), 9, recipe).ids[0]
    assert ids == [258, 258, EOS]
    assert respelled(made.tokenizer, [97, 98, 258, EOS]) == (258, 258, EOS)
    assert respelled(made.tokenizer, ids) is respelled(made.tokenizer, [97, 98]) is None


def test_it_says_what_it_cut_and_replays(tmp_path: Path) -> None:
    """Read back from a file, whose lexicon knows the candidates alone, a step is what it was."""
    recipe = SamplingConfig((Constraint("regex", "(ab|cd)+", len(PROMPT)), Temperature(0.7)))
    made = session(table(3))
    steps = run(made, recipe, seed=1, max_tokens=8).steps[0]
    lexicon = TokenStrings({i: made.tokenizer.piece(i) for i in range(VOCAB)}, frozenset({EOS}))
    file.save([Trace("m", "0", {}, 1, tuple(PROMPT), tuple(steps), "length", lexicon=lexicon)], tmp_path / "t.jsonl")
    trace = file.load(tmp_path / "t.jsonl")[0]
    assert trace.steps[0].recipe == recipe
    before = [PROMPT[-1], *(step.token for step in trace.steps)]
    for n, step in enumerate(trace.steps):
        assert step.snapshot is not None and step.removed_by is not None and step.logprob_after is not None
        second = ord("b") if before[n] == ord("a") else ord("d")
        allowed = {second} if n % 2 else {*b"ac"} | ({EOS} if n else set())
        assert {int(i) for i, by in zip(step.snapshot.ids, step.removed_by, strict=True) if by < 0} == allowed
        mass = np.logaddexp.reduce(log_softmax(table(3)[before[n]])[sorted(allowed)])
        assert step.logprob_allowed == pytest.approx(mass, abs=1e-5)  # the model's own, whatever the temperature
        states = states_at(recipe.transforms, trace.lexicon, trace.prompt, trace.steps[:n])
        again = replay(step.snapshot, recipe.transforms, states, (1, step.position))
        np.testing.assert_array_equal(again.removed_by, step.removed_by)
        at = int(np.flatnonzero(again.ids == step.token)[0])  # the two tokens that are no candidates may be there
        assert again.low[at] - 1e-6 <= np.exp(step.logprob_after) <= again.high[at] + 1e-6


@pytest.mark.parametrize(
    ("kind", "grammar", "line"),
    [
        ("regex", "(a", "this regular expression cannot be followed: unclosed group, at character 1$"),
        ("regex", "[0-9]a{3,1}", "cannot be followed: invalid repetition count range, .*, at character 7$"),
        ("json", '{"type": "nope"}', "this JSON schema cannot be followed: .*Invalid type: nope$"),
        ("json", "{", "this is no JSON schema: Expecting property name"),
        ("json", '{"type": "integer", "minimum": 5, "maximum": 3}', "Unsatisfiable schema"),
        ("json", "false", "Unsatisfiable schema"),
        ("lark", "x", "a constraint must be one of regex, json, got lark"),
    ],
)
def test_what_cannot_be_followed_is_one_line(kind: str, grammar: str, line: str) -> None:
    with pytest.raises(ParameterError, match=line) as error:
        Constraint(kind, grammar)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("grammar", [r"[^\s\S]", "((a{1,1000}){1,1000}){1,1000}", "(.*a.{400}){400}"])
def test_what_nothing_satisfies_and_what_explodes_ends_in_a_line(grammar: str) -> None:
    """The run before is kept; the session goes on."""
    made = session(table(0))
    try:
        found = run(made, SamplingConfig((Constraint("regex", grammar, len(PROMPT)),)), max_tokens=40)
        assert set(found.tokens[0]) <= set(range(257))
    except ParameterError as error:
        assert "\n" not in str(error) and str(error).startswith("the constraint")
    assert run(made, max_tokens=2).ends


def test_a_schema_that_is_nothing_but_itself_has_no_text() -> None:
    schema = json.dumps({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})
    with pytest.raises(ParameterError, match="the constraint cannot be followed: no text satisfies it"):
        run(table(0), SamplingConfig((Constraint("json", schema, len(PROMPT)),)), max_tokens=4)


def test_words_that_leave_it_lift_it() -> None:
    """Put in front against the grammar: from there on nothing is ruled out."""
    control = RunControl(SamplingConfig((Constraint("regex", "[0-9]+", len(PROMPT)),)))
    control.force(list(b"no"))
    tokens = run(table(1), control=control, max_tokens=8).tokens[0]
    assert tokens[:2] == list(b"no") and any(not 48 <= token < 58 for token in tokens[2:])


@pytest.mark.parametrize("seed", range(3))
def test_a_form_binds_whatever_recipe_comes_and_an_answer_that_has_begun(seed: int) -> None:
    model, form = session(table(seed)), AnswerForm.read("regex", "[0-9]{2}-[0-9]{2}")
    begun = [*PROMPT, *b"19"]
    control = RunControl(SamplingConfig((TopP(0.9),)))
    control.binds = whole(binding(model, begun, form, Sample(), own=2))
    drawn = []
    for event in model.generate(begun, control, seed=seed, max_tokens=9):
        if isinstance(event, Emitted):
            drawn.append(event.step.token)
            control.recipe = SamplingConfig((Temperature(1.0 + len(drawn)),))  # a slider that is moved
    assert re.fullmatch("-[0-9]{2}", answer(drawn)) and drawn[-1] == EOS
    with pytest.raises(ParameterError, match="what the answer begins with is none of regex"):
        whole(binding(model, [*PROMPT, *b"x"], form, Sample(), own=1))
