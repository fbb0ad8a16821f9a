"""`--adapter`: what every verb that opens a model can put on it."""

import json
from pathlib import Path

import pytest

from likely.app.evaluations import Evaluations
from likely.engine.home import home
from likely.engine.sources.checkpoint import load
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
