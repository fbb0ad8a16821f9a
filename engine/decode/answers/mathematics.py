"""`same`: whether an answer is the same mathematics as another, by math-verify where that is installed (an extra).

It parses LaTeX and compares with sympy, which can take for ever: it runs in a process of its own, kept warm, that is
ended where it takes too long. That process is this file.
"""

import json
import re
import select
import subprocess
import sys
import threading
from importlib.util import find_spec

from likely.engine.base.concurrency.warm_child import WarmChild
from likely.engine.decode.answers.program import VerifierError

START_S = 60.0  # for sympy to be imported, on a busy machine
MARKED = re.compile(r"\$|\\boxed|\\\(|\\\[")  # where LaTeX begins among words
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")

_lock = threading.Lock()
_child = WarmChild(__name__)
end = _child.end  # the next answer begins another


def is_there() -> bool:
    return find_spec("math_verify") is not None


def is_bare(text: str) -> bool:
    """Whether a text is an expression and nothing else: without words and marks, as in 3\\sqrt{2}."""
    return MARKED.search(text) is None and WORD.search(text) is None


def same(said: str, answer: str, seconds: float) -> bool:
    """Whether the last expression of what was said equals the answer. VerifierError where there is no verdict."""
    with _lock:
        child = _warm()
        try:
            assert child.stdin is not None
            child.stdin.write((json.dumps({"said": said, "answer": answer}) + "\n").encode())
            child.stdin.flush()
            return _line(child, seconds) == b"1"
        except OSError:
            end()
            raise VerifierError("math-verify ended without a verdict") from None
        except KeyboardInterrupt:
            end()  # its verdict would be read as the next answer's
            raise


def _warm() -> "subprocess.Popen[bytes]":
    child, begun = _child.process()
    if begun:
        _line(child, START_S)
    return child


def _line(child: "subprocess.Popen[bytes]", seconds: float) -> bytes:
    """A line of it, as long as one number; it is ended where there is none in time."""
    out = child.stdout
    assert out is not None
    if not select.select([out], [], [], seconds)[0]:
        end()
        raise VerifierError(f"math-verify gave no verdict within {seconds:g} s: it was stopped")
    if not (line := out.readline()):
        end()
        raise VerifierError("math-verify ended without a verdict")
    return line.strip()


def main() -> None:
    """Answer a line with a line: 1 for the same, else 0."""
    from math_verify import parse, verify

    def parsed(text: str) -> list[object]:
        """Of a bare expression all counts, of others what is found. The package's own limits of time are signals."""
        expressions: list[object] = parse(f"${text}$", parsing_timeout=None) if is_bare(text) else []
        return expressions or parse(text, parsing_timeout=None)

    out = sys.stdout
    sys.stdout = sys.stderr  # of whatever prints
    out.write("ready\n")
    out.flush()
    for line in sys.stdin:
        request = json.loads(line)
        gold = parsed(request["answer"])
        right = bool(gold) and verify(gold, parsed(request["said"]), timeout_seconds=None)
        out.write(f"{int(right)}\n")
        out.flush()


if __name__ == "__main__":
    main()
