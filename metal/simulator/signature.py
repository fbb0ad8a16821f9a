"""The parameters of a kernel in a Metal source text, and the C++ entry that calls it with them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from likely.metal.errors import KernelError
from likely.metal.simulator.tokens import MslToken, after, closing, closing_angle, join, tokenize

POSITIONS = frozenset(
    (
        "thread_position_in_threadgroup",
        "threadgroup_position_in_grid",
        "threads_per_threadgroup",
        "threads_per_grid",
        "dispatch_threads_per_threadgroup",
        "threadgroups_per_grid",
        "thread_index_in_threadgroup",
        "thread_index_in_simdgroup",
        "simdgroup_index_in_threadgroup",
        "simdgroups_per_threadgroup",
        "dispatch_simdgroups_per_threadgroup",
        "threads_per_simdgroup",
        "thread_execution_width",
        "thread_index_in_quadgroup",
        "quadgroup_index_in_threadgroup",
        "quadgroup_index_in_simdgroup",
        "thread_position_in_grid",
    )
)


@dataclass(frozen=True)
class KernelParameter:
    """One parameter of a kernel: a buffer (`index` says which; by reference or by pointer) or a lane's position."""

    name: str
    index: int | None
    pointer: bool
    position: str = ""


def parameters(source: str, name: str) -> list[KernelParameter]:
    """The parameters of the kernel `name`, in order.

    Raises KernelError where the text does not define it, or where a parameter is of a kind the simulator does not know.
    """
    tokens = tokenize(source)
    for i, token in enumerate(tokens):
        opening = after(tokens, i)
        if token.text != name or opening is None or tokens[opening].text != "(":
            continue
        end = closing(tokens, opening)
        body = after(tokens, end)
        if body is not None and tokens[body].text == "{":
            return _parse(tokens[opening + 1 : end], name)
    raise KernelError(f"kernel {name!r}: expected its definition in the source, found none")


def _parse(tokens: list[MslToken], kernel: str) -> list[KernelParameter]:
    named: list[KernelParameter] = []
    for part in split(tokens):
        attribute = ""
        declared: list[MslToken] = []
        at = 0
        while at < len(part):
            if part[at].text == "[[":
                end = closing(part, at)
                attribute += join(part[at : end + 1])
                at = end
            elif part[at].solid:
                declared.append(part[at])
            at += 1
        if not declared:
            continue
        name = declared[-1].text
        marks = {token.text for token in declared if token.kind == "mark"}
        position = next((word for word in re.findall(r"\w+", attribute) if word in POSITIONS), "")
        if position:
            named.append(KernelParameter(name, None, False, position))
        elif "*" in marks or "&" in marks:
            if "threadgroup" in {token.text for token in declared}:
                raise KernelError(f"kernel {kernel!r}: parameter {name!r}: expected a buffer, got threadgroup memory")
            index = re.search(r"buffer\s*\(\s*(\d+)\s*\)", attribute)
            number = int(index[1]) if index else 1 + max((p.index for p in named if p.index is not None), default=-1)
            named.append(KernelParameter(name, number, "*" in marks))
        else:
            raise KernelError(f"kernel {kernel!r}: parameter {name!r}: unknown attribute {attribute or 'none'}")
    return named


def split(tokens: list[MslToken]) -> list[list[MslToken]]:
    """The tokens between commas that stand in no bracket."""
    parts: list[list[MslToken]] = [[]]
    i = 0
    while i < len(tokens):
        end: int | None = None
        if tokens[i].text in ("(", "[", "{", "[["):
            end = closing(tokens, i)
        elif tokens[i].text == "<":
            end = closing_angle(tokens, i)
        if tokens[i].text == "," and tokens[i].kind == "mark":
            parts.append([])
        else:
            parts[-1].extend(tokens[i : (end or i) + 1])
        i = (end or i) + 1
    return parts


def entry(call: str, formals: Sequence[KernelParameter]) -> str:
    """C++ that calls the kernel (`name` or `name<arguments>`) for the current lane."""
    arguments = (
        f"msl_{p.position}()" if p.index is None else f"msl_{'pointer' if p.pointer else 'reference'}{{b[{p.index}]}}"
        for p in formals
    )
    return (
        '\n#line 1 "entry"\nextern "C" __attribute__((visibility("hidden"), no_sanitize("kernel-address")))'
        f" void msl_kernel() {{\n  void* const* b = msl.buffers; (void)b;\n  {call}({', '.join(arguments)});\n}}\n"
    )
