"""A model of a known law, as a folder that every verb opens: what comes next depends on the last token alone.

A Llama whose one block adds nothing, with the identity as embedding and a table as head: whatever is said of a text by
it is a sum over that table, in float64.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from likely.metal import mx
from tests.engine import tiny

EOS, VOCAB = tiny.EOS, tiny.LLAMA["vocab_size"]
CONFIG = {**tiny.LLAMA, "hidden_size": VOCAB, "num_hidden_layers": 1, "max_position_embeddings": 4096}
TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}a:"  # what is answered ends in ":"
ENCODER = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(tiny.PIECES)}, merges=[("a", "b")]))
ENCODER.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def ids(text: str) -> list[int]:
    return list(ENCODER.encode(text).ids)


def random_table(seed: int) -> np.ndarray:
    """Scores [V, V], row = last token."""
    return np.random.default_rng(seed).normal(size=(VOCAB, VOCAB)) * 2.0


def certain_table(text: str) -> np.ndarray:
    """After each letter of a text in which none comes twice the next one is nearly certain, and then the end."""
    table = np.zeros((VOCAB, VOCAB))
    table[:, EOS] -= 5.0
    for before, after in pairwise([*ids(text), EOS]):
        table[before, after] = 20.0
    return table


def logprob(table: np.ndarray, text: str, before: int = EOS) -> float:
    """Of a text behind a token, in nats."""
    logp = table.astype(np.float32).astype(np.float64)
    logp -= np.logaddexp.reduce(logp, axis=1, keepdims=True)
    return float(sum(logp[a, b] for a, b in pairwise([before, *ids(text)])))


def write(folder: Path, table: np.ndarray, context: int = 4096) -> Path:
    arrays = {name: np.zeros_like(array) for name, array in tiny.weights(CONFIG).items()}
    for name, array in arrays.items():
        if name.endswith("norm.weight"):
            array[:] = 1
    arrays["model.embed_tokens.weight"] = np.eye(VOCAB, dtype=np.float32)
    scale = (1 / VOCAB + CONFIG["rms_norm_eps"]) ** -0.5  # of what the last norm makes of a row of the identity
    arrays["lm_head.weight"] = (table.T / scale).astype(np.float32)
    tiny.write_folder(
        folder, CONFIG | {"max_position_embeddings": context}, {name: mx.array(array) for name, array in arrays.items()}
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([tiny.PIECES[EOS]])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    return folder
