"""The built wheel, installed in a fresh environment outside the clone, does what the clone does."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from likely.engine.weights.sources.model_info import ModelInfo

ROOT = Path(__file__).parent.parent


@pytest.mark.slow(14)
@pytest.mark.real
def test_the_wheel_runs_outside_the_clone(smollm2: ModelInfo, tmp_path: Path) -> None:
    """The dependencies are lent from this environment, so that nothing is downloaded; the program is the wheel's."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel_args = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run([*pip, *wheel_args], check=True)
    (wheel,) = (tmp_path / "dist").glob("likely-*.whl")

    venv.create(tmp_path / "env", with_pip=False)
    fresh = tmp_path / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", str(fresh), "install", "--no-deps", str(wheel)], check=True)
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    likely = str(fresh.with_name("likely"))

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # `make` sets it

    def run(*args: str, stdin: str = "") -> str:
        how: dict[str, Any] = {"input": stdin, "cwd": tmp_path, "env": environment, "timeout": 240}
        done = subprocess.run([likely, *args], capture_output=True, text=True, **how)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [fresh, "-c", "import likely.app, likely.metal; print(likely.app.__file__, likely.metal.__file__)"],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=environment,
    ).stdout  # fmt: skip
    assert str(ROOT) not in where.replace(str(tmp_path), "")
    doctor = run("doctor")
    assert sys.platform != "linux" or ("OpenBLAS" in doctor and "sgemv" in doctor)
    assert "nothing to mend" in doctor or "slow:" in doctor
    (tmp_path / "json.py").write_text("raise SystemExit('of a stranger')")  # of the folder that all of this stands in
    render = "ChatTemplate('{{ messages }}!').render([], generation_prompt=True)"
    code = f"from likely.engine.text.tokenizer.template import ChatTemplate\nprint({render})"
    asked = [fresh, "-P", "-c", code]  # in a process of its own
    said = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment).stdout
    assert said == "[]!\n"
    for name in ("app", "engine", "models", "metal"):  # as many projects have them
        (tmp_path / "strange" / name).mkdir(parents=True)
        (tmp_path / "strange" / name / "__init__.py").write_text(f"raise SystemExit('{name} of a stranger')")
    environment["PYTHONPATH"] = "strange"  # in front of everything but the standard library
    assert "Paris" in run("run", "What is the capital of France?", "--temp", "0", "--max-tokens", "12")
    assert run("chat", "--plain", "--temp", "0", "--max-tokens", "5", stdin="Say hi.\n").strip()
    styles = [path.name for path in (site / "likely" / "app" / "tui").rglob("*.tcss")]
    kernels = [path.name for path in (site / "likely" / "metal" / "kernels").iterdir()]
    assert list((site / "likely" / "engine").rglob("catalogue.toml")) and "qwen3-4b" in run("models", "--known")
    assert styles and any(name.endswith(".metal") for name in kernels)
