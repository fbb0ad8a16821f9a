"""Rotary positions (arXiv:2104.09864) as data: which dimensions turn, how fast, and how that is stretched.

A pair (a, b) of a head's dimensions at position p turns by the angle p * frequency. Reads them from configurations;
`models.rotation` turns.
"""

import math
from dataclasses import dataclass
from typing import Any

from likely.models.configuration.keys import Keys

_ORIGINAL = "original_max_position_embeddings"
LARGEST = 1e15  # of any number here: what is computed of two such is one still


@dataclass(frozen=True, slots=True)
class Rope:
    """How positions turn the first `dims` of a head's dimensions."""

    theta: float
    dims: int
    traditional: bool = False  # pairs are neighbours (0, 1), (2, 3), ... instead of halves (0, dims/2), ...
    kind: str = "default"  # "default" | "linear" | "dynamic" | "llama3" | "yarn" | "longrope"
    factor: float = 1.0
    original: int = 0  # the context before it was stretched
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0  # yarn and longrope: multiplies the rotated dimensions
    short_factor: tuple[float, ...] = ()  # longrope: one a pair, for contexts up to `original`
    long_factor: tuple[float, ...] = ()

    @property
    def varies(self) -> bool:
        """Whether the frequencies depend on how long the sequence is."""
        return self.kind in ("dynamic", "longrope")

    def regime(self, length: int) -> int:
        """A number that stays the same as long as keys rotated at one length go with queries at another."""
        if self.kind == "longrope":
            return int(length > self.original)
        return max(length, self.original) if self.kind == "dynamic" else 0

    def periods(self, length: int = 0) -> list[float]:
        """Positions a radian for each pair, dims / 2 of them, for a sequence of `length` positions."""
        d, half = self.dims, self.dims // 2
        theta = self.theta
        if self.kind == "dynamic":
            stretch = self.factor * max(length, self.original) / self.original - (self.factor - 1)
            theta *= stretch ** (d / (d - 2))
        plain = [theta ** (2 * i / d) for i in range(half)]
        if self.kind == "linear":
            return [p * self.factor for p in plain]
        if self.kind == "longrope":
            factors = self.long_factor if self.regime(length) else self.short_factor
            return [p * f for p, f in zip(plain, factors, strict=True)]
        if self.kind == "llama3":
            return [self._llama3(p) for p in plain]
        if self.kind == "yarn":
            return self._yarn(plain)
        return plain

    def _llama3(self, period: float) -> float:
        turns = self.original / (2 * math.pi * period)  # over the original context
        if turns > self.high_freq_factor:
            return period
        if turns < self.low_freq_factor:
            return period * self.factor
        smooth = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        return period / ((1 - smooth) / self.factor + smooth)

    def _yarn(self, plain: list[float]) -> list[float]:
        """Dimensions that turn often keep their frequency, the slow are interpolated (arXiv:2309.00071, eq. 18-20)."""

        def dim(turns: float) -> float:
            return self.dims * math.log(self.original / (turns * 2 * math.pi)) / (2 * math.log(self.theta))

        low, high = dim(self.beta_fast), dim(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.dims - 1)
        if low == high:
            high += 0.001
        out = []
        for i, p in enumerate(plain):
            ramp = min(1.0, max(0.0, (i - low) / (high - low)))
            out.append(1 / (ramp / (p * self.factor) + (1 - ramp) / p))
        return out


def read_rope(keys: Keys, head_size: int, context: int, theta: float = 10_000.0, original: int | None = None) -> Rope:
    """The rotation that `rope_theta`, `rope_scaling` and `rope_parameters` (where transformers 5 keeps both) describe.

    The last may not contradict the others. `theta` is the family's default; `original` is the context before it was
    stretched, where a family says that outside of the table.
    """
    scaling, both = keys.table("rope_scaling"), keys.table("rope_parameters")
    base, share = keys.number("rope_theta", None), keys.number("partial_rotary_factor", None)
    for name, value in (("rope_theta", base), ("partial_rotary_factor", share)):
        if value is not None and both.setdefault(name, value) != value:
            raise keys.bad(f"{name} is {value} and rope_parameters says {both[name]}")
    if scaling and any(both.get(name, value) != value for name, value in scaling.items()):
        raise keys.bad("rope_scaling and rope_parameters contradict each other")
    beside = Keys(both, f"{keys.where}: rope_parameters")
    dims = int(head_size * beside.number("partial_rotary_factor", 1.0))
    both.pop("partial_rotary_factor", None)
    traditional = keys.flag("rope_traditional", False)
    keys.fixed("rope_interleaved", False)
    table = {**both, **scaling}
    if original is not None and table.setdefault(_ORIGINAL, original) != original:
        raise keys.bad(f"{_ORIGINAL} is {original} and rope_scaling says {table[_ORIGINAL]}")
    theta = Keys(table, f"{keys.where}: rope_parameters").number("rope_theta", theta)
    table.pop("rope_theta", None)
    return scaled(keys, table, dims, context, theta, traditional)


def scaled(keys: Keys, table: dict[str, Any], dims: int, context: int, theta: float, traditional: bool = False) -> Rope:
    """The rotation that a scaling table describes."""
    inner = Keys(table, f"{keys.where}: rope_scaling")
    kinds = {inner.text(name, None) for name in ("rope_type", "type")} - {None}
    kinds = {"longrope" if kind == "su" else kind for kind in kinds} or {"default"}
    if len(kinds) > 1:
        raise inner.bad(f"rope_type and type say {' and '.join(sorted(kinds))}")
    kind = kinds.pop()
    if dims < 2 or dims % 2:
        raise keys.bad(f"the rotated dimensions of a head must be even, got {dims}")
    fields: dict[str, Any] = {}
    if kind == "linear":
        fields["factor"] = inner.number("factor")
    elif kind == "dynamic":
        fields["factor"] = inner.number("factor")
        fields["original"] = _original(inner, context)
    elif kind == "llama3":
        fields["factor"] = inner.number("factor")
        fields["low_freq_factor"] = inner.number("low_freq_factor", 1.0)
        fields["high_freq_factor"] = inner.number("high_freq_factor", 4.0)
        fields["original"] = _original(inner, 8192)
    elif kind == "yarn":
        fields |= _read_yarn(inner, context)
    elif kind == "longrope":
        fields |= _read_longrope(inner, dims, context)
    elif kind != "default":
        raise inner.bad(f"rope_type must be default, linear, dynamic, llama3, yarn, longrope or su, got {kind!r}")
    if kind in ("default", "linear"):
        inner.take(_ORIGINAL, None)
    inner.done()
    if kind != "longrope" and fields.get("factor", 1.0) < 1:
        raise inner.bad(f"factor must be 1 or more, got {fields['factor']}")
    for name, value in {"rope_theta": theta, **fields}.items():
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, bool) and not 0 < number < LARGEST:
                raise inner.bad(f"{name} must be above 0 and below {LARGEST:g}, got {number}")
    if theta <= 1 or fields.get("high_freq_factor", 2.0) <= fields.get("low_freq_factor", 1.0):
        raise inner.bad("rope_theta must be above 1, and high_freq_factor above low_freq_factor")
    if kind == "dynamic" and dims < 4:
        raise inner.bad(f"dynamic needs 4 rotated dimensions or more, got {dims}")
    return Rope(theta, dims, traditional, kind, **fields)


def _original(keys: Keys, *default: int) -> int:
    """The context before it was stretched: its logarithm is divided by."""
    length: int = keys.integer(_ORIGINAL, *default)
    if length < 2:
        raise keys.bad(f"{_ORIGINAL} must be 2 or more, got {length}")
    return length


def _read_yarn(keys: Keys, context: int) -> dict[str, Any]:
    factor = keys.number("factor")
    m, m_all = keys.number("mscale", 1.0), keys.number("mscale_all_dim", 0.0)

    def gain(m: float) -> float:
        return 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0

    return {
        "factor": factor,
        "original": _original(keys, context),
        "beta_fast": keys.number("beta_fast", 32.0),
        "beta_slow": keys.number("beta_slow", 1.0),
        "truncate": keys.flag("truncate", True),
        "attention_factor": keys.number("attention_factor", gain(m) / gain(m_all)),
    }


def _read_longrope(inner: Keys, dims: int, context: int) -> dict[str, Any]:
    original = _original(inner)
    factor = inner.number("factor", context / original)
    gain = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    fields: dict[str, Any] = {"factor": factor, "original": original}
    for name in ("short_factor", "long_factor"):
        values = inner.numbers(name)
        if len(values) != dims // 2:
            raise inner.bad(
                f"{name} must have {dims // 2} entries, one a pair of rotated dimensions, got {len(values)}"
            )
        fields[name] = values
    return fields | {"attention_factor": inner.number("attention_factor", gain)}
