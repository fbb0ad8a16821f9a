"""Bounds of strangers' templates at both sides, the frames of the process that runs them, and how it is ended."""

import io
import json
import pickle
import shutil
import subprocess
import sys
from typing import Any

import pytest

from engine.sandbox import child, environment, process
from engine.sandbox.child import LENGTH
from engine.sandbox.environment import Refusal, Sandbox, SecurityError


def run(source: str, **values: Any) -> str:
    sandbox = Sandbox()
    return sandbox.run(sandbox.from_string(source), values)


def test_steps_are_counted_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "MAX_STEPS", 10)
    for source, fits in (
        ("{% for i in range(8) %}{% endfor %}", True),  # a call, and eight of its numbers
        ("{% for i in range(9) %}{% endfor %}", True),
        ("{% for i in range(10) %}{% endfor %}", False),
        ("{% for i in range(2) %}{% for j in range(2) %}{% endfor %}{% endfor %}", True),  # 3 + 2 * 3
        ("{% for i in range(2) %}{% for j in range(3) %}{% endfor %}{% endfor %}", False),  # 3 + 2 * 4
        ("{{ 'a'.upper() }}" * 10, True),
        ("{{ 'a'.upper() }}" * 11, False),
        ("{% for i in range(2, 11) %}{% endfor %}", True),
    ):
        if fits:
            run(source)
        else:
            with pytest.raises(SecurityError, match="it took more than 10 steps"):
                run(source)
    sandbox = Sandbox()
    program = sandbox.from_string("{% for i in range(9) %}{{ i }}{% endfor %}")
    assert sandbox.run(program, {}) == sandbox.run(program, {}) == "012345678"  # each run has its own


def test_sizes_are_bounded_at_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "MAX_SIZE", 12)
    for source, line in (
        ("{{ text }}", None),
        ("{{ text }}x", "wrote more than 12 characters"),
        ("{{ 'ab' * 6 }}", None),
        ("{{ 'ab' * 7 }}", "repeated something into more than 12 items"),
        ("{{ 6 * 'ab' }}", None),
        ("{{ 7 * [1, 2] }}", "more than 12"),
        ("{{ 100 * 100 }}", None),
        ("{{ 12 ** 2 }}", None),
        ("{{ 13 ** 2 }}", "to a power"),
        ("{{ (-13) ** 2 }}", "to a power"),
        ("{{ 0 ** 64 }}", None),
        ("{{ 0 ** 65 }}", "to a power without measure"),
        ("{{ 'a'.ljust(12) }}", None),
        ("{{ 'a'.ljust(13) }}", "something of more than 12 items"),
        ("{{ dict(a=13) }}", "more than 12 items"),
        ("{{ dict(a=12) }}", None),
        ("{{ dict(a='b') }}", None),
    ):
        if line is None:
            run(source, text="x" * 12)
        else:
            with pytest.raises(SecurityError, match=line):
                run(source, text="x" * 12)


def test_templates_find_what_they_are_written_for() -> None:
    assert run("{{ x | tojson }}", x={"é": "<", "a": 1}) == '{"é": "<", "a": 1}'
    assert run("{{ x | tojson(ensure_ascii=true, sort_keys=true) }}", x={"é": 1, "a": 2}) == '{"a": 2, "\\u00e9": 1}'
    assert run("{{ x | tojson(separators=(',', ':')) }}", x={"a": [1, 2]}) == '{"a":[1,2]}'
    assert run("{% generation %}a{{ 1 }}{% endgeneration %}b") == "a1b" and run("  {% if 1 %}\n x{% endif %}\n") == " x"
    assert run("{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}") == "13"
    assert len(run("{{ strftime_now('%Y') }}")) == 4
    with pytest.raises(Refusal, match="no system"):
        run("{{ raise_exception('no system') }}")
    with pytest.raises(SecurityError):
        run("{{ ''.__class__.__mro__ }}")
    assert Sandbox().reads("{{ a }}{{ range(3) }}{% set b = c %}{{ b }}") == {"a", "c"}


# -- the process -----------------------------------------------------------------------------------------------------


def test_an_answer_says_how_a_template_failed() -> None:
    programs: dict[str, Any] = {}
    assert child._answer(programs, "{{ a }}!", {"a": 1}) == {"text": "1!"} and list(programs) == ["{{ a }}!"]
    before = programs["{{ a }}!"]
    assert child._answer(programs, "{{ a }}!", {"a": 2}) == {"text": "2!"} and programs["{{ a }}!"] is before
    assert child._answer(programs, "{{ b }}{{ a }}", None) == {"reads": ["a", "b"]}
    for source, failed, kind in (
        ("{{ x", "unreadable", "TemplateSyntaxError"),
        ("{{ raise_exception('no') }}", "refuses", "Refusal"),
        ("{{ ''.__class__.__mro__ }}", "stopped", "SecurityError"),
    ):
        found = child._answer(programs, source, {})
        assert (found["failed"], found["kind"]) == (failed, kind) and "\n" not in found["line"]
    with pytest.raises(ZeroDivisionError):
        child._answer(programs, "{{ 1 / 0 }}", {})
    assert child._failed("x", ValueError("a\n  b" + "c" * 2000)) == {
        "failed": "x",
        "line": "a b" + "c" * 995,
        "kind": "ValueError",
    }


def framed(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data


def test_the_child_answers_frame_by_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its input ends; what a program raises is an answer, and memory that ran out forgets all programs."""
    asked = [
        {"source": "{{ 1 + 1 }}", "values": {}},
        {"source": "{{ 1 / 0 }}", "values": {}},
        {"source": "big", "values": {}},
        {"source": "{{ 1 + 1 }}", "values": None},
    ]
    monkeypatch.setattr(child, "_bound", lambda: None)
    known: list[int] = []
    real = child._answer

    def answer(programs: dict[str, Any], source: str, values: Any) -> dict[str, Any]:
        known.append(len(programs))
        if source == "big":
            raise MemoryError
        return real(programs, source, values)

    class Kept(io.BytesIO):
        """What was written, also once it is closed."""

        def close(self) -> None:
            pass

    out = Kept()
    monkeypatch.setattr(child, "_answer", answer)
    monkeypatch.setattr(child.os, "dup", lambda number: number)
    monkeypatch.setattr(child.os, "fdopen", lambda *_: out)
    monkeypatch.setattr(
        sys, "stdin", type("In", (), {"buffer": io.BytesIO(b"".join(framed(pickle.dumps(each)) for each in asked))})
    )
    child.main()
    told, data = [], out.getvalue()
    while data:
        size = LENGTH.unpack(data[: LENGTH.size])[0]
        told.append(json.loads(data[LENGTH.size : LENGTH.size + size]))
        data = data[LENGTH.size + size :]
    assert told[:2] == [{"ready": True}, {"text": "2"}] and told[4] == {"reads": []} and len(told) == 5
    assert told[2] == {"failed": "fails", "line": "division by zero", "kind": "ZeroDivisionError"}
    assert told[3] == {"failed": "stopped", "line": "it took more than 1 GB of memory", "kind": "MemoryError"}
    assert known == [0, 1, 2, 0]


class Answers:
    """A child that has written some bytes and may go on or be over."""

    pid = 0

    def __init__(self, data: bytes, ends: bool = False) -> None:
        import os

        read, write = os.pipe()
        os.write(write, data)
        self.stdout, self.write = os.fdopen(read, "rb", buffering=0), write
        if ends:
            os.close(write)


def test_an_answer_is_read_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process._read(Answers(framed(b'{"text": "x"}') + b"more"), 5.0) == {"text": "x"}  # type: ignore[arg-type]
    monkeypatch.setattr(process, "LONGEST", 13)
    assert process._read(Answers(framed(b'{"text": "x"}')), 5.0) == {"text": "x"}  # type: ignore[arg-type]
    for data, ends, seconds, line in (
        (framed(b'{"text": "xy"}'), False, 5.0, "it wrote more than 13 bytes"),
        (framed(b"12345")[:-1], True, 5.0, "its process ended, for want"),
        (b"", True, 5.0, "its process ended"),
        (framed(b"12345")[:-1], False, 0.01, "more than 3 seconds"),
        (b"", False, 0.0, "more than 3 seconds"),
    ):
        with pytest.raises(process.Stopped, match=line):
            process._read(Answers(data, ends), seconds)  # type: ignore[arg-type]


def test_a_child_is_kept_warm_and_another_begins_where_it_ended() -> None:
    process.end()
    try:
        assert process.ask("{{ a }}", {"a": 5}) == {"text": "5"}
        (first,) = process._children
        assert process.ask("{{ a }}", None) == {"reads": ["a"]} and process._children == [first]
        first.kill()
        first.wait()
        assert process.ask("{{ a }}", {"a": 6}) == {"text": "6"}
        (second,) = process._children
        assert second is not first
        process.end()
        assert (
            process._children == [] and second.poll() is not None and second.stdin is not None and second.stdin.closed
        )
    finally:
        process.end()


def test_a_child_that_does_not_begin_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    process.end()
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    with pytest.raises(process.Stopped, match="its process did not begin: its process ended"):
        process.ask("x", {})
    assert process._children == []
    monkeypatch.undo()
    gone = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert gone.stdin is not None
    gone.stdin.close()
    reading = type(
        "Closed",
        (),
        {"poll": lambda self: None, "stdin": Broken(), "stdout": None, "kill": gone.kill, "wait": gone.wait},
    )()
    process._children.append(reading)
    with pytest.raises(process.Stopped, match=r"^its process ended$"):
        process.ask("x", {})
    assert process._children == [] and gone.poll() is not None


class Broken:
    """A pipe whose other end is closed."""

    def write(self, data: bytes) -> None:
        raise BrokenPipeError

    def close(self) -> None:
        pass
