"""Every verb as a Mac runs it: 16-bit or packed weights, draws among GPU arrays, our kernels, the first run's test.

What still differs from a Mac: the arrays are computed by mlx's CPU, the kernels by the simulator.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli import likely
from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.jobs import ModelJobs
from likely.app.jobs.model_provider import LocalModelProvider
from likely.app.jobs.worker import Closed, Failed
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.weights.sources.checkpoint import load
from likely.metal import autotune, mx
from likely.metal.simulator import simulated
from likely.models.errors import CacheError
from tests.engine import tiny
from tests.models.oracle import flat, reference
from tests.support.everyday import everyday
from tests.support.worker import HeardWorker

CHIPS = {
    "M1": {"device_name": "Apple M1", "architecture": "applegpu_g13g"},
    "M4": {"device_name": "Apple M4", "architecture": "applegpu_g16g"},
}
CONFIG = tiny.LLAMA | {"hidden_size": 128, "head_dim": 64, "intermediate_size": 256, "max_position_embeddings": 512}


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of records for all tests here, as a Mac has one: what a run compared and timed the next one reads.

    Timed is what takes no minutes here, where a time says nothing: short caches, single calls.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKELY_KERNELS", str(tmp_path_factory.mktemp("kernels")))
        for name, value in {"LENGTHS": (64,), "PROMPT": 64, "CALLS": 1, "ROUNDS": 1, "BUDGET_S": 0.0}.items():
            patch.setattr(autotune, name, value)
        yield


@pytest.fixture(params=everyday(["M4 bfloat16", "M1 float16", "M4 4-bit"], 3))
def mac(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`likely` with a bfloat16 or 4-bit checkpoint on a machine that says it is a Mac; gives (output, launches)."""
    chip, kind = request.param.split()
    arrays = {name: mx.array(a).astype(mx.bfloat16) for name, a in tiny.weights(CONFIG).items()}
    config = CONFIG
    if kind == "4-bit":
        config = CONFIG | {"quantization": {"group_size": 64, "bits": 4}}
        arrays = dict(part for name, a in arrays.items() for part in packed(name, a))
    model = tiny.write_folder(tmp_path / "model", config, arrays)
    return as_on(chip, model, tmp_path, monkeypatch)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same for an architecture that mlx-lm's own class runs, on a chip that nobody has tested a kernel on."""
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "kernels"))
    config = CONFIG | {"model_type": "seed_oss"}
    arrays = {name: a.astype(mx.bfloat16) for name, a in flat(reference(config).parameters()).items()}
    model = tiny.write_folder(tmp_path / "model", config, arrays)
    return as_on("M1", model, tmp_path, monkeypatch)


def as_on(chip: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, well: int = 12 << 30) -> Any:
    """Verbs on this model, on a machine that says it has the chip, and 16 GB of which its GPU holds so many well."""
    info = {"memory_size": 16 << 30, "max_recommended_working_set_size": well, "resource_limit": 499_000}
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("mlx.core.default_device", lambda: mx.gpu)
    monkeypatch.setattr("mlx.core.device_info", lambda *_: info | CHIPS[chip])

    def run(*args: str, text: str | None = None) -> tuple[str, Counter[str]]:
        call = [args[0], "-M", str(model), *args[1:]]
        with simulated() as launches:
            result = CliRunner().invoke(likely, call, text, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output, launches

    run.model = str(model)  # type: ignore[attr-defined]
    return run


def packed(name: str, a: mx.array) -> list[tuple[str, mx.array]]:
    if a.ndim < 2:
        return [(name, a)]
    names = [name.removesuffix("weight") + part for part in ("weight", "scales", "biases")]
    return list(zip(names, mx.quantize(a, 64, 4), strict=True))


TEXT = "a text of words, and of more words, and of ab. " * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    ["--temp 0.8", "--temp 0 --json", "--preset wild --mirostat-tau 3", "--ngram", "-n 3", "--kv-bits 4 --preset wild"],
)
def test_run(mac: Any, options: str) -> None:
    output, _ = mac("run", "--raw", TEXT, "--seed", "1", "--max-tokens", "12", *options.split())
    assert "138 prompt tokens" in output and ("12 tokens" in output or "eot" in output) and "seed 1" in output


@pytest.mark.slow
def test_guesses_change_nothing(mac: Any) -> None:
    def ids(*options: str) -> list[int]:
        output, _ = mac("run", "--raw", "ab ab ab", "--seed", "5", "--max-tokens", "10", "--json", *options)
        return [json.loads(line)["id"] for line in output.splitlines() if line.startswith('{"id"')]

    assert len(ids()) > 1 and ids() == ids("--ngram")


@pytest.mark.slow
def test_explain_and_its_attention(mac: Any) -> None:
    assert "perplexity" in mac("explain", TEXT)[0]
    output, launches = mac("explain", "--attention", "--json", "hello ab")
    assert any(name.startswith("likely_decode") for name in launches) and '"entropy"' in output
    assert json.loads(mac("inside", "--json", "hello ab")[0])  # layer by layer


@pytest.mark.slow(2)
def test_plain_chat(mac: Any) -> None:
    assert mac("chat", "--plain", "--max-tokens", "8", text="hello\nand again\n/quit\n")[0]


@pytest.mark.slow(7)
@pytest.mark.parametrize(
    "mac", [*(pytest.param(name, marks=pytest.mark.soak) for name in ("M4 bfloat16", "M1 float16")), "M4 4-bit"],
    indirect=True,
)  # fmt: skip
def test_training_and_what_it_moved(mac: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"say {i} ", "completion": f"{i * 7} ab"}) + "\n" for i in range(40)))
    adapter = str(tmp_path / "adapter")
    output, _ = mac("tune", str(rows), "--steps", "3", "--batch", "2", "--length", "64", "--out", adapter)
    assert "done after step 3" in output


@pytest.mark.slow
def test_a_model_of_mlx_lms_class(foreign: Any, tmp_path: Path) -> None:
    """No attention kernel is tested, timed or compiled for it, no number narrowed, and it has no part to be trained."""
    output, launches = foreign("run", "--raw", TEXT, "--seed", "1", "--max-tokens", "12")
    assert {name.split("_")[1] for name in launches} == {"scan", "draw", "histogram"}
    assert load(foreign.model).precision.dtype == mx.bfloat16  # on a chip that only emulates it
    assert "138 prompt tokens" in output and ("12 tokens" in output or "eot" in output)
    assert "perplexity" in foreign("explain", TEXT)[0]
    with pytest.raises(CacheError, match=r"cache of a seed_oss takes is not known beforehand.*leave out --kv-budget"):
        foreign("run", "--raw", "ab", "--kv-budget", "100")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"say {i} ", "completion": f"{i} ab"}) + "\n" for i in range(40)))
    with pytest.raises(ParameterError, match="seed_oss runs by mlx-lm's own class: choose another model"):
        foreign("tune", str(rows), "--steps", "1", "--out", str(tmp_path / "adapter"))


@pytest.mark.slow
def test_a_model_that_fills_the_memory_of_the_gpu_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.random_folder(tmp_path / "model", CONFIG)
    run = as_on("M4", model, tmp_path, monkeypatch, (2 << 30) + model.joinpath("model.safetensors").stat().st_size)
    output, _ = run("run", "--raw", "ab", "--max-tokens", "4")
    assert output.count("slow from the first token on: sudo sysctl iogpu.wired_limit_mb=14336 lets") == 1


def test_the_screens_engine(mac: Any) -> None:
    """A run, a measured text and an adapter's refusal in the thread that the screen's engine has."""
    with simulated() as launches:
        worker = HeardWorker(lambda: ModelJobs(LocalModelProvider()))
        worker.start()

        def done(request: Any) -> list[Any]:
            worker.submit(request)
            return [event for _, event in worker.until(lambda seen: isinstance(seen and seen[-1][1], Closed))][:-1]

        try:
            model, prompt = mac.model, Prompt(parts=(TEXT,))
            assert isinstance(done(r.Load(model))[-1], r.Loaded)
            events = done(r.Generate(model, prompt, RunControl(SamplingConfig()), max_tokens=8))
            ended = events[-1]
            assert isinstance(ended, Done) and ended.stats.tokens <= 8
            steps = [event.step for event in events if isinstance(event, Emitted)]
            assert len(steps) == ended.stats.tokens and all(step.snapshot is not None for step in steps)
            (scored,) = done(call(calls.score, model, prompt))
            assert isinstance(scored, r.Scored) and len(scored.steps) > 100
            (exact,) = done(call(calls.logits, model, prompt))
            assert isinstance(exact, np.ndarray) and exact.dtype == np.float32
            assert isinstance(done(call(calls.adapt, model, "add", "/nowhere"))[-1], Failed)
        finally:
            worker.close()
    assert launches
