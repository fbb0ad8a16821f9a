"""Which source line an address of a compiled library came from: the line table of DWARF 5 in an ELF file.

Only what clang writes with `-gline-tables-only -gdwarf-5`. Source: DWARF 5 standard, section 6.2.
"""

import struct
from bisect import bisect_right
from functools import cache
from pathlib import Path


class _Reader:
    def __init__(self, data: bytes, at: int = 0):
        self.data, self.at = data, at

    def number(self, size: int) -> int:
        value = int.from_bytes(self.data[self.at : self.at + size], "little")
        self.at += size
        return value

    def leb(self, signed: bool = False) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        return value - (1 << shift) if signed and byte & 0x40 else value


def _sections(data: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit little-endian ELF file by name; none for another kind of file."""
    if data[:6] != b"\x7fELF\x02\x01":
        return {}
    (start,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, start + i * size) for i in range(count)]
    names = headers[names_at]
    found = {}
    for name, kind, _, _, offset, length in headers:
        text = _string(data, names[4] + name)
        found[text] = b"" if kind == 8 else data[offset : offset + length]
    return found


def _string(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


@cache
def _table(path: Path) -> tuple[list[int], list[tuple[str, int]]]:
    """Addresses in ascending order, and the (file, line) that holds from each on."""
    sections = _sections(path.read_bytes())
    rows: list[tuple[int, tuple[str, int]]] = []
    reader = _Reader(sections.get(".debug_line", b""))
    while reader.at < len(reader.data):
        length = reader.number(4)
        end = reader.at + length
        rows += _program(reader, end, sections)
        reader.at = end
    rows.sort(key=lambda row: row[0])
    return [address for address, _ in rows], [place for _, place in rows]


def _program(reader: _Reader, end: int, sections: dict[str, bytes]) -> list[tuple[int, tuple[str, int]]]:
    """The rows of one compilation unit."""
    version = reader.number(2)
    if version != 5:
        return []
    reader.at += 2  # sizes of addresses and segment selectors
    program = reader.number(4)
    program += reader.at
    shortest, _, is_stmt = reader.number(1), reader.number(1), reader.number(1)
    line_base = reader.number(1)
    line_base -= 256 if line_base > 127 else 0
    line_range, opcode_base = reader.number(1), reader.number(1)
    lengths = [reader.number(1) for _ in range(opcode_base - 1)]
    folders = _entries(reader, sections)
    files = [name for name, _ in _entries(reader, sections)]
    del is_stmt, folders
    reader.at = program

    rows: list[tuple[int, tuple[str, int]]] = []
    address, file, line = 0, 1, 1

    def row() -> None:
        rows.append((address, (files[file] if file < len(files) else "", line)))

    while reader.at < end:
        code = reader.number(1)
        if code >= opcode_base:
            address += (code - opcode_base) // line_range * shortest
            line += line_base + (code - opcode_base) % line_range
            row()
        elif code == 0:
            size = reader.leb()
            after = reader.at + size
            kind = reader.number(1)
            if kind == 1:
                rows.append((address, ("", 0)))
                address, file, line = 0, 1, 1
            elif kind == 2:
                address = reader.number(size - 1)
            reader.at = after
        elif code == 1:
            row()
        elif code == 2:
            address += reader.leb() * shortest
        elif code == 3:
            line += reader.leb(signed=True)
        elif code == 4:
            file = reader.leb()
        elif code == 8:
            address += (255 - opcode_base) // line_range * shortest
        elif code == 9:
            address += reader.number(2)
        else:
            for _ in range(lengths[code - 1]):
                reader.leb()
    return rows


def _entries(reader: _Reader, sections: dict[str, bytes]) -> list[tuple[str, int]]:
    """A table of folders or files: (name, folder) each."""
    formats = [(reader.leb(), reader.leb()) for _ in range(reader.number(1))]
    found = []
    for _ in range(reader.leb()):
        name, folder = "", 0
        for content, form in formats:
            if form == 0x08:  # string in place
                value: int | str = _string(reader.data, reader.at)
                reader.at += len(str(value)) + 1
            elif form in (0x1F, 0x0E):  # string in another section
                where = ".debug_line_str" if form == 0x1F else ".debug_str"
                value = _string(sections[where], reader.number(4))
            elif form in (0x0B, 0x05):
                value = reader.number(1 if form == 0x0B else 2)
            elif form == 0x1E:  # an MD5 sum
                value = reader.number(16)
            else:
                value = reader.leb()
            if content == 1:
                name = str(value)
            elif content == 2:
                folder = int(value)
        found.append((name, folder))
    return found


def place(path: Path, address: int) -> tuple[str, int]:
    """The (file, line) of an address relative to the library's start; ("", 0) where the table does not say."""
    addresses, places = _table(path)
    at = bisect_right(addresses, address) - 1
    while at >= 0 and places[at][1] == 0 and places[at][0]:  # code of no line of its own: that of what stands before
        at -= 1
    return places[at] if at >= 0 else ("", 0)
