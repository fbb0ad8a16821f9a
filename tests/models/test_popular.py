"""Architectures that people use by name, as mlx-lm saves them: opened, read and gone on with as mlx-lm does it."""

import json
import runpy
from collections.abc import Callable
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import dequantize_model, load_model, quantize_model, save_config, save_model
from transformers import CONFIG_MAPPING

from likely.app.cli import likely
from likely.engine.base.errors import CheckpointError
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import mx
from tests.engine import tiny
from tests.models.oracle import difference, reference
from tests.support import thinkers
from tests.support.decoding import run
from tests.support.dialects import DIALECTS
from tests.support.everyday import everyday
from tests.support.popular import NEWER, NOBODY, POPULAR, Popular
from tests.support.thinkers import Thinker

PROMPT = [*range(97, 111)]
X = mx.array([PROMPT])
FORMATS = {"float": "", "4 bits": "affine", "mxfp4": "mxfp4"}


def saved(folder: Path, config: dict[str, Any], mode: str) -> Path:
    """A random model by mlx-lm's class, as mlx-lm saves it."""
    model = reference(config)
    if config.get("tie_word_embeddings"):
        model.pop("lm_head", None)  # its class decides by what is stored
    if mode:
        model, config = quantize_model(model, config, 32, 4, mode)
    tiny.write_folder(folder, config, {})
    save_model(folder, model)
    save_config(config, folder / "config.json")
    return folder


def read(model: Any, cache: Callable[[], Any]) -> mx.array:
    """Logits of `X` whole, and behind them token by token."""
    whole, held = model(X, cache=cache()), cache()
    return mx.concatenate([whole, *(model(X[:, i : i + 1], cache=held) for i in range(X.shape[1]))], axis=1)


@pytest.mark.parametrize(
    ("popular", "format"),
    everyday(product(POPULAR, FORMATS), 11),
    ids=lambda case: case.kind if isinstance(case, Popular) else case,
)
def test_a_model_that_mlx_lm_saved_is_the_same_here(popular: Popular, format: str, tmp_path: Path) -> None:
    """To the bit where its class runs; whole, token by token, and in the text that is the likeliest at each step."""
    folder = saved(tmp_path / "m", popular.config, FORMATS[format])
    theirs = load_model(folder)[0]
    if popular.native and format == "mxfp4":  # what it looks up in packed rows is bfloat16
        theirs = dequantize_model(theirs)
        theirs.set_dtype(mx.float32)
    checkpoint = load(folder, precision=Precision(mx.float32, packed=True))
    want, got = read(theirs, lambda: make_prompt_cache(theirs)), read(checkpoint.model, checkpoint.model.make_cache)
    assert difference(got, want) < 1e-4 if popular.native else bool(mx.all(got == want))
    text = [token for token, _ in generate_step(X[0], theirs, max_tokens=8)]
    found = run(Session(checkpoint), SamplingConfig(greedy=True), prompt=PROMPT, max_tokens=8).tokens[0]
    assert found == text[: len(found)] and (len(found) == 8 or found[-1] == tiny.EOS)


STOPS = sorted({stop for dialect in DIALECTS.values() for stop in dialect.stops})
NAMED = {stop: "generation_config.json" for dialect in DIALECTS.values() for stop in dialect.named}


@pytest.mark.parametrize(
    ("stop", "file", "control"),
    [
        *everyday(((stop, NAMED.get(stop, ""), True) for stop in STOPS), 6),
        *(("<over>", f"{name}config.json", True) for name in ("tokenizer_", "generation_", "")),
        ("<|im_end|>", "", False),  # a text token to its tokenizer.json
    ],
)
def test_an_answer_ends_at_the_marks_of_its_family(stop: str, file: str, control: bool, tmp_path: Path) -> None:
    """Which are not in it; those that only a configuration can tell are named there."""
    folder = thinkers.write(tmp_path / "m", Thinker("a:", (stop,), "", control), f"So.{stop} More.")
    if file:
        settings = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        token = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"][stop]
        settings |= {"eos_token": stop} if file.startswith("tokenizer") else {"eos_token_id": [token]}
        (folder / file).write_text(json.dumps(settings))
    done = CliRunner().invoke(likely, ["run", "hi", "-M", str(folder), "-q", "--temp", "0", "-m", "20"])
    assert done.output == "So.\n"


def saved_anew(folder: Path, popular: Popular) -> None:
    """The configuration of a folder, as transformers' class writes it of what that class has a name for."""
    config = popular.config["text_config"] if popular.text else popular.config
    kind, newer = popular.text or popular.kind, NEWER.get(popular.kind, {})
    known = {field.name for field in fields(CONFIG_MAPPING[kind])} | {"rope_theta", "rope_scaling", *newer}
    told = {name: value for name, value in (config | newer).items() if name in known}
    told = {"text_config": told | {"model_type": kind}} if popular.text else told
    CONFIG_MAPPING[popular.kind](**told).save_pretrained(folder)


@pytest.mark.parametrize(
    "popular",
    everyday((popular for popular in POPULAR if popular.kind in CONFIG_MAPPING), 9),
    ids=lambda popular: popular.kind,
)
def test_a_model_that_transformers_5_saved_is_the_same_here(popular: Popular, tmp_path: Path) -> None:
    """Which has other names, and leaves some out; mlx-lm's classes look for those of before."""
    folder = saved(tmp_path / "m", popular.config, "")
    theirs = load_model(folder)[0]
    saved_anew(folder, popular)
    model = load(folder, precision=Precision(mx.float32, packed=True)).model
    assert difference(read(model, model.make_cache), read(theirs, lambda: make_prompt_cache(theirs))) < 1e-4


def test_the_table_of_the_manual_is_the_one_that_its_command_makes(capsys: pytest.CaptureFixture[str]) -> None:
    made = Path(__file__).parents[2] / "docs/models.py"
    runpy.run_path(str(made), run_name="__main__")
    assert capsys.readouterr().out == made.with_suffix(".md").read_text(encoding="utf-8")


def test_what_nobody_has_a_class_for_is_refused_by_name(tmp_path: Path) -> None:
    for kind in NOBODY:
        with pytest.raises(CheckpointError, match=f"'{kind}' is known neither here nor to mlx-lm"):
            load(tiny.write_folder(tmp_path / "m", {"model_type": kind}, {"x": mx.zeros(1)}))
