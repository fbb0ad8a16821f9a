"""Sampling that a checkpoint's publisher recommends: `generation_config.json` of a folder in Hugging Face's layout, or
the keys `general.sampling.*` of a GGUF file, by our names of parameters. Knows nobody who draws."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.sampling.presets import Values, recipe
from likely.engine.weights.sources.gguf.header import read_header

FOLDER = {  # GenerationConfig of transformers
    "temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
}  # fmt: skip
KEYS = "general.sampling."
FILE = {  # constants.py of the gguf package
    "temp": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold", "penalty_repeat": "repetition_penalty",
    "penalty_last_n": "repetition_context_size",
}  # fmt: skip


def recommended(path: Path) -> Values:
    """The values of a checkpoint's file or folder; empty where it names none. One that is out of its range is none."""
    if path.is_file():
        return recommended_in(read_header(path).metadata)
    try:
        found: Mapping[str, Any] = foreign_json.read(path / "generation_config.json", dict, error=CheckpointError)
    except CheckpointError:  # there need not be one
        return {}
    if found.get("do_sample") is False:  # whatever else it says: so does transformers
        return {"temp": 0.0}
    return _within({ours: found.get(name) for name, ours in FOLDER.items()})


def recommended_in(metadata: Mapping[str, Any]) -> Values:
    """The values of a GGUF file, by the keys of its header."""
    return _within({ours: metadata.get(f"{KEYS}{name}") for name, ours in FILE.items()})


def _within(values: Mapping[str, Any]) -> Values:
    known = {name: value for name, value in values.items() if type(value) in (int, float) and _fits(name, value)}
    return MappingProxyType(known)


def _fits(name: str, value: float) -> bool:
    try:
        recipe({name: value} | ({"xtc_probability": 0.5} if name == "xtc_threshold" else {}))
    except (ParameterError, OverflowError):
        return False
    return True
