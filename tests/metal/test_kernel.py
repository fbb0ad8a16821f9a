"""A kernel's text, its numbers and its name."""

import re

import pytest

from likely.metal import kernel, mx

FILES = sorted(path.name for path in kernel.FOLDER.glob("*.metal"))


@pytest.mark.parametrize("file", FILES)
def test_a_text_is_its_file_with_neighbours_in_place_and_every_line_known(file: str) -> None:
    """What a compiler says of a line of the text names the file and the line that it stands in."""
    header, body = kernel.text(file)
    seen: dict[str, list[int]] = {}
    for part in (header, body):
        name, number = "", 0
        for line in part.splitlines():
            if match := re.match(r'#line (\d+) "metal/kernels/(.+)"$', line):
                name, number = match[2], int(match[1])
                continue
            assert line == (kernel.FOLDER / name).read_text().splitlines()[number - 1]
            seen.setdefault(name, []).append(number)
            number += 1
    for name, numbers in seen.items():
        assert len(numbers) == len(set(numbers)), f"{name} stands there twice"
        left = {*range(1, len((kernel.FOLDER / name).read_text().splitlines()) + 1)} - {*numbers}
        lines = (kernel.FOLDER / name).read_text().splitlines()
        assert all(lines[n - 1].startswith('#include "') or lines[n - 1] == "//: body" for n in left)
    assert "#include" not in body and '#include "' not in header and file in seen


@pytest.mark.usefixtures("unknown")
def test_a_variant_is_a_kernel_for_a_dtype_and_a_head_size() -> None:
    assert kernel.variant("decode", mx.bfloat16, 64) == "decode bfloat16 D=64"
    assert kernel.variant("scan", mx.float32) == "scan float32"
    assert kernel.enabled("decode", mx.float16, 64)
    kernel.switch_off("decode float16 D=64", "it was wrong")
    assert kernel.switched_off == {"decode float16 D=64": "it was wrong"}
    assert not kernel.enabled("decode", mx.float16, 64)
    assert kernel.enabled("decode", mx.float16, 128) and kernel.enabled("decode", mx.float16)
    kernel.switch_off("scan float32", "")
    assert not kernel.enabled("scan", mx.float32) and kernel.enabled("scan", mx.float16)
