"""Normalizers that multiply a text: the bound holds for every kind, and a file or a text beyond it is one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers import normalizers as library

from likely.engine.base.errors import CheckpointError
from likely.engine.text.tokenizer import from_folder
from likely.engine.text.tokenizer.normalizers import UTMOST, growth
from tests.engine.vocabularies import folder

KINDS = (
    library.NFC(), library.NFD(), library.NFKC(), library.NFKD(), library.Lowercase(), library.Strip(),
    library.StripAccents(), library.Nmt(), library.BertNormalizer(), library.ByteLevel(), library.Prepend("▁"),
    library.Replace(" ", "▁▁"), library.Replace("ab", "abcde"), library.Replace(Regex(" {2,}"), "▁"),
    library.Replace(Regex("x*"), "yz"),
    library.Sequence([library.NFKC(), library.Prepend("▁"), library.Replace(" ", "▁")]),
)  # fmt: skip
MARKED = "ﷺ\u0390\ufb2c\U0001d160İ"  # letters that become the most
DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


def told(normalizer: Any) -> int:
    return growth(json.dumps({"model": {}, "normalizer": json.loads(normalizer.__getstate__())}))


@pytest.mark.parametrize("normalizer", KINDS, ids=lambda each: type(each).__name__)
@given(st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(f"{MARKED} abx")), min_size=1))
@settings(max_examples=40)
@example(MARKED)
@example("  ab  x")
def test_no_text_becomes_longer_than_was_told(normalizer: Any, text: str) -> None:
    made = normalizer.normalize_str(text).encode()
    assert len(made) <= told(normalizer) * len(text.encode()) + 6  # behind the last letter too


@pytest.mark.parametrize("key", ["normalizer", "norm\\u0061lizer"])
@pytest.mark.parametrize(
    ("normalizer", "line"),
    [
        ({"type": "Sequence", "normalizers": [DOUBLE] * 40}, f"more than {UTMOST:,} bytes of one"),
        ({"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [DOUBLE] * 9}] * 9}, "more than"),
        ({"type": "Prepend", "prepend": "a" * 10_000}, "more than"),
        ({"type": "Replace", "pattern": {"Regex": ""}, "content": "a" * 10_000}, "more than"),
        ({"type": "Precompiled", "precompiled_charsmap": "!"}, "cannot be read"),
        ({"pattern": {"String": "a"}, "content": "a" * 10_000}, "cannot be read"),
    ],
)
def test_a_file_that_multiplies_is_refused_before_it_does(
    tmp_path: Path, key: str, normalizer: dict[str, Any], line: str
) -> None:
    """Tokens of the file itself go through it when it is read."""
    made = json.loads((folder(tmp_path) / "tokenizer.json").read_text())
    made["added_tokens"].append(dict(made["added_tokens"][-1], id=len(made["model"]["vocab"]) + 90, content="a"))
    made["added_tokens"][-1]["normalized"] = True
    text = json.dumps(dict(made, normalizer=normalizer)).replace('"normalizer"', f'"{key}"')
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=line) as caught:
        from_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_text_that_becomes_sixteen_times_as_long_is_refused(tmp_path: Path) -> None:
    path = str(folder(tmp_path) / "tokenizer.json")
    made = Tokenizer.from_file(path)
    made.normalizer = library.Sequence([library.NFKC(), library.Replace(" ", "▁▁▁")])  # some of it is of use
    made.save(path)
    tokenizer = from_folder(tmp_path)
    ids = tokenizer.encode("It is ½ of it. " * 200)
    assert tokenizer.decode(ids) == "It▁▁▁is▁▁▁1⁄2▁▁▁of▁▁▁it.▁▁▁" * 200
    with pytest.raises(CheckpointError, match="more than 16 bytes of each byte"):
        tokenizer.encode("ﷺ" * 5000)  # 18 letters, three of them blanks
