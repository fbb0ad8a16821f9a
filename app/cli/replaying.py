"""`likely run --replay`: a saved run under other parameters, without the model."""

import json
import math
import sys
from pathlib import Path

import click

from app import heat
from engine import trace
from engine.trace import Recipe


def show_replay(path: Path, recipe: Recipe, *, as_json: bool) -> None:
    """For each token of a trace: its probability as drawn and under `recipe`, as bounds where the file cannot say more."""
    raise NotImplementedError(f"{json} {math} {sys} {click} {heat} {trace}")
