"""One rank's part of a checkpoint's files: the right values, and no byte of the others'."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources import gguf, hf_folder
from likely.engine.weights.sources.gguf import mapping, partial_read
from likely.engine.weights.sources.gguf import weights as gguf_weights
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import mx
from likely.models.parallel.shard import Sharding, share
from tests.engine.tiny import LLAMA, weights, write_folder, write_gguf
from tests.models.shared import taken

WIDE: dict[str, Any] = LLAMA | {"hidden_size": 128, "num_hidden_layers": 3, "intermediate_size": 192, "head_dim": 32}
EXACT = Precision(mx.float32, packed=True)


def packed_folder(path: Path, tied: bool, bits: int | None) -> tuple[dict[str, Any], Path]:
    """A folder of a tiny model, its matrices packed or in 16 bits."""
    config = WIDE | {"tie_word_embeddings": tied}
    arrays = {name: mx.array(array) for name, array in weights(config).items()}
    for name in list(arrays) if bits else ():
        if arrays[name].ndim == 2:
            stem, matrix = name.removesuffix(".weight"), arrays[name]
            parts = mx.quantize(matrix, 32, bits)
            arrays |= dict(zip((name, f"{stem}.scales", f"{stem}.biases"), parts, strict=True))
    if not bits:
        arrays = {name: array.astype(mx.bfloat16) for name, array in arrays.items()}
    return config, write_folder(path, config, arrays, shards=2)


def same(found: dict[str, mx.array], want: dict[str, mx.array]) -> bool:
    return found.keys() == want.keys() and all(
        found[name].dtype == want[name].dtype and bool(mx.array_equal(found[name], want[name])) for name in want
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bits", [None, 4])
@pytest.mark.parametrize("way", ["tensor", "pipeline"])
def test_a_rank_reads_its_part_of_a_folder(way: str, bits: int | None, tied: bool, tmp_path: Path) -> None:
    config, path = packed_folder(tmp_path, tied, bits)
    whole = dict(hf_folder.read_weights(path, EXACT))
    for rank in range(2):
        part = share(config, whole, way, rank, 2, 32)
        assert same(hf_folder.read_share(path, EXACT, part), taken(part, whole))


@pytest.mark.parametrize("type_", ["Q8_0", "Q4_1", "F16"])
@pytest.mark.parametrize("way", ["tensor", "pipeline"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_rank_reads_its_part_of_a_gguf_file(packed: bool, way: str, type_: str, tmp_path: Path) -> None:
    """The rows of q and k, which the file interleaves head by head, included."""
    path = write_gguf(tmp_path / "m.gguf", "llama", WIDE, weights(WIDE), type_)
    header, precision = gguf.read_header(path), Precision(mx.float32, packed=packed)
    arch = mapping.architecture(header)
    whole = dict(gguf_weights.read_weights(header, arch, (4, 2), precision))
    assert gguf_weights.whole_groups(header) == (1 if type_ == "F16" else 32)
    for rank in range(2):
        part = share(WIDE, whole, way, rank, 2, gguf_weights.whole_groups(header))
        heads = part.config.heads, part.config.kv_heads
        found = dict(gguf_weights.read_weights(header, arch, heads, precision, part))
        assert same(found, taken(part, whole))


def read_bytes() -> int:
    """What this process has asked the system to read."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.linux  # which counts what is read
@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("way", ["tensor", "pipeline"])
def test_a_rank_reads_no_more_than_its_part(way: str, ranks: int, tmp_path: Path) -> None:
    """Of a folder and of a GGUF file: 1/n of what is parted, and what all hold (the embedding, norms)."""
    config = WIDE | {"num_attention_heads": 6, "num_key_value_heads": 6, "num_hidden_layers": 6}
    arrays = weights(config)
    path = write_folder(tmp_path / "f", config, {name: mx.array(a) for name, a in arrays.items()})
    file = write_gguf(tmp_path / "m.gguf", "llama", config, arrays, "F32")
    header = gguf.read_header(file)
    arch = mapping.architecture(header)
    everything, totals = sum(a.nbytes for a in arrays.values()), np.zeros(2)
    for rank in range(ranks):
        part = share(config, arrays, way, rank, ranks)
        all_hold = sum(a.nbytes for name, a in arrays.items() if held_by_all(part, name))
        allowed = (everything - all_hold) / ranks + all_hold + 40_000  # headers, and this test's own looking
        heads = part.config.heads, part.config.kv_heads
        before = read_bytes()
        hf_folder.read_share(path, EXACT, part)
        between = read_bytes()
        dict(gguf_weights.read_weights(header, arch, heads, EXACT, part))
        read = between - before, read_bytes() - between
        assert max(read) <= allowed < everything, (read, allowed, everything)
        totals += read
    assert min(totals) >= everything  # nothing is left out


def held_by_all(part: Sharding, name: str) -> bool:
    """What every rank needs as it is: norms, and the embedding where tokens come in."""
    return name.endswith("norm.weight") or (name == "model.embed_tokens.weight" and part.takes_tokens)


def test_pieces_of_any_axis(tmp_path: Path) -> None:
    values = np.arange(2 * 6 * 4, dtype=np.uint16).reshape(2, 6, 4)
    (tmp_path / "t").write_bytes(b"head" + values.tobytes())
    with open(tmp_path / "t", "rb") as file:
        for axis, ranges in [
            (0, [(1, 2)]), (1, [(0, 2), (5, 6)]), (-1, [(1, 3)]), (-2, [(0, 6)]), (2, [(0, 1), (3, 4)]),
        ]:  # fmt: skip
            found = partial_read.read(file, "t", 4, values.shape, 2, axis, ranges).view(np.uint16)
            want = np.concatenate([np.take(values, range(a, b), axis) for a, b in ranges], axis)
            assert found.tolist() == want.reshape(-1).tolist()
        with pytest.raises(CheckpointError, match="ends inside tensor 't'"):
            partial_read.read(file, "t", 8, values.shape, 2)
