"""The strict gate: what Metal's compiler would refuse though C++ accepts it.

The kernel is type-checked as C++ for OpenCL, whose address spaces are Metal's: a pointer keeps the space it came from,
and there are no doubles, virtual functions or static locals. It is checked twice: with a generic address space, and
without, where a pointer that names no space points to the lane's own memory. Rules that are checked here: a pointer or
reference parameter says its address space, no function calls itself, directly or through others, words of C++ that
Metal lacks stay away, threadgroup variables are declared in kernels only, and there are no lambdas, which Metal has
from version 3.2 on and macOS 14 has not. bfloat takes a float by an explicit cast only, and a variable has a value
before it is read.

It does not know Metal's overload sets beyond those of `msl/`, and lets a float constant that bfloat holds exactly pass.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from likely.metal.errors import KernelError
from likely.metal.simulator import compiler
from likely.metal.simulator.rewrite import rewrite, threadgroup_declarations
from likely.metal.simulator.signature import split
from likely.metal.simulator.tokens import MslToken, after, closing, join, tokenize

FORBIDDEN = frozenset(("goto", "dynamic_cast", "typeid", "thread_local", "register", "asm", "try", "catch", "double"))
SPACES = ("device", "constant", "threadgroup", "thread")


class StrictError(KernelError):
    """A kernel that the strict gate refuses; the message has a line for each reason, with file and line."""


def verify(source: str, call: str, label: str) -> None:
    """Check one kernel; `call` names its instance as C++ would.

    Raises StrictError with everything found.
    """
    good = compiler.remembered(source, call, label, Path(__file__).read_text())
    if good.exists():
        return
    problems = list(_unwelcome(source, label))
    instance = f"template decltype({call}) {call};\n" if "<" in call else ""
    text = f'#line 1 "{label}"\n{rewrite(source, strict=True)}\n#line 1 "entry"\n{instance}'
    code, diagnostics = compiler.typecheck(text, "+cl_khr_fp16,+__opencl_c_generic_address_space")
    problems += _errors(diagnostics) or _errors(compiler.typecheck(text, "+cl_khr_fp16")[1])
    problems += [
        line for line in diagnostics if re.search(r"warning: .*('bfloat.* to '[^']*half'| to '[^']*bfloat)", line)
    ]
    problems += _recursion(code)
    if problems:
        raise StrictError("\n".join(problems))
    good.touch()


# What clang notes when it is about to copy an object of a class between address spaces, or to make or use one without a
# name where there is no generic space. Metal's compiler does both.
LIMITS = re.compile(
    r"implicit (copy|move) (constructor|assignment operator)\) not viable"
    r"|cannot be used to construct an object in address space unqualified"
    r"|'this' object is in default address space"
    r"|object parameter of type '[^']*' with an expression of type '(?!.*__(global|constant|local))"
)


def _errors(diagnostics: list[str]) -> list[str]:
    """The errors, but for those that come of clang's own limits in this language."""
    groups: list[list[str]] = []
    for line in diagnostics:
        if ": error: " in line or "fatal error: " in line or ": warning: " in line:
            groups.append([line])
        elif groups:
            groups[-1].append(line)
    return [group[0] for group in groups if "error: " in group[0] and not any(LIMITS.search(line) for line in group)]


def _unwelcome(source: str, label: str) -> Iterator[str]:
    """A line for each thing that is no part of Metal, or not there."""
    tokens = tokenize(source)
    file, shift = label, 0
    kernels = [body for body, kernel in _bodies(tokens) if kernel]
    declared = set(threadgroup_declarations(tokens))
    for i, token in enumerate(tokens):
        if token.kind == "directive" and (match := re.match(r'#\s*line\s+(\d+)(?:\s+"([^"]*)")?', token.text)):
            file, shift = match[2] or file, int(match[1]) - token.line - 1
        if token.kind == "word" and token.text in FORBIDDEN:
            yield f"{file}:{token.line + shift}: {token.text!r} is no part of Metal"
        if i in declared and not any(i in body for body in kernels):
            yield f"{file}:{token.line + shift}: a threadgroup variable outside of a kernel"
        if token.kind == "mark" and token.text == "[" and _opens_lambda(tokens, i):
            yield f"{file}:{token.line + shift}: a lambda, which Metal has from 3.2 on"
        if token.text != "(" or not _is_function(tokens, i):
            continue
        for part in split(tokens[i + 1 : closing(tokens, i)]):
            code = [t for t in part if t.solid]
            words = {t.text for t in code}
            if words & {"*", "&"} and not words & {*SPACES, "("} and len(code) > 1:
                text = re.sub(r"\s+", " ", join(part)).strip()
                yield f"{file}:{token.line + shift}: parameter {text!r} names no address space"


def _bodies(tokens: list[MslToken]) -> Iterator[tuple[range, bool]]:
    """The tokens of each function's body, and whether it is a kernel."""
    for i, token in enumerate(tokens):
        if token.text != "(" or not _is_function(tokens, i):
            continue
        start = i
        while start > 0 and tokens[start - 1].text not in (";", "}", "{"):
            start -= 1
        body = closing(tokens, i)
        while tokens[body].text != "{":
            body += 1
        yield range(body, closing(tokens, body)), any(t.text == "kernel" for t in tokens[start:i])


def _opens_lambda(tokens: list[MslToken], at: int) -> bool:
    """Whether the bracket stands where an expression begins."""
    before = after(tokens, at, -1)
    if before is None or tokens[before].kind == "word":
        return before is not None and tokens[before].text == "return"
    return tokens[before].text not in ("]", ")", ">")


def _is_function(tokens: list[MslToken], opening: int) -> bool:
    """Whether the parenthesis opens the parameters of a function that is defined here (or of a lambda)."""
    name = after(tokens, opening, -1)
    if name is None or (tokens[name].kind != "word" and tokens[name].text != "]"):
        return False
    if tokens[name].text in ("if", "for", "while", "switch", "return", "decltype", "sizeof"):
        return False
    i = after(tokens, closing(tokens, opening))
    while i is not None and tokens[i].text in (*SPACES, "const", "noexcept"):
        i = after(tokens, i)
    return i is not None and tokens[i].text in ("{", "->")


def _recursion(code: str) -> list[str]:
    """A line for each function of the LLVM text that can reach itself."""
    calls: dict[str, set[str]] = {}
    places: dict[str, str] = {}
    here = ""
    for line in code.splitlines():
        if match := re.match(r'define .*?@"?([\w.$]+)"?\(.*?(?:!dbg (!\d+))?', line):
            here = match[1]
            calls[here] = set()
            scope = re.search(r"!dbg (!\d+)", line)
            places[here] = scope[1] if scope else ""
        elif match := re.search(r'\bcall .*?@"?([\w.$]+)"?\(', line):
            calls.get(here, set()).add(match[1])
    problems = []
    for function in calls:
        reached: set[str] = set()
        front = set(calls[function])
        while front:
            reached |= front
            front = {c for name in front for c in calls.get(name, ())} - reached
        if function in reached:
            problems.append(f"{_place(code, places[function])}: recursion: a function calls itself")
    return problems


def _place(code: str, scope: str) -> str:
    """`file:line` of a function's debug scope."""
    record = re.search(rf"^{scope} = .*?DISubprogram\(.*$", code, re.MULTILINE)
    if not scope or record is None:
        return "?"
    line = re.search(r"\bline: (\d+)", record[0])
    file = re.search(r"\bfile: (!\d+)", record[0])
    named = re.search(rf'^{file[1]} = !DIFile\(filename: "([^"]*)"', code, re.MULTILINE) if file else None
    return f"{named[1] if named else '?'}:{line[1] if line else '?'}"
