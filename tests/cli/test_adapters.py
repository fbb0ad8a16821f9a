"""`--adapter`: what every verb that opens a model can put on it."""

import json
from pathlib import Path

import pytest

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
