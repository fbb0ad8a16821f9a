"""Tables of tokens: of an explained text, of two models, of a saved run, of passes, to the last column and colour."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.cli import diff, explain, replaying, replaying_passes
from app.cli.replayed_text import as_object, best, named, spread
from app.cli.replaying_passes import pass_line
from engine.diffusion.record import DenoisingRecord
from engine.diffusion.unmasking import DenoisingStep, OpenMask, Unmasked, Unmasking
from engine.evaluate.difference import Difference, Position, Shift
from engine.evaluate.explain import Attention, Continuation, Explanation
from engine.posterior.choices import ChoiceLogits
from engine.posterior.explained import ExplainedUncertainty
from engine.posterior.uncertainty import Uncertainty
from engine.trace import file
from engine.trace.replay import Replayed
from engine.trace.trace import Lexicon, Recipe, TokenStep, Trace
from engine.transforms import MinP, Snapshot, Temperature
from tests.app.terminal import coloured
from tests.pictures import assert_picture

LN2 = math.log(2)
PIECES = (b"The", b" cat", b"\n", b"\x1b[31m", b" a word that is longer than the table has room for it", b"")
SNAPSHOT = Snapshot(
    6, np.array([1, 0, 2, 5], "<i4"), np.array([-0.1, -1.0, -2.0, -9.0], "<f4"), 0.5, 0.0, 1.0, np.zeros(65, "<f4"),
    np.zeros(64, "<i4"), np.full(64, -np.inf, "<f4"),
)  # fmt: skip
SESSION: Any = SimpleNamespace(
    tokenizer=SimpleNamespace(piece=lambda token: PIECES[token]), info=SimpleNamespace(name="tiny"), average=None
)
Captured = pytest.CaptureFixture[str]


def step(token: int, bits: float | None, position: int = 0, **more: Any) -> TokenStep:
    given = {
        "logprob": None if bits is None else -bits * LN2, "logprob_after": -LN2,
        "entropy": None if bits is None else 1.5 * LN2,
        "entropy_after": 1.0, "rank": 7, "kept": 3, "recipe": Recipe(), "snapshot": SNAPSHOT,
        "removed_by": np.array([-1, -1, 0, 0], np.int8),
    }  # fmt: skip
    return TokenStep(token, PIECES[token], PIECES[token].decode(), position=position, **given | more)


TEXT = Explanation(
    (
        step(0, None, 0, snapshot=None),
        step(1, 0.5, 1),
        step(2, 2.0, 2),
        step(3, 5.0, 3),
        step(4, 9.0, 4),
        step(5, 6.5, 5),
    )
)
NAMED = [Continuation(" cat", (step(1, 1.0),)), Continuation("\x1b", (step(3, 2.0), step(1, 1.0)))]
SURE = Uncertainty(8, 0.5 * LN2, 0.25 * LN2, np.array([1, 0]), np.array([0.5, 0.25]), np.array([0.125, 0.03]))
DOUBT = ExplainedUncertainty(
    "laplace", 8, 1.25, (None, *[SURE] * 5), (np.log([0.5, 0.25]), np.log([0.125, 0.125])),
    ChoiceLogits(np.log([0.5, 0.25]), np.zeros((2, 2))),
)  # fmt: skip


def test_every_token_has_a_row(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    explain._show(SESSION, TEXT, NAMED, 2, None)
    explain._show(SESSION, TEXT, NAMED, 2, DOUBT)
    explain._show(SESSION, Explanation(TEXT.steps[:1]), [], 2, replace(DOUBT, tokens=(None,), choices=None))
    assert_picture("app/pictures/explain.txt", capsys.readouterr().out)
    for columns in (40, 61):
        with coloured(monkeypatch, columns):
            explain._show(SESSION, TEXT, [], 3, None)
        assert_picture(f"app/pictures/explain-{columns}.ans", capsys.readouterr().out.replace("\x1b", "␛"))


def test_every_token_is_an_object() -> None:
    found = explain._object(SESSION, TEXT, NAMED, 2, DOUBT)
    assert found["model"] == "tiny" and len(found["tokens"]) == 6
    token = found["tokens"][1]
    assert [each["text"] for each in token["candidates"]] == [" cat", "The"]
    assert [each["logprob"] for each in token["candidates"]] == [pytest.approx(-0.6), pytest.approx(-1.5)]
    assert [(each["mean"], each["spread"]) for each in token["candidates"]] == [(0.5, 0.125), (0.25, 0.03)]
    assert [token[name] for name in ("entropy_total", "aleatoric", "epistemic")] == [0.75 * LN2, 0.5 * LN2, 0.25 * LN2]
    assert "kept" not in token and found["tokens"][0]["candidates"] == []
    assert found["total_logprob"] == pytest.approx(-23 * LN2)
    assert (
        found["continuations"][1]["logprob"] == pytest.approx(-3 * LN2)
        and len(found["continuations"][1]["tokens"]) == 2
    )
    posterior = found["posterior"]
    assert {**posterior, "choices": 0} == {
        "kind": "laplace", "samples": 8, "elapsed_s": 1.25, "choices": 0,
        "continuations": [
            {"text": " cat", "logprobs": [pytest.approx(math.log(0.5)), pytest.approx(math.log(0.25))]},
            {"text": "\x1b", "logprobs": [pytest.approx(math.log(0.125))] * 2},
        ],
    }  # fmt: skip
    assert posterior["choices"]["trained"] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert list(posterior["choices"]) == ["trained", "probit", "sampled", "covariance"]
    assert "posterior" not in explain._object(SESSION, TEXT, [], 2, None)
    assert len(explain.candidates(SESSION, TEXT.steps[1], 9)) == 4


def test_a_text_is_a_product_of_its_tokens() -> None:
    long = PIECES[4].decode().replace(" ", "·")
    assert list(explain.factorisation(TEXT.steps)) == [
        "p(x2..x6 | x1) = prod over i of p(xi | x<i)",
        "  = p(·cat | The) = 0.7071",
        "  x p(\\n | The ·cat) = 0.25",
        "  x p(\\x1b[31m | The ·cat \\n) = 0.03125",
        f"  x p({long} | The ·cat \\n \\x1b[31m) = 0.001953",
        f"  x p(∅ | … ·cat \\n \\x1b[31m {long}) = 0.01105",
        "  = 2^-23.000 = 10^-6.92",
        "predicted 5 of 6 tokens: 23.000 bits",
        "perplexity = p^(-1/5) = 2^(23.000 / 5) = 24.251",
    ]
    assert list(explain.factorisation(TEXT.steps[1:3]))[:2] == [
        "p(x1..x2) = prod over i of p(xi | x<i)",
        "  = p(·cat) = 0.7071",
    ]
    assert list(explain.factorisation(TEXT.steps[:1])) == ["The is given: a text of one token has no factor"]
    assert list(explain.factorisation(())) == ["x1 is given: a text of one token has no factor"]


def test_attention_is_an_object_a_head() -> None:
    seen = Attention(
        np.array([[[0.0, 0.5]]]), np.array([[[[0, -1], [1, 0]]]]), np.array([[[[1.0, 0.0], [0.75, 0.25]]]])
    )
    assert explain._attention(seen) == [
        {
            "layer": 0, "head": 0, "entropy": [0.0, 0.5],
            "top": [[{"position": 0, "weight": 1.0}],
                    [{"position": 1, "weight": 0.75}, {"position": 0, "weight": 0.25}]],
        }
    ]  # fmt: skip


def test_samples_are_of_a_posterior(capsys: Captured) -> None:
    from engine.errors import ParameterError

    assert explain.uncertainties(SESSION, TEXT, [], 2, None) is None
    with pytest.raises(ParameterError, match="no adapter on the model has a posterior to take --samples of"):
        explain.uncertainties(SESSION, TEXT, [], 2, 4)

    def refuses(samples: int) -> Any:
        asked.append(samples)
        raise ParameterError("two adapters have one each")

    asked: list[int] = []
    several = SimpleNamespace(**vars(SESSION) | {"average": refuses})
    assert explain.uncertainties(several, TEXT, [], 2, None) is None
    assert capsys.readouterr().err == "without ±: two adapters have one each\n"
    with pytest.raises(ParameterError, match="two adapters"):
        explain.uncertainties(several, TEXT, [], 2, 4)
    assert asked == [0, 4]


# -- two models ------------------------------------------------------------------------------------------------------


def position(token: int, kl: float, **more: Any) -> Position:
    risen = (Shift(1, math.log(0.25), math.log(0.5)), Shift(5, math.log(0.001), math.log(0.002)))
    fallen = (Shift(3, math.log(0.75), math.log(0.25)), Shift(2, math.log(0.1), math.log(0.09)))
    return Position(token, kl, (0.5, 1.0), (-1.0, -2.0), (1, 1), risen, fallen, (risen[0],), {"js": kl / 2}, **more)


APART = Difference(
    ("a", "b\x1b"), (position(0, 0.05), position(4, 0.5), replace(position(5, 4.0), next=None, top=(1, 2)))
)


def test_where_two_models_differ_is_a_table(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer: Any = SESSION.tokenizer
    diff._show(APART, tokenizer)
    diff._show(Difference(("a", "b"), (replace(position(0, 0.0), next=None, metrics={}),)), tokenizer)
    assert_picture("app/pictures/diff.txt", capsys.readouterr().out)
    with coloured(monkeypatch, 60):
        diff._show(APART, tokenizer)
    assert_picture("app/pictures/diff-60.ans", capsys.readouterr().out.replace("\x1b", "␛"))


def test_where_two_models_differ_is_an_object() -> None:
    found = diff._object(APART, SESSION.tokenizer)
    assert (
        found["models"] == ["a", "b\x1b"]
        and found["kl"] == pytest.approx(4.55 / 3)
        and found["js"] == pytest.approx(4.55 / 6)
    )
    first = found["positions"][0]
    assert first["text"] == "The" and first["js"] == 0.025 and "metrics" not in first
    assert first["risen"][0] == {"token": 1, "before": math.log(0.25), "now": math.log(0.5), "text": " cat"}
    assert [each["text"] for each in first["fallen"]] == ["\x1b[31m", "\n"] and first["likely"][0]["text"] == " cat"
    assert found["nll"] == [1.0, 2.0] and found["same_top"] == pytest.approx(2 / 3)
    alone = Difference(("a", "b"), (replace(position(0, 0.0), next=None),))
    assert diff._object(alone, SESSION.tokenizer)["nll"] is None


# -- saved runs ------------------------------------------------------------------------------------------------------

LEXICON = Lexicon(dict(enumerate(PIECES)), frozenset({5}))
RECIPE = Recipe((Temperature(0.5), MinP(0.1)))
RUN = Trace(
    "tiny", "w", {}, 3, (0,), (step(1, 1.0, 1), step(2, 2.0, 2, logprob_after=None), step(4, 8.0, 3)), lexicon=LEXICON
)


def test_a_run_is_drawn_again_under_other_parameters(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = replace(RUN, steps=(*RUN.steps[:2], step(0, 3.0, 4), step(1, 1.0, 5, snapshot=None)))
    monkeypatch.setattr(file, "load", lambda path: [kept])
    replaying.show_replay(tmp_path, RECIPE, as_json=False)
    replaying.show_replay(tmp_path, Recipe(greedy=True), as_json=False)
    monkeypatch.setattr(file, "load", lambda path: [kept, kept])
    replaying.show_replay(tmp_path, Recipe(), as_json=False)
    assert_picture("app/pictures/replay.txt", capsys.readouterr().out)
    replaying.show_replay(tmp_path, RECIPE, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["answer"] for line in lines] == [1, 1, 1, 2, 2, 2]
    assert (
        lines[0]["exact"] is True
        and lines[0]["kept"] == [2, 2]
        and [each["id"] for each in lines[0]["candidates"]] == [1, 0]
    )
    monkeypatch.setattr(file, "load", lambda path: [kept])
    replaying.show_replay(tmp_path, RECIPE, as_json=True)
    assert "answer" not in json.loads(capsys.readouterr().out.splitlines()[0])


def test_a_probability_that_is_not_known_is_a_range() -> None:
    assert [spread(*each) for each in ((0.5, 0.50009), (0.5, 0.50011), (0.0, 1.0))] == [
        "50.00%",
        "50.00% to 50.01%",
        "0.00% to 100.00%",
    ]
    assert named(Recipe(greedy=True)) == "greedy" and named(Recipe()) == "no transforms"
    assert named(RECIPE) == "Temperature(temperature=0.5), MinP(p=0.1, least=1)"
    new = Replayed(
        np.arange(6), np.array([0.1, 0.2, 0.0, 0.05, 0.04, 0.3]), np.array([0.1, 0.4, 0.0, 0.05, 0.04, 0.3]),
        np.zeros(6, np.int8), (2, 4), (0.0, 0.01),
    )  # fmt: skip
    assert best(RUN, new) == " cat 20.00% to 40.00%  '' 30.00%  The 10.00%  \\x1b[31m 5.00%"
    told = as_object(RUN, step(1, 1.0), new)
    assert (
        told["p_after"] == [0.2, 0.4]
        and told["kept"] == [2, 4]
        and told["rest"] == [0.0, 0.01]
        and told["exact"] is False
    )
    assert [each["id"] for each in told["candidates"]] == [0, 1, 3, 4, 5]
    assert "p_after" not in as_object(RUN, step(1, 1.0), None)


MASK = 9
PASSES = (
    DenoisingStep(
        1, (Unmasked(1, step(1, 1.0, 1)),),
        (OpenMask(2, LN2, np.array([1, 0, 5]), np.array([-1.0, -2.0, -math.inf])),
         OpenMask(3, 3 * LN2, np.array([0]), np.array([0.0]))),
    ),
    DenoisingStep(2, (Unmasked(2, step(0, 3.0, 2)), Unmasked(2, step(2, 2.0, 1), before=1)), ()),
)  # fmt: skip


def test_passes_are_shown_with_their_canvas(capsys: Captured) -> None:
    record = DenoisingRecord(MASK, 1, Unmasking(), PASSES)
    run = replace(RUN, prompt=(0, MASK, MASK), denoising=record, steps=record.steps)
    for recipe, whose in ((Recipe(), ""), (RECIPE, "[2] ")):
        replaying_passes.show_passes(run, recipe, whose, as_json=False, answer={})
    assert_picture("app/pictures/passes.txt", capsys.readouterr().out)
    replaying_passes.show_passes(run, Recipe(), "", as_json=True, answer={"answer": 2})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["answer"], line["pass"], line.get("position"), "open" in line) for line in lines] == [
        (2, 1, 1, False), (2, 1, None, True), (2, 2, 2, False), (2, 2, 1, False), (2, 2, None, True),
    ]  # fmt: skip
    assert lines[1]["open"][0] == {
        "position": 2, "entropy": LN2,
        "candidates": [{"id": 1, "text": " cat", "logprob": -1.0}, {"id": 0, "text": "The", "logprob": -2.0}],
    }  # fmt: skip
    assert [line.get("before") for line in lines] == [None, None, None, 1, None]


def test_a_pass_is_a_line_and_a_split_letter_stays_one() -> None:
    assert pass_line(3, ["a", None, "b\n\x1b"]) == "   3  a░b ␛" and pass_line(12345, []) == "12345  "
    lexicon = Lexicon({1: b"\xe2\x82", 2: b"\xac", 3: b"x"})
    trace, record = SimpleNamespace(lexicon=lexicon), SimpleNamespace(mask=MASK)
    texts = list(replaying_passes._texts(trace, record, (1, 2, MASK, 3, 1, MASK, MASK)))  # type: ignore[arg-type]
    assert texts == ["€", None, "x�", None, "", None, ""]
