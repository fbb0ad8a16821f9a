"""Fuzzer: files of every kind that the program reads, damaged by chance or by malice, each from a seed.

A kind makes one sound file or folder, and says how it is opened and used. A case is that, damaged in one to three
places: bytes of any part, or values of its JSON, or what strangers would write there (escape sequences, numbers without
measure, lists without bottom). The rule: it is used, or refused by the program's own error, within bounds of time and
memory, and what is printed of it is visible.
"""

import io
import json
import re
import resource
import shutil
import signal
import struct
import sys
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from likely.app.words.heat import CONTROL, LONGEST, sanitize_line
from likely.engine.base.errors import LikelyError

SECONDS = 5  # of processor time
MEMORY = 1 << 30  # bytes that a case may take beyond what the process had
CLIPBOARD = "\x1b]52;c;AAAA\x07"
WORDS = (
    "", "x", CLIPBOARD, "\x9b2J", "\u202ereversed", "\ud800", "a" * 5000, "0", "-1", "nan", "../../x", "lora", "é\n\r",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 3, 64, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 4_000_000_000, (1 << 63) - 1, -(1 << 63), 10**19,
    0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"), True, False,
)  # fmt: skip
RAW = ("[" * 100_000, "9" * 5000, '{"a":' * 5000, "1e999", '"\\ud800"', "\x00", "{}", "[]", "null", "")  # for a value
WRITTEN = (".toml", ".csv", ".txt")  # by a person, or as a person would
Random = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """One kind of file. `make` writes a sound one at or in a folder, `use` does what the program does with it."""

    name: str
    make: Callable[[Path], None]
    use: Callable[[Path], object]
    damage: Callable[[Random, Path], None]


@dataclass
class Report:
    """Cases by their outcome, and those that broke the rule."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def line(self, kind: str) -> str:
        n = sum(self.outcomes.values())
        return f"| {kind} | {n:,} | {self.outcomes['used']:,} | {self.outcomes['refused']:,} | {len(self.faults)} |"


def fuzz(kind: Kind, folder: Path, seeds: range) -> Report:
    """Run the cases of these seeds."""
    sound, report = folder / "sound", Report()
    sound.mkdir(parents=True)
    kind.make(sound)
    with bounded(), redirect_stdout(io.StringIO()):
        kind.use(sound)  # it is sound
    for seed in seeds:
        case = folder / "case"
        shutil.copytree(sound, case)
        kind.damage(np.random.default_rng([seed, len(kind.name), ord(kind.name[0])]), case)
        try:
            outcome = judged(kind, case)
        except AssertionError as fault:
            report.faults.append(f"{kind.name} {seed}: {fault}")
            outcome = "fault"
        report.outcomes[outcome] += 1
        shutil.rmtree(case)
    shutil.rmtree(sound)
    return report


def judged(kind: Kind, case: Path) -> str:
    """How a case came out; AssertionError where it broke the rule."""
    said, printed = "used", io.StringIO()
    try:
        with bounded(), redirect_stdout(printed), redirect_stderr(printed):
            kind.use(case)
    except LikelyError as error:
        line = str(error)
        said = "refused"
        shown = sanitize_line(line)
        assert line.strip() and len(shown) <= LONGEST, f"an error of {len(shown)} characters: {line[:80]!r}"
        assert not CONTROL.search(shown) and "\n" not in shown, f"an error that moves a terminal: {shown!r}"
    except BaseException as error:
        where = "".join(traceback.format_exception(error)[-4:])
        raise AssertionError(f"{type(error).__name__}: {str(error)[:200]}\n{where}") from None
    moves = CONTROL.search(printed.getvalue())
    assert moves is None, f"a terminal was sent {moves!r}"
    return said


@contextmanager
def bounded() -> Iterator[None]:
    """End what takes more than SECONDS of processor time or MEMORY by an exception."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, late)
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# -- damage ----------------------------------------------------------------------------------------------------------


def in_bytes(random: Random, data: bytes, first: int = 0) -> bytes:
    """Bytes changed in one to three places, half of them among the `first`, where a header is."""
    out = bytearray(data)
    for _ in range(random.integers(1, 4)):
        end = first if first and random.random() < 0.5 else len(out)
        at = int(random.integers(0, max(1, min(end, len(out)))))
        match int(random.choice(8, p=(0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.15, 0.05))):
            case 0:
                out[at : at + 1] = random.bytes(1)
            case 1:
                for place in random.integers(0, max(1, min(end, len(out))), 20):
                    out[place : place + 1] = random.bytes(1)
            case 2:
                out = out[:at]
            case 3:
                del out[at : at + int(random.integers(1, 64))]
            case 4:
                out[at:at] = random.bytes(int(random.integers(1, 64)))
            case 5:
                out[at : at + 8] = struct.pack("<Q", int(random.choice([0, 1, 1 << 31, 1 << 40, (1 << 63) - 1])))
            case 6:
                out[at : at + 4] = struct.pack("<I", int(random.choice([0, 1, 9, 1 << 16, (1 << 32) - 1])))
            case 7:
                out[at : at + 16] = CLIPBOARD.encode()[:16].ljust(16, b"\x9b")
    return bytes(out)


def in_json(random: Random, value: Any) -> str:
    """JSON with values of any kind in one to three places, and now and then what is none."""
    for _ in range(random.integers(1, 4)):
        value = _changed(random, value)
    text = json.dumps(value)
    marks = [i for i in range(1, 40) if f'"@{i}@"' in text]
    for mark in marks:
        text = text.replace(f'"@{mark}@"', RAW[int(random.integers(len(RAW)))])
    return text


def _changed(random: Random, value: Any) -> Any:
    """The value with one node of it changed, whichever."""
    if isinstance(value, dict | list) and len(value) and random.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[int(random.integers(len(keys)))]
        out: Any = dict(value) if isinstance(value, dict) else list(value)
        if random.random() < 0.1:
            del out[key]
        elif random.random() < 0.1 and isinstance(out, dict):
            out[WORDS[int(random.integers(len(WORDS)))]] = out.pop(key)
        else:
            out[key] = _changed(random, value[key])
        return out
    if isinstance(value, int | float) and not isinstance(value, bool) and random.random() < 0.5:
        return NUMBERS[int(random.integers(len(NUMBERS)))]
    if isinstance(value, str) and random.random() < 0.4:
        return WORDS[int(random.integers(len(WORDS)))]
    match int(random.integers(0, 7)):
        case 0:
            return None
        case 1:
            return NUMBERS[int(random.integers(len(NUMBERS)))]
        case 2:
            return WORDS[int(random.integers(len(WORDS)))]
        case 3:
            return [value]
        case 4:
            return {"a": value}
        case 5:
            return [] if random.random() < 0.5 else {}
        case _:
            return f"@{int(random.integers(1, 40))}@"


TOKENS = re.compile(r'"[^"\n]*"|[\w.+-]+|[^\w\s]')
SPELLED = (  # in the place of a word of TOML, CSV or a text
    "1e400", "inf", "nan", "-inf", "true", "1979-05-27", "0x7fffffffffffffff", "9" * 400, "9" * 5000, "[" * 3000,
    "x." * 3000 + "x = 1", "{a = {b = 1}}", "[[1], [2]]", '"""', "'", '"', "\n[table]\n", "\n[[table]]\n", "=", ",", "",
    "\x1b[2J", '"\\u001b]52;c;AAAA\\u0007"', "\x00", "\u202e", "-", "1e-320", "0", "-0.0", "4_000", "..", "/dev/zero",
)  # fmt: skip


def in_text(random: Random, text: str) -> str:
    """A text that a person wrote with one to three of its words changed, doubled, moved or gone."""
    for _ in range(random.integers(1, 4)):
        found = list(TOKENS.finditer(text))
        if not found:
            return text
        one, other = (found[int(at)] for at in random.integers(0, len(found), 2))
        match int(random.choice(6, p=(0.35, 0.25, 0.1, 0.1, 0.1, 0.1))):
            case 0:
                word = SPELLED[int(random.integers(len(SPELLED)))]
            case 1:
                word = str(NUMBERS[int(random.integers(len(NUMBERS)))]).lower()
            case 2:
                word = json.dumps(WORDS[int(random.integers(len(WORDS)))])
            case 3:
                word = ""
            case 4:
                word = other.group()
            case _:
                word = f"{one.group()} {one.group()}"
        text = text[: one.start()] + word + text[one.end() :]
    return text


def in_toml(random: Random, text: str) -> str:
    """TOML with values of any kind in one to three places."""
    value = tomllib.loads(text)
    for _ in range(random.integers(1, 4)):
        value = _changed(random, value)
    if not isinstance(value, dict):
        return in_text(random, text)
    return "".join(f"{json.dumps(key)} = {_toml(random, each)}\n" for key, each in value.items())


def _toml(random: Random, value: Any) -> str:
    """A value of JSON as TOML spells it; a mark is what a stranger would write there."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(random, each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(random, each) for each in value) + "]"
    if isinstance(value, float):
        return repr(value)
    if value is None or (isinstance(value, str) and value.startswith("@") and value.endswith("@")):
        return SPELLED[int(random.integers(len(SPELLED)))]
    return json.dumps(value)


def files(random: Random, case: Path) -> Path:
    """One of the files of a case."""
    found = sorted(path for path in case.rglob("*") if path.is_file())
    return found[int(random.integers(len(found)))]


def damage(random: Random, case: Path) -> None:
    """Whichever file: the values of a JSON file or of a line of one, the header of safetensors, or any bytes."""
    path = files(random, case)
    data = path.read_bytes()
    if random.random() < 0.03:
        path.unlink()
        if random.random() < 0.5:
            path.mkdir()
        return
    if path.suffix in (".json", ".jsonl", ".safetensors") and random.random() < 0.75:
        if path.suffix == ".json":
            text = in_json(random, json.loads(data))
        elif path.suffix == ".jsonl":
            lines = data.decode().splitlines()
            at = int(random.integers(len(lines)))
            lines[at] = in_json(random, json.loads(lines[at]))
            if random.random() < 0.1:
                lines[at], lines[0] = lines[0], lines[at]
            text = "\n".join(lines) + "\n"
        else:
            path.write_bytes(_header(random, data))
            return
        path.write_bytes(text.encode(errors="surrogatepass"))
        return
    if path.suffix in WRITTEN and random.random() < 0.85:
        change = in_toml if path.suffix == ".toml" and random.random() < 0.7 else in_text
        path.write_bytes(change(random, data.decode()).encode(errors="surrogatepass"))
        return
    path.write_bytes(in_bytes(random, data, 4096 if path.suffix == ".gguf" else 0))


def _header(random: Random, data: bytes) -> bytes:
    """A safetensors file whose header's values, or the JSON in its metadata, or whose numbers are others."""
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    metadata = header.get("__metadata__") or {}
    nested = next((key for key in metadata if metadata[key].startswith("{")), None)
    if nested is not None and random.random() < 0.6:
        metadata[nested] = in_json(random, json.loads(metadata[nested]))
        text = json.dumps(header)
    elif len(rest) >= 4 and random.random() < 0.3:  # numbers that are none, in place
        at = int(random.integers(len(rest) // 4)) * 4
        value = random.choice(np.array([np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-40], np.float32))
        return data[: 8 + length] + rest[:at] + value.tobytes() + rest[at + 4 :]
    else:
        text = in_json(random, header)
    written = text.encode(errors="surrogatepass")
    return struct.pack("<Q", len(written)) + written + rest
