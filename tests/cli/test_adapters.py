"""`--adapter`: what every verb that opens a model can put on it."""

import json
from pathlib import Path

import pytest

from likely.app.store.evaluations import Evaluations
from likely.engine.base.files.home import home
from likely.engine.weights.sources.checkpoint import load
from tests.cli.conftest import Likely, random_model
from tests.engine.attach.test_stack import CONFIG, write


def test_adapters_are_put_on_the_model(likely: Likely, tmp_path: Path) -> None:
    model = random_model(tmp_path / "model", **CONFIG)
    style = write(load(model), tmp_path / "style", 1)

    def perplexity(*adapters: str) -> float:
        given = [word for adapter in adapters for word in ("-A", adapter)]
        code, out, err = likely("explain", "-M", model, *given, "--json", "a text of words")
        if code:
            raise ValueError(err)
        return float(json.loads(out)["perplexity"])

    base = perplexity()
    assert perplexity(str(style)) != base
    assert perplexity(f"{style}=0") == base
    with pytest.raises(ValueError, match="FOLDER=WEIGHT, got style=much"):
        perplexity("style=much")
    with pytest.raises(ValueError, match="is on the model already"):
        perplexity(str(style), str(style))


def test_the_plain_chat_puts_weighs_and_takes_off_adapters(likely: Likely, tmp_path: Path) -> None:
    """The oracle of an answer is that of a chat which was begun with the adapter, or without."""
    model = random_model(tmp_path / "model", **CONFIG)
    style = write(load(model), tmp_path / "style", 1)

    def chat(*lines: str, on: str = "") -> tuple[list[str], str]:
        given = ("-A", on) if on else ()
        code, out, err = likely(
            "chat", "--plain", "-M", model, *given, "--temp", 0, "-m", 6, stdin="\n".join(lines).encode()
        )
        assert code == 0
        return out.splitlines(), err

    base, styled, half = (chat("hello", on=on)[0] for on in ("", str(style), f"{style}=0.5"))
    assert base != styled != half
    asked = ("hello", f"/adapter {style}", "/redo", "/adapter 0.5", "/redo", "/adapter off", "/redo", "/adapter 2")
    out, err = chat(*asked, "/adapter no-such", "/redo")
    assert out == base + styled + half + base + base
    assert err.splitlines()[-2:] == [
        "likely: there is no adapter on the model",
            "likely: there is no adapter directory no-such: `likely models` lists those that were made here",
    ]  # fmt: skip
    assert chat("/adapter 0", "hello", on=str(style))[0] == base


def test_what_an_adapted_model_scored_is_not_the_base_models(likely: Likely, tmp_path: Path) -> None:
    model, text = random_model(tmp_path / "model", **CONFIG), tmp_path / "text"
    style = write(load(model), tmp_path / "style", 1)
    text.write_text("a text of words")
    for adapters in ((), ("-A", f"{style}=0.5")):
        assert likely("eval", "--text", text, "-M", model, *adapters)[0] == 0
    rows = [json.loads(line) for line in likely("eval", "--compare", "text", "--json")[1].splitlines()]
    values = {row["model"]: row["value"] for row in rows if row.get("measure") == "perplexity"}
    assert sorted(values) == [str(model), f"{model} + style=0.5"] and len({*values.values()}) == 2
    store = Evaluations(home() / "evaluations.db")
    places = [each.place for each in store.all() if each.model.endswith("style=0.5")]
    store.close()
    assert [(place["model"], place["adapters"]) for place in places] == [(str(model), [[str(style), 0.5]])]
