"""`--adapter`: what every verb that opens a model can put on it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import app.cli
from engine.sources.checkpoint import load
from metal import mx
from tests.engine import tiny
from tests.engine.tune.test_stack import CONFIG, write


def test_adapters_are_put_on_the_model(monkeypatch: pytest.MonkeyPatch, capfd: Any, tmp_path: Path) -> None:
    arrays = {name: mx.array(a) for name, a in tiny.weights(CONFIG).items()}
    model = tiny.write_folder(tmp_path / "model", CONFIG, arrays)
    style = write(load(model), tmp_path / "style", 1)

    def perplexity(*adapters: str) -> float:
        given = [word for adapter in adapters for word in ("-A", adapter)]
        call = ["likely", "explain", "-M", str(model), *given, "--json", "a text of words"]
        monkeypatch.setattr(sys, "argv", call)
        with pytest.raises(SystemExit) as end:
            app.cli.main()
        out, err = capfd.readouterr()
        if end.value.code:
            raise ValueError(err)
        return float(json.loads(out)["perplexity"])

    base = perplexity()
    assert perplexity(str(style)) != base
    assert perplexity(f"{style}=0") == base
    with pytest.raises(ValueError, match="FOLDER=WEIGHT, got style=much"):
        perplexity("style=much")
    with pytest.raises(ValueError, match="is on the model already"):
        perplexity(str(style), str(style))
