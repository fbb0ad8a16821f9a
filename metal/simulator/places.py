"""Tells the memory hooks of a checked kernel where in the source each access stands.

The compiler's hooks get an address only. Between its two halves, on the LLVM text, each call is turned into one of
check.cpp's own with the alignment that the access relies on and a constant that names file and line, and the places
that inlined functions were called from. So nothing has to be read back from debug information, on any machine.

Variables without a value are those that the compiler was told to fill with a pattern: what fills them marks them. One
whose every index is known at compile time lives in registers and only holds the pattern, NaN for floats.
"""

import re
from collections.abc import Iterator

_HOOK = re.compile(r"@__asan_(load|store)(\d+|N)_noabort\((.*)\)(.*?), !dbg !(\d+)")
_BLOCK = re.compile(r"@__asan_(memcpy|memmove|memset)\((.*)\)(.*?), !dbg !(\d+)")
_FILLED = re.compile(r"ptr (%[\w.$-]+), i32 (\d+), ")
_LOCAL = re.compile(r"^\s+(%[\w.$-]+) = alloca (.*?)(?:, align \d+)?(?:, !dbg .*)?$", re.MULTILINE)
_RELIED_ON = re.compile(r"^\s+(?:%\S+ = )?(?:load|store) .*?, align (\d+)")
# What clang 22 makes of a component of a vector of bool, and then refuses to read back.
_BOOL = re.compile(r"(\s+%\S+ = (?:select |insertelement <\d+ x i1> (?:<[^>]*>|\S+), ))i8 (\S+), ")
_BOOLS = re.compile(r"\s+%\S+ = phi <\d+ x i1> ")
_LOCATION = re.compile(
    r"!(\d+) = (?:distinct )?!DILocation\(line: (\d+)(?:, column: \d+)?, scope: !(\d+)(?:, inlinedAt: !(\d+))?"
)
_SCOPE = re.compile(r"!(\d+) = (?:distinct )?!DI(?:Subprogram|LexicalBlock|LexicalBlockFile)\(.*?\bfile: !(\d+)")
_FILE = re.compile(r'!(\d+) = !DIFile\(filename: "([^"]*)"')
_DECLARED = """
declare void @msl_load(i64, i64, i64, ptr)
declare void @msl_load_part(i64, i64, i64, ptr)
declare void @msl_store(i64, i64, i64, ptr)
declare void @msl_fill(i64, i64, i64, ptr)
declare ptr @msl_vacate(ptr, i32, i64, ptr)
declare ptr @msl_memcpy(ptr, ptr, i64, ptr)
declare ptr @msl_memmove(ptr, ptr, i64, ptr)
declare ptr @msl_memset(ptr, i32, i64, ptr)
"""


def placed(code: str) -> str:
    """The LLVM text with hooks that know their places; accesses of the program's own variables lose theirs."""
    places = _Places(code)
    lines: list[str] = []
    source = code.splitlines()
    locals_: dict[str, str] = {}
    for number, line in enumerate(source):
        if line.startswith("define"):
            locals_ = {}
        elif match := _LOCAL.match(line):
            locals_[match[1]] = match[2]
        if match := _HOOK.search(line):
            kind, size, arguments, rest, at = match.groups()
            if "@" in arguments:
                continue  # a variable of the program, of which a kernel has none: the counters of the simulator
            size = "" if size == "N" else f", i64 {size}"
            kind, align = _access(kind, source[number + 1 : number + 3])
            more = f"{size}, i64 {align}, ptr {places.name(at)}"
            line = f"{line[: match.start()]}@msl_{kind}({arguments}{more}){rest}, !dbg !{at}"
        elif match := _BLOCK.search(line):
            kind, arguments, rest, at = match.groups()
            if kind == "memset" and _is_pattern(arguments, locals_):
                kind = "vacate"
            line = f"{line[: match.start()]}@msl_{kind}({arguments}, ptr {places.name(at)}){rest}, !dbg !{at}"
        elif match := _BOOL.match(line):
            lines.append(f"  %msl_bit_{len(lines)} = trunc i8 {match[2]} to i1")
            line = f"{match[1]}i1 %msl_bit_{len(lines) - 1}, {line[match.end() :]}"
        elif _BOOLS.match(line):
            line = line.replace("i8 0", "i1 false").replace("i8 1", "i1 true")
        lines.append(line)
    return "\n".join(lines) + "\n" + _DECLARED + "\n".join(places.constants) + "\n"


def _access(kind: str, following: list[str]) -> tuple[str, str]:
    """The hook for an access, and the alignment it relies on, by the lines after the compiler's hook."""
    match = _RELIED_ON.match(following[0]) if following else None
    if match is None:
        return kind, "1"
    if kind == "store":
        return "fill" if "!annotation" in following[0] else kind, match[1]
    name = following[0].split(" = ")[0].strip()
    part = len(following) > 1 and re.search(rf"= insertelement <[^>]*> {re.escape(name)},", following[1])
    return "load_part" if part else kind, match[1]  # one component is put into a vector that may have no value yet


def _is_pattern(arguments: str, locals_: dict[str, str]) -> bool:
    """Whether a memset is the pattern of a variable without a value: all ones for floats, else 0xAA."""
    match = _FILLED.match(arguments)
    if match is None or match[1] not in locals_:
        return False
    floats = re.search(r"float|half|double", locals_[match[1]])
    return match[2] == ("255" if floats else "170")


class _Places:
    """The constants that name places: `msl_site` of runtime.h, with the callers where that has the function."""

    def __init__(self, code: str):
        self._locations = {m[1]: (int(m[2]), m[3], m[4]) for m in _LOCATION.finditer(code)}
        self._scopes = {m[1]: m[2] for m in _SCOPE.finditer(code)}
        self._files = {m[1]: m[2] for m in _FILE.finditer(code)}
        self._texts: dict[str, str] = {}
        self._known: set[str] = set()
        self.constants: list[str] = []

    def name(self, location: str) -> str:
        """The constant of a debug location."""
        name = f"@msl_place_{location}"
        if name not in self._known:
            self._known.add(name)
            (file, line), *callers = self._chain(location)
            above = " < ".join(f"{where}:{number}" for where, number in callers)
            texts = f"ptr {self._text(file)}, ptr {self._text(above)}"
            kind = "{ ptr, ptr, i32, i32 }"
            self.constants.append(f"{name} = private unnamed_addr constant {kind} {{ {texts}, i32 {line}, i32 0 }}")
        return name

    def _chain(self, location: str | None) -> Iterator[tuple[str, int]]:
        """(file, line) of the place, then of each call that was inlined around it, outwards."""
        while location is not None and location in self._locations:
            line, scope, outer = self._locations[location]
            yield self._files.get(self._scopes.get(scope, ""), "?"), line
            location = outer

    def _text(self, text: str) -> str:
        if text not in self._texts:
            name = self._texts[text] = f"@msl_text_{len(self._texts)}"
            size = len(re.sub(r"\\[0-9A-Fa-f]{2}", "x", text)) + 1
            self.constants.append(f'{name} = private unnamed_addr constant [{size} x i8] c"{text}\\00"')
        return self._texts[text]
