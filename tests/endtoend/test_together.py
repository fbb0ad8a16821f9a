"""`likely` as several processes over mlx's ring on this machine: the same words as from one, and one end for all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from likely.app import cli
from likely.metal import mx
from tests.engine.tiny import LLAMA, weights, write_folder, write_gguf
from tests.processes import ROOT, finish, free_ports, start

MAIN = ["-c", "from likely.app.cli import main; main()"]
LONG: dict[str, Any] = LLAMA | {"max_position_embeddings": 1 << 16, "num_key_value_heads": 2}
HELLO = ["run", "hello there", "--max-tokens", "20", "--seed", "3"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same tiny model as a folder and, in 8 bits, as a GGUF file."""
    at, arrays = tmp_path_factory.mktemp("models"), weights(LONG)
    folder = write_folder(at / "tiny", LONG, {name: mx.array(array) for name, array in arrays.items()})
    return {"folder": folder, "gguf": write_gguf(at / "tiny.gguf", "llama", LONG, arrays, "Q8_0")}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat with a named model is remembered: not for whoever runs the tests."""
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))


def alone(*arguments: str, given: str = "") -> str:
    """What one process writes."""
    done = subprocess.run([sys.executable, *MAIN, *arguments], input=given, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ways"),
    [
        ("folder", ["--parallel", "tensor", "--temp", "1"]),
        ("gguf", ["--parallel", "pipeline", "--temp", "1.3", "--top-p", "0.9"]),
        ("gguf", ["--temp", "0"]),
    ],
    ids=["tensor, sampled", "pipeline, sampled", "tensor, greedy"],
)
def test_two_ranks_draw_what_one_process_draws(
    kind: str, ways: list[str], files: dict[str, Path], tmp_path: Path
) -> None:
    model = ["--model", str(files[kind])]
    plain = [word for word in ways if word not in ("--parallel", "tensor", "pipeline")]
    first, second = finish(start(2, tmp_path, [*MAIN, *HELLO, *model, *ways]))
    assert first[:2] == (0, alone(*HELLO, *model, *plain))
    assert first[2].count("\n") == 1 and "20 tokens" in first[2]  # the statistics
    assert second == (0, "", "")  # rank 0 speaks for all


@pytest.mark.slow
@pytest.mark.parametrize("way", ["tensor", "pipeline"])
def test_two_ranks_draw_several_answers_as_one_process_does(way: str, files: dict[str, Path], tmp_path: Path) -> None:
    words = [*HELLO, "--model", str(files["folder"]), "-n", "3", "--temp", "1", "-q"]
    first, second = finish(start(2, tmp_path, [*MAIN, *words, "--parallel", way]))
    assert first == (0, alone(*words), "")
    assert second == (0, "", "") and first[1].startswith("[1]\n")


@pytest.mark.slow
def test_a_chat_by_lines_is_led_by_rank_0(files: dict[str, Path], tmp_path: Path) -> None:
    words = ["chat", "--plain", "--model", str(files["folder"]), "--max-tokens", "6", "--temp", "1", "--seed", "2"]
    lines = "hello\n/redo\nand now?\n/quit\n"
    ranks = start(2, tmp_path, [*MAIN, *words, "--parallel", "pipeline"])
    assert ranks[0].stdin is not None
    ranks[0].stdin.write(lines)
    ranks[0].stdin.flush()
    first, second = finish(ranks)
    assert first == (0, alone(*words, given=lines), "")
    assert second == (0, "", "")


@pytest.mark.slow(8)
def test_two_ranks_measure_what_one_process_measures(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every item once, of texts, choices and answers that are drawn, odd rows counted once; and what is known stays."""
    rows: dict[str, list[dict[str, Any]]] = {
        "choices": [{"context": f"Q{i} is", "choices": ["one", "another one"], "gold": i % 2} for i in range(21)],
        "texts": [{"text": f"The text of number {i}. " * (i % 4 + 1)} for i in range(9)] + [{"text": ""}] * 3,
        "drawn": [{"prompt": f"say {i}", "answer": "it"} for i in range(5)],
    }
    for name, listed in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    model = ["--model", str(files["folder"]), "--json", "--seed", "1", "--temp", "1", "--samples", "2", "--limit"]
    words = ["eval", *(str(tmp_path / f"{name}.jsonl") for name in rows), *model]

    def here(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["likely", *arguments])
        with pytest.raises(SystemExit):
            cli.main()
        return capfd.readouterr().out

    here(*words, "8")
    first, second = finish(start(2, tmp_path, [*MAIN, *words, "99"]))
    assert first[::2] == (0, "") and second == (0, "", "")
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "other"))
    for mine, ours in zip(here(*words, "99").splitlines(), first[1].splitlines(), strict=True):
        a, b = json.loads(mine), json.loads(ours)
        for name in ("value", "se", "low", "high"):
            assert b.pop(name) == pytest.approx(a.pop(name), rel=1e-4, abs=1e-5), name
        assert a == b


def begun(ranks: list[subprocess.Popen[str]]) -> None:
    """Wait until an answer is under way."""
    assert ranks[0].stdout is not None
    assert ranks[0].stdout.read(1), finish(ranks)


ENDLESS = ["run", "tell me", "--logit-bias", "287=-100", "--temp", "1", "--quiet"]  # 287 ends the text


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_a_rank_that_is_killed_ends_the_run_with_one_line(dead: int, files: dict[str, Path], tmp_path: Path) -> None:
    ranks = start(2, tmp_path, [*MAIN, *ENDLESS, "--model", str(files["folder"])])
    begun(ranks)
    ranks[dead].kill()
    codes = finish(ranks)
    code, _, said = codes[1 - dead]
    assert code == 1
    assert said == f"likely: rank {dead} is gone: its process or its machine has ended, and the run with it\n"


CUT = """
import subprocess, sys
from pathlib import Path
from tests.endtoend.test_together import ENDLESS, MAIN, begun
from tests.processes import finish, start
link = ["ip", "link", "set", "lo"]
subprocess.run([*link, "up"], check=True)
ranks = start(2, Path(sys.argv[2]), [*MAIN, *ENDLESS, "--model", sys.argv[1]])
begun(ranks)
subprocess.run([*link, "down"], check=True)
for code, _, said in finish(ranks):
    print(code, said, end="")
"""
APART = ["unshare", "--user", "--map-root-user", "--net"]  # a network of its own, which can be cut


def can_be_cut() -> bool:
    return bool(shutil.which("unshare") and shutil.which("ip")) and not subprocess.run([*APART, "true"]).returncode


@pytest.mark.slow
@pytest.mark.linux
@pytest.mark.skipif(not can_be_cut(), reason="no network namespaces here")
def test_a_cable_that_is_cut_ends_the_run(files: dict[str, Path], tmp_path: Path) -> None:
    """No socket is closed then, and nothing that was sent is confirmed."""
    command = [*APART, sys.executable, "-c", CUT, str(files["folder"]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    line = "1 likely: rank {} is gone: its process or its machine has ended, and the run with it"
    assert done.stdout.splitlines() == [line.format(1), line.format(0)], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["ctrl+c", "its terminal is closed"])
def test_a_terminal_stops_all_ranks_at_the_same_token(number: int, files: dict[str, Path], tmp_path: Path) -> None:
    ranks = start(2, tmp_path, [*MAIN, *ENDLESS[:-1], "--model", str(files["folder"])])
    begun(ranks)
    for rank in reversed(ranks):  # as a terminal does, in any order
        rank.send_signal(number)
    (code, _, said), (other, *nothing) = finish(ranks)
    assert code == 130 and said.count("\n") == 1 and "cancelled" in said
    assert other != 0 and nothing == ["", ""]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("run hi", "likely: llama has 2 key/value heads, which 3 ranks cannot share evenly: start 2 ranks, "
         "or use --parallel pipeline"),
        ("run hi --parallel pipeline", "likely: llama has 2 layers, too few for 3 ranks: start fewer"),
        ("run hi --ngram", "Error: --ngram is for one process: start it without mlx.launch"),
        ("run", "Error: no PROMPT is for one process: start it without mlx.launch"),
        ("explain hi", "Error: explain is one process's work: start it without mlx.launch"),
        ("run hi --temp -1", "likely: temp"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_together_is_one_line(
    words: str, line: str, files: dict[str, Path], tmp_path: Path
) -> None:
    model = ["--model", str(files["folder"])] if words.startswith("run") else []
    first, *others = finish(start(3, tmp_path, [*MAIN, *words.split(), *model]))
    last = first[2].splitlines()[-1]
    assert last == line or (line == "likely: temp" and last.startswith("likely: "))
    assert first[2].count("likely: ") <= 1
    assert first[:2] == (1 if "likely:" in line else 2, "")
    assert all(code != 0 and (out, err) == ("", "") for code, out, err in others)


@pytest.mark.slow
def test_a_fault_of_one_rank_is_told_by_rank_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here: a model of that name with other weights, as on a machine that fetched it at another time."""
    other = weights(LONG, seed=1)
    for rank, arrays in enumerate((weights(LONG), other)):
        write_folder(tmp_path / str(rank) / "tiny", LONG, {name: mx.array(array) for name, array in arrays.items()})
    code = "import os; os.chdir(os.environ['MLX_RANK']); from likely.app.cli import main; main()"
    monkeypatch.chdir(tmp_path)
    (first, out, said), second = finish(start(2, tmp_path, ["-c", code, "run", "hi", "--model", "./tiny"]))
    assert (first, out) == (1, "")
    assert said == "likely: rank 1: ./tiny has other weights here than on rank 0: fetch the same model on both\n"
    assert second[0] != 0 and second[1:] == ("", "")


def test_one_process_has_nothing_to_share() -> None:
    done = subprocess.run([sys.executable, *MAIN, "run", "hi", "--parallel", "tensor"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "Error: --parallel is for several ranks: start with mlx.launch -n 2 -- likely run ..."
    )


def launched(*words: str) -> "subprocess.Popen[str]":
    """Two processes by mlx's own launcher."""
    launcher, port = str(Path(sys.executable).parent / "mlx.launch"), min(free_ports(4))
    how = ["-n", "2", "--backend", "ring", "-p", str(port), "--", sys.executable, *MAIN]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([launcher, *how, *words], env=environment, text=True, **pipes)


@pytest.mark.slow
def test_under_mlx_launch(files: dict[str, Path]) -> None:
    words = [*HELLO, "--temp", "1", "--model", str(files["folder"])]
    out, err = launched(*words).communicate()
    assert out == alone(*words)
    assert "WARN" not in err  # what the launcher says of a rank that failed


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    found = [Path(f"/proc/{process}/task/{task}/children") for task in os.listdir(f"/proc/{process}/task")]
    return sorted(int(child) for file in found for child in file.read_text().split())


@pytest.mark.slow
@pytest.mark.linux  # the launcher's children are looked up in /proc
def test_a_rank_killed_under_mlx_launch_is_named_before_the_launcher_ends_the_others(files: dict[str, Path]) -> None:
    launcher = launched(*ENDLESS, "--model", str(files["folder"]))
    try:
        assert launcher.stdout is not None and launcher.stdout.read(1)
        dead = children(launcher.pid)[1]
        rank = int(re.search(rb"MLX_RANK=(\d)", Path(f"/proc/{dead}/environ").read_bytes())[1])  # type: ignore[index]
        os.kill(dead, signal.SIGKILL)
        _, said = launcher.communicate()
    finally:
        launcher.kill()
    assert f"likely: rank {rank} is gone: its process or its machine has ended" in said


@pytest.mark.slow
def test_tuning_under_mlx_launch(files: dict[str, Path], tmp_path: Path) -> None:
    """Two processes with half of each batch make the adapter that one makes, and one of them writes."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"text": "row {i} has {i * i} and {i % 7}"}}\n' for i in range(40)))
    words = ["tune", str(rows), "--model", str(files["folder"]), "--steps", "4", "--batch", "4", "--valid", "0.2"]
    alone(*words, "--out", str(tmp_path / "one"))
    _, err = launched(*words, "--out", str(tmp_path / "two")).communicate()
    assert "WARN" not in err and err.count("done after step 4") == 1, err
    one, two = (mx.load(str(tmp_path / name / "adapters.safetensors")) for name in ("one", "two"))
    assert isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys()
    assert max(float(mx.max(mx.abs(one[name] - two[name]))) for name in one) <= 1e-6
    assert max(float(mx.max(mx.abs(array))) for array in one.values()) > 1e-3


@pytest.mark.real
@pytest.mark.soak
@pytest.mark.parametrize("temp", ["0", "0.8"])
def test_three_ranks_speak_as_smollm2_does(temp: str, tmp_path: Path) -> None:
    """Nine heads and three key/value heads on three processes."""
    words = ["run", "Name three birds.", "--temp", temp, "--seed", "5", "--max-tokens", "10"]
    first, *others = finish(start(3, tmp_path, [*MAIN, *words]))
    assert first[:2] == (0, alone(*words)), first
    assert others == [(0, "", "")] * 2
