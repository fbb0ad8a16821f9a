"""Activations in a file: those whose names match, for people who go on in a notebook.

The names are those of `models.tap`, without the batch: embedding [T, C], layers.3.heads [T, H, D], layers.3.attention,
layers.3.mlp, layers.3.residual [T, C]; and layers.3.pattern [H, T, T], what each head reads, and logits [T, V]. All are
float32, which every reader of safetensors knows. Only what matches is kept in memory.
"""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from likely.engine.base.errors import ParameterError
from likely.engine.inside.subject import InspectedText
from likely.engine.weights.sources import array_file
from likely.metal import mx
from likely.metal.attention import Emit
from likely.models.transformer import Transformer

SITES = ("heads", "attention", "mlp", "residual", "pattern")


def names(model: Transformer) -> list[str]:
    """Everything that can be kept, in the order in which it is computed."""
    layers = [f"layers.{index}.{site}" for index in range(len(model.blocks)) for site in SITES]
    return ["embedding", *layers, "logits"]


def activations(subject: InspectedText, patterns: Sequence[str]) -> dict[str, mx.array]:
    """Activations of the whole text by name, those that match one of `patterns` (as file names do: `layers.*.mlp`).

    ParameterError for a pattern that matches none.
    """
    known = names(subject.model)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ParameterError(
                f"nothing is called {pattern}: there are embedding, logits and, from 0 to "
                f"{len(subject.model.blocks) - 1}, layers.0.{{{','.join(SITES)}}}; * stands for anything"
            )
    wanted = {name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)}
    arrays: dict[str, mx.array] = {}

    def keep(name: str, x: mx.array) -> mx.array:
        if name in wanted:
            arrays[name] = x[0].astype(mx.float32)
        return x

    whole = InspectedText(subject.model, subject.ids).open()
    whole.x = keep("embedding", whole.x)
    for index in range(len(subject.model.blocks)):
        look = f"layers.{index}.pattern"
        report = whole.layer(index, keep, Emit(lse=True, scores=True) if look in wanted else None)
        if report is not None and report.scores is not None and report.lse is not None:
            arrays[look] = mx.exp(report.scores[0].astype(mx.float32) - report.lse[0, ..., None])
        mx.eval(whole.x, arrays)
    if "logits" in wanted:
        arrays["logits"] = subject.model.lens(whole.x)[0].astype(mx.float32)
    return {name: arrays[name] for name in known if name in arrays}


def save(path: Path, subject: InspectedText, patterns: Sequence[str], model: str = "") -> list[str]:
    """Write the activations that match to a safetensors file, with the ids in its metadata; the names.

    DataError where the file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise ParameterError(f"activations are saved as .safetensors, got {path.name}")
    arrays = activations(subject, patterns)
    array_file.write(path, arrays, {"model": model, "ids": json.dumps(list(subject.ids))})
    return list(arrays)
