"""`likely posterior` as a person calls it, and "±" in `likely explain` where an adapter has one."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from likely.app.cli import likely as program
from likely.engine.base.errors import LikelyError
from likely.engine.train.posterior import stored
from likely.engine.weights.adapters import adapters, lora, sites
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.cli.conftest import random_model

TEXT = "abab cabc"


def call(*words: object) -> Result:
    return CliRunner().invoke(program, [str(word) for word in words])


def done(*words: object) -> Any:
    result = call(*words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def refused(*words: object) -> str:
    """The one line that a call ends with."""
    result = call(*words)
    assert result.exit_code != 0 and isinstance(result.exception, LikelyError | SystemExit), result.exception
    said = str(result.exception) if isinstance(result.exception, LikelyError) else result.output
    return said.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, another one, rows, and two adapters of the first."""
    folder = tmp_path_factory.mktemp("posterior")
    rows = [{"prompt": f"a{i}", "completion": f"b{i % 7}c"} for i in range(14)]
    for name, kept in (("rows", rows), ("few", rows[:9])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    for seed, base in enumerate(("base", "other")):
        random_model(folder / base, seed)
    model = load(str(folder / "base")).model
    for seed, name in enumerate(("one", "two")):
        chosen = sites.choose(sites.sites(model), -1, ["*"], model.config.layers)
        adapter = lora.create(chosen, rank=2, scale=2.0, seed=seed)
        adapter.set(
            {n: p + 0.1 * mx.random.normal(p.shape, key=mx.random.key(seed)) for n, p in adapter.parameters().items()}
        )
        settings = {"kind": "lora", "model": str(folder / "base"), "data": str(folder / "rows.jsonl"), "valid": 0.0}
        adapters.save(folder / name, adapter, model, {**settings, "rate": 1e-3, "batch": 4})
    return folder


@pytest.mark.slow
def test_every_posterior_is_fitted_kept_and_shown(home: Path) -> None:
    one, base = home / "one", home / "base"
    plain = done("explain", TEXT, "-M", base, "-A", one)
    assert "posterior" not in plain
    kinds = {
        "laplace": ("laplace", one, "--prior-precision", "100"),
        "kron": ("laplace", one, "--structure", "kron", "--draws", "2"),
        "swag": ("swag", one, "--steps", "6"),
        "ensemble": ("ensemble", one, home / "two"),
    }
    epistemic = {}
    for name, words in kinds.items():
        found = done("posterior", *words)
        assert found["kind"] == words[0] and (one / stored.FILE).exists()
        if name == "laplace":
            assert (found["precision"], found["rows"], found["tokens"]) == (100, 14, 14 * 4)
            assert found["log_evidence"] < 0
            assert done("posterior", *words, "--seed", "1")["log_evidence"] != found["log_evidence"]
        samples = [] if name == "ensemble" else ["--samples", 3]
        said = done("explain", TEXT, "-M", base, "-A", one, "-c", "a", "-c", "b", *samples)
        assert said["posterior"]["kind"] == words[0]
        assert said["posterior"]["samples"] == (2 if name == "ensemble" else 3)
        assert said["total_logprob"] == plain["total_logprob"]  # the adapter itself is as it was
        for token in said["tokens"][1:]:
            assert token["entropy_total"] == pytest.approx(token["aleatoric"] + token["epistemic"], abs=1e-5)
            assert len(token["candidates"]) == 5 and all(c["spread"] >= 0 for c in token["candidates"])
        epistemic[name] = said["tokens"][-1]["epistemic"]
        assert ("choices" in said["posterior"]) == (words[0] == "laplace")
        if words[0] == "laplace":
            among = said["posterior"]["choices"]
            assert sum(among["probit"]) == pytest.approx(1) and max(among["probit"]) < max(among["trained"]) + 1e-3
        logprobs = [c["logprobs"] for c in said["posterior"]["continuations"]]
        assert np.std(np.exp(logprobs), axis=1, ddof=1).min() > 0
    assert min(epistemic.values()) > 0 and len(set(epistemic.values())) == 4
    table = call("explain", TEXT, "-M", base, "-A", one, "-c", "a")
    assert "%±" in table.output
    rows = [
        [float(x) for x in line[18:].split()[:6]] for line in table.output.splitlines()[2 : 1 + len(said["tokens"])]
    ]
    assert len(rows) == len(said["tokens"]) - 1
    for (_, _, entropy, mixture, aleatoric, unsure), token in zip(rows, said["tokens"][1:], strict=True):
        assert mixture == pytest.approx(aleatoric + unsure, abs=1e-9)  # as they are read, to the last digit
        assert entropy == pytest.approx(token["entropy"] / math.log(2), abs=0.006)  # the trained weights' own
        assert mixture == pytest.approx(token["entropy_total"] / math.log(2), abs=0.011)
    found = re.search(
        r": (\S+) bits by the trained weights; of the mixture (\S+) bits = (\S+) al\w+ \+ (\S+)", table.output
    )
    assert found is not None
    own, whole, data, rest = map(float, found.groups())
    assert whole == pytest.approx(data + rest, abs=1e-9)
    means = np.mean(rows, axis=0)
    assert [own, whole] == pytest.approx([means[2], means[3]], abs=0.011)
    assert "over 2 samples of the adapter's posterior (ensemble): 2 rows of one batch" in table.output
    sure = done("explain", "--chat", TEXT, "-M", base, "-A", one)["posterior"]
    ids = [
        [token["id"] for token in done("explain", "--chat", TEXT, "-M", base, "-A", adapter)["tokens"]]
        for adapter in (one, home / "two")
    ]
    apart = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), None)
    assert apart is not None and sure["agree"] == 0.5
    assert sure["partings"] == [None, {"position": apart, "token": ids[1][apart]}]
    words = call("explain", "--chat", TEXT, "-M", base, "-A", one).output.splitlines()
    assert ": 50% of the samples agree (1 of 2)" in words[-2] and re.match(
        r"  1 would say '.*' (first|after '.+')$", words[-1]
    )
    member = done("explain", TEXT, "-M", base, "-A", home / "two")["tokens"][-1]["candidates"]
    both = [plain["tokens"][-1]["candidates"], member]
    shares = [{c["id"]: math.exp(c["logprob"]) for c in side} for side in both]
    for c in said["tokens"][-1]["candidates"]:
        if c["id"] in shares[0] and c["id"] in shares[1]:
            assert c["mean"] == pytest.approx((shares[0][c["id"]] + shares[1][c["id"]]) / 2, rel=1e-4)


def test_training_on_is_of_the_adapter_as_it_is(home: Path, tmp_path: Path) -> None:
    """Its scale and rank stand with its arrays, and not where `likely tune` writes its options."""
    moments = []
    for name, said in (("ours", {"scale": 5.0, "rank": 2}), ("mlx-lm's", {})):
        folder = shutil.copytree(home / "one", tmp_path / name)
        config = json.loads((folder / adapters.CONFIG).read_text())
        config["lora_parameters"]["scale"] = 5.0
        (folder / adapters.CONFIG).write_text(json.dumps(config | said))
        done("posterior", "swag", folder, "--steps", "4", "--rate", "0.1")
        moments.append(mx.load(str(folder / stored.FILE)))
    assert all(bool(mx.array_equal(moments[0][name], moments[1][name])) for name in moments[0])


def test_what_cannot_be_is_one_line_and_nothing_is_lost(home: Path, tmp_path: Path) -> None:
    one, two, base = home / "one", home / "two", home / "base"
    done("posterior", "laplace", one)
    kept = (one / stored.FILE).read_bytes()
    explain = ("explain", TEXT, "-M", base, "-A", one)
    table: list[tuple[tuple[object, ...], str]] = [
        ((*explain, "--samples", "0"), "0 is not in the range 2<=x<=8"),
        ((*explain, "--samples", "9"), "9 is not in the range 2<=x<=8"),
        (("explain", TEXT, "-M", base, "-A", two, "--samples", "4"), "likely posterior fits one"),
        (("posterior", "laplace", one, "--prior-precision", "0"), "0.0 is not in the range x>0"),
        (("posterior", "laplace", one, "--prior-precision", "nan"), "takes a finite number, got nan"),
        (("posterior", "laplace", one, "--data", home / "few.jsonl"), "10 rows or more"),
        (("posterior", "swag", one, "--rate", "1e9", "--steps", "20"), "lower --rate"),
        (("posterior", "swag", one, "--rate", "nan"), "takes a finite number, got nan"),
        (("posterior", "ensemble", one, one), "the same adapter"),
        (("posterior", "ensemble", one, *[two] * 8), "2 to 8 members, got 9"),
        (("posterior", "laplace", home / "nowhere"), "no adapter directory"),
    ]
    for words, line in table:
        assert line in refused(*words), words
    assert (one / stored.FILE).read_bytes() == kept
    # a file of another adapter or base, and damaged ones
    (two / stored.FILE).write_bytes(kept)
    assert "of another adapter" in refused("explain", TEXT, "-M", base, "-A", two)
    (two / stored.FILE).unlink()
    # of two posteriors none is taken, and the text is explained all the same
    done("posterior", "laplace", two)
    both = call(*explain, "-A", two)
    assert (
        both.exit_code == 0 and "without ±" in both.stderr and "have one each" in both.stderr and "±" not in both.stdout
    )
    assert "have one each" in refused(*explain, "-A", two, "--samples", "4")
    (two / stored.FILE).unlink()
    assert "on another base" in refused("explain", TEXT, "-M", home / "other", "-A", one)
    arrays, metadata = mx.load(str(one / stored.FILE), return_metadata=True)  # type: ignore[misc]
    name = next(n for n in arrays if n.endswith(".left"))
    facts = json.loads(metadata[stored.META])
    damages: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({name: arrays[name] * math.nan}, {}, "numbers that are none"),
        ({name: arrays[name][:1]}, {}, "do not fit"),
        ({f"{name}_values": -arrays[f"{name}_values"] - 1}, {}, "do not fit"),
        ({"nonsense.left": arrays[name]}, {}, "no place"),
        ({}, {"precision": 0.0}, "above 0, got 0"),
        ({}, {"kind": "guess"}, "laplace, swag, ensemble, got 'guess'"),
        ({}, {"kind": 3}, "kind: text expected"),
        ({}, {"kind": "ensemble"}, "no place"),
    ]
    for changed, said, line in damages:
        meta = {stored.META: json.dumps({**facts, **said})}
        mx.save_safetensors(str(one / stored.FILE), {**arrays, **changed}, meta)
        assert line in refused(*explain), line
    (one / stored.FILE).write_bytes(kept[:200])
    assert stored.FILE in refused(*explain)
    (one / stored.FILE).unlink()
    assert call(*explain).exit_code == 0
