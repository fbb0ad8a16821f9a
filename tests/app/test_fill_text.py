"""Verbs of holes: filled from left to right and pass by pass, with the engine's part done by a script."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from app.cli import fill, infilled
from app.cli import inside as inside_verb
from engine.decode.infill import Infill, InfillAttempt
from engine.diffusion.unmasking import DenoisingStep, Disagreement, Unmasked, Unmasking
from engine.errors import ParameterError
from engine.trace.trace import Recipe
from tests.fakes import ByteTokenizer
from tests.serve.scripted import step

Captured = pytest.CaptureFixture[str]
LN2 = math.log(2)


# -- holes -----------------------------------------------------------------------------------------------------------

LEFT: Any = SimpleNamespace(
    tokenizer=ByteTokenizer(),
    context=99,
    info=SimpleNamespace(name="m"),
    model=SimpleNamespace(config=SimpleNamespace(diffusion=None)),
)
FOUND = [
    InfillAttempt(1, Infill((97, 98, 99, 100), 1, (-LN2, -LN2, -LN2)), True),
    InfillAttempt(2, Infill((97, 120, 99, 100), 1, (-2 * LN2, -LN2, -LN2)), False),
    InfillAttempt(3, Infill((97, 98, 99, 27), 1, (-LN2, -LN2, -LN2 / 2)), True),
]


def test_holes_are_filled_from_left_to_right(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from engine.diffusion import infilling

    asked: list[Any] = []

    class Holes:
        free = (1, 3)

        def __init__(self, *args: Any) -> None:
            asked.append(args[1:5])

        def nbest(self, count: int) -> Any:
            asked.append(("nbest", count))
            return iter(FOUND)

        def mcmc(self, count: int) -> Any:
            asked.append(("mcmc", count))
            return iter(FOUND)

    monkeypatch.setattr(infilled, "Holes", Holes)
    monkeypatch.setattr(infilling, "canvas", lambda text, tokenizer, mask, context, whole: [97, mask, 99, mask])

    def show(nbest: int | None, mcmc: int | None, **more: Any) -> tuple[str, str]:
        infilled.show_infilled(
            LEFT, "t", nbest, mcmc, Recipe(), 5, **{"whole": False, "as_json": False, "quiet": False} | more
        )
        return capsys.readouterr()

    out, err = show(3, None)
    assert out == "abc\x1b\n" and err.splitlines() == [
        "   1  abcd",
        "   3  abc␛",
        "2 tokens from left to right · the likeliest of 3 texts · 2.50 bits · seed 5",
    ]
    out, err = show(None, 4)
    assert err.splitlines()[-1].startswith("2 tokens from left to right · 25% of 4 proposals taken, worth ")
    assert asked == [
        ((97, -1, 99, -1), -1, Recipe(), 5),
        ("nbest", 3),
        ((97, -1, 99, -1), -1, Recipe(), 5),
        ("mcmc", 4),
    ]
    out, err = show(3, None, as_json=True, quiet=True)
    told = json.loads(out)
    assert err == "" and told["ids"] == [97, 98, 99, 27] and told["logprob"] == pytest.approx(-2.5 * LN2)
    assert told["revisions"] == [{"position": 3, "step": 3, "from": 100, "to": 27}]
    assert [(each["step"], each["given"]) for each in told["tokens"]] == [
        (None, True),
        (1, False),
        (None, True),
        (3, False),
    ]
    assert [each["logprob"] for each in told["tokens"]] == [None, -LN2, None, -LN2 / 2]
    masked = SimpleNamespace(**vars(LEFT) | {"model": SimpleNamespace(config=SimpleNamespace(diffusion=object()))})
    for nbest, mcmc, flag in ((3, None, "--nbest"), (None, 3, "--mcmc")):
        with pytest.raises(ParameterError, match=f"{flag} is of autoregressive models, and m is a diffusion model"):
            infilled.show_infilled(masked, "t", nbest, mcmc, Recipe(), 5, whole=False, as_json=False, quiet=False)


def test_holes_are_filled_pass_by_pass(monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path) -> None:
    from app.cli import diffused
    from engine.diffusion import answering, denoiser, infilling

    passes = [
        DenoisingStep(
            1,
            (Unmasked(1, step(0, position=1)),),
            (),
            Disagreement(*({"masks": 8, "other": 2, "kl": 4 * LN2}[f] for f in fields())),
        ),
        DenoisingStep(2, (Unmasked(2, step(1, position=1), before=0),), ()),
    ]
    kept: list[Any] = []
    tokens = [
        SimpleNamespace(step=None, given=True, text="a"),
        SimpleNamespace(step=None, given=False, text="M"),
        SimpleNamespace(step=1, given=False, text="b"),
    ]
    found = SimpleNamespace(tokens=tokens, revisions=[1], text="ab\x1b", as_dict=lambda: {"ids": [1]})
    masked: Any = SimpleNamespace(**vars(LEFT) | {"model": SimpleNamespace(config=SimpleNamespace(diffusion=object()))})
    monkeypatch.setattr(denoiser, "of_model", lambda model, name: SimpleNamespace(mask=7))
    monkeypatch.setattr(infilling, "canvas", lambda *args, whole: [97, 7, 7])
    monkeypatch.setattr(infilling, "infill", lambda *args, seed: iter(passes))
    monkeypatch.setattr(answering, "told", lambda events, tokenizer: events)
    monkeypatch.setattr(infilling, "filled", lambda *args: found)
    monkeypatch.setattr(diffused, "keep", lambda *args: kept.append(args))
    given: dict[str, Any] = {"whole": False, "as_json": False, "quiet": False, "save": None}
    fill.show(masked, "t", Unmasking(), Recipe(), 5, **given)
    out, err = capsys.readouterr()
    assert out == "ab\x1b\n"
    assert (
        err.splitlines()
        == [
            "   1  a░b",
            "   2  a░b",
            "cache: at 2 of 8 masks in 1 passes another token is likeliest than without, KL 0.5 bits a mask",
            "2 tokens in 2 passes · 1 revised · seed 5",
        ]
        and kept == []
    )
    fill.show(masked, "t", Unmasking(), Recipe(), 5, **given | {"as_json": True, "quiet": True, "save": tmp_path / "x"})
    assert capsys.readouterr() == ('{"ids": [1]}\n', "") and kept[0][2] == answering.AnswerCanvas((97, 7, 7), 0, 7)
    assert kept[0][5:] == (5, "length") and fill._disagreement(passes[1:]) == ""
    with pytest.raises(ParameterError, match="m is autoregressive and has no mask token"):
        fill.show(LEFT, "t", Unmasking(), Recipe(), 5, **given)
    monkeypatch.setattr(infilling, "lone_space", lambda text, tokenizer: "bet\nter" if text == "t" else None)
    fill._hint("t", LEFT), fill._hint("u", LEFT)
    assert capsys.readouterr().err.endswith("words of this model bring their own: write bet ter\n")


def fields() -> list[str]:
    return list(Disagreement.__dataclass_fields__)


def test_a_head_is_named_by_layer_and_number() -> None:
    kind = inside_verb.Head()
    assert kind.convert("3.10", None, None) == (3, 10) == kind.convert((3, 10), None, None)
    for wrong in ("3", "3.", ".3", "a.1", "1.b", "-1.0", "1.2.3"):
        with pytest.raises(click.UsageError, match=r"a head is named LAYER\.HEAD, as in 3\.0"):
            kind.convert(wrong, None, None)
