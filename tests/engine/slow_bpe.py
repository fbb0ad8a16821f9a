"""Byte-pair encoding as slow and as plain as its definition: what the tokenizer's ids are compared with."""

import re
from itertools import pairwise
from typing import Any

import regex

from likely.engine.text.tokenizer.vocabulary import BYTE_LEVEL

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CHARACTER = {byte: character for character, byte in BYTE_LEVEL.items()}


def encode(metadata: dict[str, Any], text: str, cut: list[str]) -> list[int]:
    """Byte-pair encoding by definition (Sennrich et al. 2016): of all neighbours join the pair learnt first."""
    tokens = metadata["tokenizer.ggml.tokens"]
    ids = {token: i for i, token in enumerate(tokens)}
    ranks = {tuple(merge.split(" ")): i for i, merge in enumerate(metadata["tokenizer.ggml.merges"])}
    whole = [token for token, kind in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True) if kind == 4]
    out: list[int] = []
    longest_first = "|".join(map(re.escape, sorted(whole, key=len, reverse=True)))
    for part in re.split(f"({longest_first})", text) if whole else [text]:
        if part in whole:
            out.append(ids[part])
            continue
        words = [part]
        for pattern in cut:
            words = [piece for word in words for piece in isolated(pattern, word)]
        for word in words:
            pieces = [CHARACTER[byte] for byte in word.encode()]
            while len(pieces) > 1:
                pairs = list(pairwise(pieces))
                best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
                if best not in ranks:
                    break
                at = pairs.index(best)
                pieces[at : at + 2] = ["".join(best)]
            out += [ids[piece] for piece in pieces]
    return out


def isolated(pattern: str, text: str) -> list[str]:
    """The matches of a pattern and what is between them."""
    pieces, end = [], 0
    for match in regex.finditer(pattern, text):
        if match.end() > match.start():
            pieces += [text[end : match.start()], match[0]]
            end = match.end()
    return [piece for piece in [*pieces, text[end:]] if piece]
