"""Tiny models that are made on this machine, in seconds and without any download: six letters, and characters.

Each is a folder like any other model's. The bigram is no more than its table of probabilities, which is known: what it
says can be listed. The other is pretrained as any model is, on the Python reference. Knows nothing of the store.
"""

import json
import math
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from likely.engine.base.files.whole_file import write_whole
from likely.engine.measure.evaluate.tasks.shipped import shipped
from likely.engine.measure.proofs.enumeration import END, LETTERS, TABLE
from likely.engine.train.control import Stepped
from likely.engine.train.pretrain.config import configure
from likely.engine.train.pretrain.pretraining import Pretrained, pretrain
from likely.engine.train.pretrain.shape import ModelShape, config_of
from likely.engine.weights.adapters.stored import write_json
from likely.engine.weights.sources import array_file
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.metal import mx
from likely.models.families import registry

WIDTH, CONTEXT = 64, 4096  # of the bigram; the width is that of one group of packed weights
NEVER = -40.0  # log p of a letter that does not come
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
TEXTS = "python-reference"
OPTIONS = {
    "tokenizer": "characters", "size": "100k", "tokens": 400_000, "context": 128, "batch": 8, "accumulate": 1,
    "rate": 0.015, "eval_every": 0, "save_every": 0, "sample_tokens": 0,
}  # fmt: skip


def bigram(folder: Path, report: Report = silent) -> str:
    """Write the bigram over six letters: one layer that adds nothing, so that the head sees the last letter alone. Says
    what it is."""
    report("writing a table of six letters", 0, 0)
    shape = ModelShape("llama", layers=1, width=WIDTH, heads=1, mlp_width=WIDTH)
    config = config_of(shape, len(LETTERS), CONTEXT) | {"rms_norm_eps": 1e-12}
    arrays = {name: np.zeros(array.shape, np.float32) for name, array in registry.blank(config).arrays.items()}
    for name, array in arrays.items():
        if "norm" in name:
            array[:] = 1.0
    size = math.sqrt(WIDTH)  # of what stands for a letter: its mean square is 1, which the norm leaves
    with np.errstate(divide="ignore"):
        logp = np.maximum(np.log(TABLE), NEVER)
    for name, array in arrays.items():
        if "embed" in name:
            np.fill_diagonal(array, size)
        elif "head" in name:
            array[:, : len(LETTERS)] = logp.T / size
    spelled = registry.spelled(config, {name: mx.array(array) for name, array in arrays.items()})
    array_file.write(folder / "model.safetensors", spelled, {"format": "mlx"})
    write_json(folder / "config.json", config | {"bos_token_id": END, "eos_token_id": END})
    _letters(folder)
    return f"made here: p of the next of {len(LETTERS)} letters by the last one, exact"


def _letters(folder: Path) -> None:
    """A tokenizer whose tokens are the letters, ∎ before and behind each text; byte-level, so that any other character
    is refused by its name."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    library = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(LETTERS)}, merges=[]))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    end = LETTERS[END]
    library.add_special_tokens([end])
    write_whole(folder / "tokenizer.json", [library.to_str(pretty=True)])
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": end, "eos_token": end, "add_bos_token": True}
    write_whole(folder / "tokenizer_config.json", [json.dumps(settings, indent=2, ensure_ascii=False) + "\n"])


def characters(folder: Path, report: Report = silent) -> str:
    """Train a model of characters on the Python reference, seeded. Says how long that took, and what it came to.

    DataError where this Python came without its texts.
    """
    task = shipped(TEXTS)
    assert task is not None
    began = time.monotonic()
    with TemporaryDirectory() as place:
        texts = Path(place) / "texts.jsonl"
        write_whole(texts, [json.dumps({"text": row["text"]}) + "\n" for row in task.rows()])
        config = configure(OPTIONS | {"data": str(texts), "out": str(Path(place) / "out")})
        steps, done = 0, None
        for event in pretrain(config, progress=report):
            match event:
                case Stepped(step=step):
                    report("training a model of characters", step, steps)
                case Pretrained():
                    done = event
                case _:
                    steps = getattr(event, "steps", steps)
        assert done is not None and done.bits_per_byte is not None
        for name in FILES:
            shutil.copyfile(done.folder / name, folder / name)
    seconds = time.monotonic() - began
    return f"trained here on {done.tokens:,} characters in {seconds:.0f} s: {done.bits_per_byte:.2f} bits a character"
