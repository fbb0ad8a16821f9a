"""One rank's share of a model: which tensors it holds, and which values of them.

Two ways to share. `tensor`: every rank has every layer, with its own key/value heads (and the query heads that read
them) and its own part of each MLP's hidden units; what the ranks make of a half block is summed, two sums a layer.
`pipeline`: every rank has its own layers, all of each; hidden states are sent from rank to rank, and in the end to all.

In both the head is split by vocabulary and its logits are gathered: a rank reads 1/n of it, and since each logit is
computed by one rank, all ranks have the same logits to the last bit and draw the same token. The embedding is whole
where tokens come in: splitting it would cost a third kind of sum a token, to save memory that is read a row at a time.

A share is a small model of its own: `config` is its configuration, `place` says what a tensor of the checkpoint is in
it, and what `models.families.builder` makes of those becomes one of n by `models.parallel.exchange`. Knows no
connection.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from likely.models.configuration.config import ModelConfig
from likely.models.errors import CheckpointError, ConfigError
from likely.models.families import FAMILIES
from likely.models.families.family import Family
from likely.models.families.registry import described, family
from likely.models.modules.parts import TensorNames

ACROSS = ("o", "down")  # products whose columns are shared: what the ranks make of them is summed


@dataclass(frozen=True, slots=True)
class Cut:
    """The ranges of one axis of a tensor that a rank holds, one after another; counted in values."""

    axis: int  # from the last: -1
    length: int
    ranges: tuple[tuple[int, int], ...]

    def within(self, name: str, stored: int) -> list[tuple[int, int]]:
        """The ranges in units of what is stored: values, packed words, or groups that share a scale.

        CheckpointError where a rank's part would begin or end inside a unit.
        """
        scaled = [(start * stored, end * stored) for start, end in self.ranges]
        if any(edge % self.length for pair in scaled for edge in pair):
            raise CheckpointError(
                f"weights: {name} is stored in groups of {self.length / stored:g}, which the ranks' parts cut through: "
                "start another number of ranks, or use --parallel pipeline"
            )
        return [(start // self.length, end // self.length) for start, end in scaled]


@dataclass(frozen=True, slots=True)
class Sharding:
    """The share that rank `rank` of `ranks` holds of a model of configuration `whole`."""

    whole: ModelConfig
    config: ModelConfig  # of what this rank computes
    way: str  # tensor | pipeline
    rank: int
    ranks: int
    family: Family
    names: TensorNames
    hidden: Mapping[str, tuple[int, int]]  # of "mlp" and of "experts": the hidden units that are this rank's
    first: int = 0  # its first layer

    @property
    def takes_tokens(self) -> bool:
        """Whether tokens come in here, so that the embedding is needed."""
        return self.way == "tensor" or self.rank == 0

    def vocabulary(self, rank: int) -> tuple[int, int]:
        """The rows of the head that are a rank's."""
        return _part(self.whole.vocab_size, rank, self.ranks)

    @property
    def rows(self) -> int:
        """How many of them are this rank's."""
        start, end = self.vocabulary(self.rank)
        return end - start

    def place(self, name: str) -> tuple[str, Cut | None] | None:
        """The name here of the checkpoint's tensor `name`, and which values of it; None if it is not held here."""
        ours = self.family.rename(name)
        if ours is None:
            return None
        layer, tail = self.names.within(ours)
        if layer is None:
            return self._top(name, *tail)
        if self.way == "tensor":
            return name, self._cut(*tail, turned=self.family.turned(name))
        index = layer - self.first
        if not 0 <= index < self.config.layers:
            return None
        return name.replace(f".{layer}.", f".{index}.", 1), None

    def settings(self, packing: Mapping[str, Any]) -> dict[str, Any]:
        """A quantisation's settings by the names that the modules have here."""
        settings = {}
        for key, value in packing.items():
            if not isinstance(value, dict | bool):
                settings[key] = value
            elif (placed := self.place(f"{key}.weight")) is not None:
                settings[placed[0].removesuffix(".weight")] = value
        return settings

    def _top(self, name: str, module: str, kind: str) -> tuple[str, Cut | None] | None:
        top = self.names.top
        rows = None if kind == "global_scale" else Cut(-2, self.whole.vocab_size, (self.vocabulary(self.rank),))
        if module == top["head"]:
            return None if self.whole.tied else (name, rows)
        if module == top["embed"] and not self.takes_tokens:
            return (f"{top['head']}.{kind}", rows) if self.whole.tied else None
        if module == top.get("positions") and not self.takes_tokens:
            return None
        return name, None

    def _cut(self, module: str, kind: str, turned: bool) -> Cut | None:
        """Which values of a layer's tensor are this rank's; `turned` where matrices are stored [in, out]."""
        split = self._split(self._role(module))
        if split is None or kind == "global_scale":
            return None
        across, length, ranges = split
        if kind == "bias":  # of what is summed: one rank's counts (`models.parallel.exchange`)
            return None if across else Cut(-1, length, ranges)
        return Cut(-1 if across != turned else -2, length, ranges)

    def _role(self, module: str) -> str:
        """Role of a module of a layer; "" for what every rank holds whole."""
        for role, theirs in self.names.layer.items():
            if theirs == module:
                return role
        experts = self.names.layer.get("experts", "").rpartition(".")[0]
        if experts and self.whole.experts and module.startswith(f"{experts}."):
            part = self.family.experts.get(module.rpartition(".")[2])
            return f"experts.{part}" if part else ""
        return ""

    def _split(self, role: str) -> tuple[bool, int, tuple[tuple[int, int], ...]] | None:
        """How a product's matrix [out, in] is split: across its columns or its rows, of which length, where."""
        c, rank, ranks = self.whole, self.rank, self.ranks
        hidden, width = self.hidden["mlp"], c.mlp_width
        if role.startswith("experts.") and c.experts:
            role, hidden, width = role.removeprefix("experts."), self.hidden["experts"], c.experts.width
        q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
        mine, theirs = _part(q, rank, ranks), _part(kv, rank, ranks)
        if role == "qkv" and role in self.family.by_head:
            return False, 3 * q, ((3 * mine[0], 3 * mine[1]),)
        match role:
            case "q":
                return False, q, (mine,)
            case "k" | "v":
                return False, kv, (theirs,)
            case "qkv":
                return False, q + 2 * kv, (mine, _moved(theirs, q), _moved(theirs, q + kv))
            case "gate" | "up":
                return False, width, (hidden,)
            case "gate_up":
                return False, 2 * width, (hidden, _moved(hidden, width))
            case "o":
                return True, q, (mine,)
            case "down":
                return True, width, (hidden,)
        return None


def share(
    config: Mapping[str, Any], tensors: Iterable[str], way: str, rank: int, ranks: int, unit: int = 1
) -> Sharding:
    """The share of rank `rank` of `ranks` in a checkpoint: its configuration as Hugging Face has it, its tensors.

    Values that share a scale come `unit` at a time and are not parted. ConfigError, with what to do, for a model that
    so many ranks cannot share in this way.
    """
    kind, packing = config.get("model_type"), config.get("quantization_config")
    if kind not in FAMILIES:
        raise ConfigError(f"{kind} runs by mlx-lm's own class, which cannot be shared between ranks: run it on one")
    if way == "tensor" and isinstance(packing, Mapping) and packing.get("quant_method") in ("awq", "gptq"):
        raise ConfigError(f"the packing of {packing['quant_method']} cannot be split: use --parallel pipeline")
    model_family, whole = family(str(kind)), described(config, tensors)
    names = model_family.names(whole)
    if way == "pipeline":
        return _by_layers(whole, model_family, names, rank, ranks)
    if whole.kv_heads % ranks:
        raise ConfigError(
            f"{whole.family} has {whole.kv_heads} key/value heads, which {ranks} ranks cannot share evenly: "
            f"{_fitting(whole.kv_heads)}use --parallel pipeline"
        )
    if whole.qk_norm == "all":
        raise ConfigError(
            f"{whole.family} norms q and k over all heads at once, which cannot be split: use --parallel pipeline"
        )
    if whole.heads * whole.head_size // ranks % unit:
        raise ConfigError(
            f"the weights come in groups of {unit}, and {whole.heads * whole.head_size} columns of attention do not "
            f"divide into {ranks} parts of whole groups: use --parallel pipeline"
        )
    hidden = {"mlp": _hidden(whole.mlp_width, rank, ranks, unit)}
    experts = whole.experts
    if experts is not None:
        hidden["experts"] = start, end = _hidden(experts.width, rank, ranks, unit)
        experts = replace(experts, width=end - start)
    part = replace(
        whole,
        heads=whole.heads // ranks,
        kv_heads=whole.kv_heads // ranks,
        mlp_width=hidden["mlp"][1] - hidden["mlp"][0],
        experts=experts,
    )
    return Sharding(whole, part, way, rank, ranks, model_family, names, hidden)


def _by_layers(whole: ModelConfig, kind: Family, names: TensorNames, rank: int, ranks: int) -> Sharding:
    if whole.layers < ranks:
        raise ConfigError(f"{whole.family} has {whole.layers} layers, too few for {ranks} ranks: start fewer")
    start, end = _part(whole.layers, rank, ranks)
    config = replace(
        whole,
        layers=end - start,
        windows=whole.windows[start:end],
        ropes=whole.ropes[start:end],
        sparse=whole.sparse[start:end],
    )
    if rank:  # what enters is a hidden state
        config = replace(config, embed_scale=1.0, learned_positions=0, tied=False)
    return Sharding(whole, config, "pipeline", rank, ranks, kind, names, {}, start)


def _hidden(width: int, rank: int, ranks: int, unit: int) -> tuple[int, int]:
    """The hidden units that are a rank's, in whole groups."""
    if width % unit or width // unit < ranks:
        raise ConfigError(
            f"{width} hidden units in groups of {unit} do not give each of {ranks} ranks one: use --parallel pipeline"
        )
    start, end = _part(width // unit, rank, ranks)
    return start * unit, end * unit


def _part(count: int, rank: int, ranks: int) -> tuple[int, int]:
    """A rank's range of `count` things; the shares differ by one at most."""
    return count * rank // ranks, count * (rank + 1) // ranks


def _moved(part: tuple[int, int], by: int) -> tuple[int, int]:
    return part[0] + by, part[1] + by


def _fitting(heads: int) -> str:
    """Advice: how many ranks could share the heads."""
    fit = [str(n) for n in range(2, min(heads, 64) + 1) if heads % n == 0]
    return f"start {' or '.join(fit)} ranks, or " if fit else ""
