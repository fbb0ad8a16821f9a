"""The plan of a ladder: which sizes are trained on how many tokens, from a TOML file, and what every run has in common.

Two layouts: `isoflop`, all sizes at each of some budgets of compute (C = 6 N D gives the tokens), and `grid`, all pairs
of sizes and tokens. Knows not how many parameters a size has (its trainer does), nor what a run costs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from likely.engine.base.errors import DataError, LikelyError, ParameterError
from likely.engine.base.options import read_toml, unknown
from likely.engine.measure.scaling.scaling_law import FLOP
from likely.engine.train.pretrain.config import TOKENIZERS

LAYOUTS = ("isoflop", "grid")
OURS = ("size", "tokens", "seed", "out", "corpus", "patience")  # of a run, that the ladder sets
SUFFIXES = {"k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
MOST_RUNS = 10_000


@dataclass(frozen=True, slots=True)
class ScalingRun:
    """One run of a ladder, by name."""

    size: str
    parameters: int  # in all, embedding counted
    tokens: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.size}-{self.tokens}-{self.seed}"

    @property
    def compute(self) -> float:
        """Floating-point operations, 6 N D."""
        return FLOP * self.parameters * self.tokens


@dataclass(frozen=True)
class SweepPlan:
    """Sizes as they are written (`15k`), the smallest first: the vocabulary of all is by it; `compute` in FLOP for
    isoflop, `tokens` for a grid; `ratios` the fewest and the most tokens a parameter that a run may have; `training`
    the options that all runs share."""

    sizes: tuple[str, ...]
    layout: str = "isoflop"
    compute: tuple[float, ...] = ()
    tokens: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    ratios: tuple[float, float] = (1.0, math.inf)
    out: Path = Path("ladder")
    training: Mapping[str, Any] = field(default_factory=dict)

    def rungs(self, parameters: Mapping[str, int]) -> tuple[list[ScalingRun], list[str]]:
        """The runs, the cheapest first, for sizes of so many parameters; and those that were left out, why in words."""
        by_name: dict[str, ScalingRun] = {}
        left_out: list[str] = []
        for size, tokens in self._pairs(parameters):
            ratio = tokens / parameters[size]
            if not self.ratios[0] <= ratio <= self.ratios[1]:
                low, high = self.ratios
                left_out.append(f"{size} on {tokens:,} tokens: {ratio:.3g} a parameter, not {low:g} to {high:g}")
                continue
            for seed in self.seeds:
                rung = ScalingRun(size, parameters[size], tokens, seed)
                by_name[rung.name] = rung
        return sorted(by_name.values(), key=lambda rung: (rung.compute, rung.seed)), left_out

    def _pairs(self, parameters: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        for size in self.sizes:
            if self.layout == "grid":
                yield from ((size, round(tokens)) for tokens in self.tokens)
            else:
                yield from ((size, round(budget / FLOP / parameters[size])) for budget in self.compute)


def amount(name: str, value: Any) -> float:
    """A number above 0, also with a letter: 15k, 1.5M, 2B, 1e12. ParameterError by `name` for what is none."""
    text = str(value).strip().replace("_", "")
    times = SUFFIXES.get(text[-1:], 1.0)
    try:
        number = float(text[:-1] if times != 1.0 else text) * times
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise ParameterError(f"{name} takes numbers above 0 such as 150k or 1e12, got {value!r}")
    return number


def read_plan(path: Path) -> SweepPlan:
    """The plan that a TOML file says, paths in it from where it is. DataError, with its name, for what is none."""
    table = read_toml(path)
    try:
        return _plan(table, path)
    except LikelyError as error:
        raise DataError(f"{path}: {error}") from None


def _plan(table: Mapping[str, Any], path: Path) -> SweepPlan:
    known = {entry.name for entry in fields(SweepPlan)}
    for key in table:
        if key not in known:
            raise unknown(key, sorted(known))
    training = table.get("training", {})
    if not isinstance(training, Mapping):
        raise ParameterError(f"training must be a table of options, [training], got {training!r}")
    for key in OURS:
        if key in training:
            raise ParameterError(f"training.{key} is the ladder's to set: leave it out")
    layout = table.get("layout", SweepPlan.layout)
    if layout not in LAYOUTS:
        raise ParameterError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    axis, other = ("compute", "tokens") if layout == "isoflop" else ("tokens", "compute")
    if other in table:
        raise ParameterError(f"{other} does nothing in layout {layout}: it takes {axis}")
    sizes = tuple(_written(value) for value in sorted(_list(table, "sizes"), key=lambda value: amount("sizes", value)))
    along = tuple(amount(axis, value) for value in _list(table, axis))
    seeds = tuple(_list(table, "seeds")) if "seeds" in table else SweepPlan.seeds
    if any(not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 for seed in seeds):
        raise ParameterError(f"seeds takes whole numbers from 0 on, got {list(seeds)!r}")
    if len(sizes) * len(along) * len(seeds) > MOST_RUNS:
        raise ParameterError(
            f"{len(sizes)} sizes, {len(along)} of {axis} and {len(seeds)} seeds are over {MOST_RUNS} runs"
        )
    out = table.get("out", path.with_suffix("").name)
    if not isinstance(out, str) or not out:
        raise ParameterError(f"out takes the name of a folder, got {out!r}")
    return SweepPlan(
        sizes=sizes,
        layout=layout,
        **{axis: along},  # type: ignore[arg-type]
        seeds=seeds,
        ratios=_ratios(table),
        out=path.parent / out,
        training=_beside(training, path.parent),
    )


def _ratios(table: Mapping[str, Any]) -> tuple[float, float]:
    if "ratios" not in table:
        return SweepPlan.ratios
    listed = _list(table, "ratios")
    bounds = [amount("ratios", value) for value in listed]
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ParameterError(
            f"ratios takes the fewest and the most tokens a parameter, such as [2, 200], got {listed!r}"
        )
    return bounds[0], bounds[1]


def _list(table: Mapping[str, Any], name: str) -> list[Any]:
    value = table.get(name)
    if not isinstance(value, list) or not value:
        raise ParameterError(f"{name} takes a list of at least one, got {'nothing' if value is None else repr(value)}")
    return value


def _written(size: Any) -> str:
    """A size as a trainer takes it."""
    number = amount("sizes", size)
    for suffix in ("k", "M", "B"):
        if number / SUFFIXES[suffix] < 1000:
            break
    return f"{number / SUFFIXES[suffix]:.6g}{suffix}"


def _beside(training: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The options, paths in them from where the file is."""
    options = dict(training)
    for name, value in training.items():
        if is_path(name, value):
            options[name] = str(folder / Path(value).expanduser())
    return options


def is_path(name: str, value: Any) -> bool:
    """Whether an option of a run says where something is; a tokenizer may be a kind too."""
    return name in ("data", "tokenizer") and isinstance(value, str) and value not in TOKENIZERS
