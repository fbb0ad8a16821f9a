"""Tells the memory hooks of a checked kernel where in the source each access stands.

The compiler's hooks get an address only. Between its two halves, on the LLVM text, each call is turned into one of
check.cpp's own with a constant that names file and line, and the places that inlined functions were called from. So
nothing has to be read back from debug information, on any machine.
"""

import re
from collections.abc import Iterator

_HOOK = re.compile(r"@__asan_(load|store)(\d+|N)_noabort\((.*)\)(.*?), !dbg !(\d+)")
_BLOCK = re.compile(r"@__asan_(memcpy|memmove|memset)\((.*)\)(.*?), !dbg !(\d+)")
# What clang 22 makes of a component of a vector of bool, and then refuses to read back.
_BOOL = re.compile(r"(\s+%\S+ = (?:select |insertelement <\d+ x i1> \S+, ))i8 (\S+), ")
_LOCATION = re.compile(
    r"!(\d+) = (?:distinct )?!DILocation\(line: (\d+)(?:, column: \d+)?, scope: !(\d+)(?:, inlinedAt: !(\d+))?"
)
_SCOPE = re.compile(r"!(\d+) = (?:distinct )?!DI(?:Subprogram|LexicalBlock|LexicalBlockFile)\(.*?\bfile: !(\d+)")
_FILE = re.compile(r'!(\d+) = !DIFile\(filename: "([^"]*)"')
_DECLARED = """
declare void @msl_load(i64, i64, ptr)
declare void @msl_store(i64, i64, ptr)
declare ptr @msl_memcpy(ptr, ptr, i64, ptr)
declare ptr @msl_memmove(ptr, ptr, i64, ptr)
declare ptr @msl_memset(ptr, i32, i64, ptr)
"""


def placed(code: str) -> str:
    """The LLVM text with hooks that know their places; accesses of the program's own variables lose theirs."""
    places = _Places(code)
    lines: list[str] = []
    for line in code.splitlines():
        if match := _HOOK.search(line):
            kind, size, arguments, rest, at = match.groups()
            if "@" in arguments:
                continue  # a variable of the program, of which a kernel has none: the counters of the simulator
            size = "" if size == "N" else f", i64 {size}"
            line = f"{line[: match.start()]}@msl_{kind}({arguments}{size}, ptr {places.name(at)}){rest}, !dbg !{at}"
        elif match := _BLOCK.search(line):
            kind, arguments, rest, at = match.groups()
            line = f"{line[: match.start()]}@msl_{kind}({arguments}, ptr {places.name(at)}){rest}, !dbg !{at}"
        elif match := _BOOL.match(line):
            lines.append(f"  %msl_bit_{len(lines)} = trunc i8 {match[2]} to i1")
            line = f"{match[1]}i1 %msl_bit_{len(lines) - 1}, {line[match.end() :]}"
        lines.append(line)
    return "\n".join(lines) + "\n" + _DECLARED + "\n".join(places.constants) + "\n"


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
