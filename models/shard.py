"""One rank's share of a model: which tensors it holds, which values of them, and what it exchanges with the others.

Two ways to share. `tensor`: every rank has every layer, with its own key/value heads (and the query heads that read
them) and its own part of each MLP's hidden units; what the ranks make of a half block is summed, two sums a layer.
`pipeline`: every rank has its own layers, all of each; hidden states are sent from rank to rank, and in the end to all.

In both the head is split by vocabulary and its logits are gathered: a rank reads 1/n of it, and since each logit is
computed by one rank, all ranks have the same logits to the last bit and draw the same token. The embedding is whole
where tokens come in: splitting it would cost a third kind of sum a token, to save memory that is read a row at a time.

A share is a small model of its own: `config` is its configuration, `place` says what a tensor of the checkpoint is in
it, and what `models.builder` makes of those becomes one of n by `connect`. Knows no file and opens no connection.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from metal import mx
from models.config import ModelConfig
from models.errors import CheckpointError, ConfigError
from models.families import FAMILIES, described, family
from models.gemma3 import PICTURES
from models.layers import AnyLinear, Embedding, Linear, Norm, Product, QuantizedLinear
from models.mlp import MLP, Mixture
from models.transformer import Transformer

Array = mx.array
WAYS = ("tensor", "pipeline")
LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.(.+)$")
EXPERT = {"w1": "gate", "w3": "up", "w2": "down", "input_linear": "gate_up", "output_linear": "down"} | {
    f"{part}_proj": part for part in ("gate", "up", "down")
}


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
class Share:
    """What rank `rank` of `ranks` holds of a model of configuration `whole`."""

    whole: ModelConfig
    config: ModelConfig  # of what this rank computes
    way: str
    rank: int
    ranks: int
    names: Mapping[str, str]  # our name of a part -> the checkpoint's, below a layer
    top: Mapping[str, str]
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
        """What the checkpoint's tensor `name` is called here, and which values of it; None if it is not held here."""
        if name.startswith(PICTURES):
            return None
        layer = LAYER.search(name)
        if layer is None:
            return self._top(name)
        if self.way == "tensor":
            return name, self._cut(layer[2], turned=self.whole.family == "gpt2" and not name.startswith("model."))
        index = int(layer[1]) - self.first
        if not 0 <= index < self.config.layers:
            return None
        return f"{name[: layer.start(1)]}{index}{name[layer.end(1) :]}", None

    def settings(self, packing: Mapping[str, Any]) -> dict[str, Any]:
        """A quantisation's settings by the names that the modules have here."""
        found = {}
        for key, value in packing.items():
            if not isinstance(value, dict | bool):
                found[key] = value
            elif (placed := self.place(f"{key}.weight")) is not None:
                found[placed[0].removesuffix(".weight")] = value
        return found

    def _top(self, name: str) -> tuple[str, Cut | None] | None:
        module, _, kind = name.rpartition(".")
        rows = Cut(-1 if kind == "bias" else -2, self.whole.vocab_size, (self.vocabulary(self.rank),))
        if _is(module, self.top["head"]):
            return None if self.whole.tied else (name, rows)
        if _is(module, self.top["embed"]) and not self.takes_tokens:
            return (f"{self.top['head']}.{kind}", rows) if self.whole.tied else None
        if "positions" in self.top and _is(module, self.top["positions"]) and not self.takes_tokens:
            return None
        return name, None

    def _cut(self, tail: str, turned: bool) -> Cut | None:
        """Which values of a layer's tensor are this rank's; `turned` where matrices are stored [in, out]."""
        module, _, kind = tail.rpartition(".")
        found = self._split(module)
        if found is None or kind == "global_scale":
            return None
        across, length, ranges = found
        if kind == "bias":  # of what is summed: one rank's counts (`connect`)
            return None if across else Cut(-1, length, ranges)
        return Cut(-1 if across != turned else -2, length, ranges)

    def _split(self, module: str) -> tuple[bool, int, tuple[tuple[int, int], ...]] | None:
        """How a product's matrix [out, in] is split: across its columns or its rows, of which length, where."""
        c, rank, ranks = self.whole, self.rank, self.ranks
        part = next((ours for ours, theirs in self.names.items() if theirs == module), None)
        experts = self.names.get("experts", "")
        hidden, width = self.hidden["mlp"], c.mlp_width
        if experts and c.experts and module.startswith(experts.rpartition(".")[0] + ".") and part is None:
            part = EXPERT.get(module.rpartition(".")[2])
            hidden, width = self.hidden["experts"], c.experts.width
        q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
        mine, theirs = _part(q, rank, ranks), _part(kv, rank, ranks)
        if part == "qkv" and c.family == "gpt_neox":  # a head's q, k and v stand together
            return False, 3 * q, ((3 * mine[0], 3 * mine[1]),)
        match part:
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


def share(config: Mapping[str, Any], tensors: Iterable[str], way: str, rank: int, ranks: int, unit: int = 1) -> Share:
    """What rank `rank` of `ranks` holds of a checkpoint: its configuration as Hugging Face has it, its tensors' names.

    Values that share a scale come `unit` at a time and are not parted. ConfigError, with what to do, for a model that
    so many ranks cannot share in this way.
    """
    kind, packing = config.get("model_type"), config.get("quantization_config")
    if kind not in FAMILIES:
        raise ConfigError(f"{kind} runs by mlx-lm's own class, which cannot be shared between ranks: run it on one")
    if way == "tensor" and isinstance(packing, Mapping) and packing.get("quant_method") in ("awq", "gptq"):
        raise ConfigError(f"the packing of {packing['quant_method']} cannot be split: use --parallel pipeline")
    found, whole = family(str(kind)), described(config, tensors)
    names, top = found.names(whole), found.top
    if way == "pipeline":
        return _by_layers(whole, names, top, rank, ranks)
    if whole.kv_heads % ranks:
        raise ConfigError(
            f"{whole.family} has {whole.kv_heads} key/value heads, which {ranks} ranks cannot share evenly: "
            f"start {_fitting(whole.kv_heads)} ranks, or use --parallel pipeline"
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
    return Share(whole, part, way, rank, ranks, names, top, hidden)


def _by_layers(whole: ModelConfig, names: Mapping[str, str], top: Mapping[str, str], rank: int, ranks: int) -> Share:
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
    return Share(whole, config, "pipeline", rank, ranks, names, top, {}, start)


def connect(model: Transformer, share: Share, group: Any) -> Transformer:
    """The model with what its ranks exchange in it; `group` is of `mx.distributed`."""
    exchange = Exchange(group)
    if share.way == "tensor":
        for block in model.blocks:
            block.out = _summed(block.out, share, exchange)
            if isinstance(block.mlp, Mixture):
                block.mlp = cast(MLP, Summed(block.mlp, exchange))
            else:
                block.mlp.down = _summed(block.mlp.down, share, exchange)
    else:
        if share.rank:
            model.embed = Received(share.config.width, model.embed.dtype, share.rank - 1, exchange)
        following = share.rank + 1 if share.rank + 1 < share.ranks else None
        model.norm = cast(Norm, Passed(model.norm, following, exchange))
    out = _rows(model.out, *share.vocabulary(share.rank)) if share.config.tied else model.out
    sizes = [end - start for start, end in map(share.vocabulary, range(share.ranks))]
    model.out = cast(AnyLinear, Gathered(out, sizes, exchange))
    return model


class Exchange:
    """The ranks' collectives, one after another: each waits for the one before it, on every rank in the same order.

    Nothing else orders them: two sums that do not need each other, or two passes that were queued together, would be
    evaluated as each rank's graph has it, and the ranks would add up what does not belong together.
    """

    __slots__ = ("_last", "group")

    def __init__(self, group: Any) -> None:
        self.group = group  # of `mx.distributed`
        self._last: Array | None = None

    def sum(self, x: Array) -> Array:
        """The sum of what each rank has."""
        return self._then(mx.distributed.all_sum(self._after(x), group=self.group))

    def gather(self, x: Array) -> Array:
        """What each rank has, along a new first axis."""
        return self._then(mx.distributed.all_gather(self._after(x[None]), group=self.group))

    def send(self, x: Array, rank: int) -> None:
        """x to a neighbour, before whatever comes next."""
        self._then(mx.distributed.send(self._after(x), rank, group=self.group))

    def receive(self, shape: Sequence[int], dtype: mx.Dtype, rank: int) -> Array:
        """What a neighbour sends."""
        if self._last is not None:
            mx.eval(self._last)  # receiving has no input that could wait
        return self._then(mx.distributed.recv(shape, dtype, rank, group=self.group))

    def _after(self, x: Array) -> Array:
        return x if self._last is None else cast(Array, mx.depends(x, self._last))

    def _then(self, y: Array) -> Array:
        self._last = y
        return y


class Summed:
    """The sum over the ranks of what each makes of its part."""

    __slots__ = ("exchange", "part")

    def __init__(self, part: Product, exchange: Exchange) -> None:
        self.part, self.exchange = part, exchange

    def __call__(self, x: Array) -> Array:
        return self.exchange.sum(self.part(x))

    def onto(self, residual: Array, x: Array) -> Array:
        """residual + self(x)."""
        return residual + self(x)


class Gathered:
    """Logits of the whole vocabulary, of which each rank computes those of its rows of the head."""

    __slots__ = ("exchange", "part", "sizes")

    def __init__(self, part: Product, sizes: list[int], exchange: Exchange) -> None:
        self.part, self.sizes, self.exchange = part, sizes, exchange

    def __call__(self, x: Array) -> Array:
        y = self.part(x)
        most = max(self.sizes)
        if y.shape[-1] < most:
            y = mx.pad(y, [(0, 0)] * (y.ndim - 1) + [(0, most - y.shape[-1])])
        parts = self.exchange.gather(y)  # [ranks, ..., rows]
        if min(self.sizes) == most:
            return mx.moveaxis(parts, 0, -2).reshape(*x.shape[:-1], -1)
        return mx.concatenate([part[..., :size] for part, size in zip(parts, self.sizes, strict=True)], axis=-1)


class Received(Embedding):
    """The hidden states that the rank before sends, in place of an embedding."""

    __slots__ = ("exchange", "source", "width")

    def __init__(self, width: int, dtype: mx.Dtype, source: int, exchange: Exchange) -> None:
        super().__init__(mx.array([]), dtype)
        self.width, self.source, self.exchange = width, source, exchange

    def __call__(self, tokens: Array) -> Array:
        return self.exchange.receive((*tokens.shape, self.width), self.dtype, self.source)


class Passed:
    """The final norm, after the hidden states went through the ranks that follow and came back to all."""

    __slots__ = ("exchange", "following", "norm", "weight")

    def __init__(self, norm: Norm, following: int | None, exchange: Exchange) -> None:
        self.norm, self.following, self.exchange = norm, following, exchange
        self.weight = norm.weight

    def __call__(self, x: Array) -> Array:
        if self.following is not None:
            self.exchange.send(x, self.following)
            x = mx.zeros(x.shape, x.dtype)
        return self.norm(self.exchange.sum(x))

    def arrays(self) -> dict[str, Array]:
        return self.norm.arrays()


def _summed(part: Product, share: Share, exchange: Exchange) -> Product:
    """The part's sum over the ranks; its bias counts once."""
    if share.rank:
        cast(AnyLinear, part).bias = None
    return Summed(part, exchange)


def _rows(head: AnyLinear, start: int, end: int) -> AnyLinear:
    """Rows of a head that is an embedding's whole table: a view."""
    if isinstance(head, QuantizedLinear):
        return QuantizedLinear(head.packed.map(lambda part: part[start:end]))
    return Linear(head.rows()[start:end])


def _hidden(width: int, rank: int, ranks: int, unit: int) -> tuple[int, int]:
    """The hidden units that are a rank's, in whole groups."""
    if width % unit or width // unit < ranks:
        raise ConfigError(
            f"{width} hidden units in groups of {unit} do not give each of {ranks} ranks one: use --parallel pipeline"
        )
    start, end = _part(width // unit, rank, ranks)
    return start * unit, end * unit


def _part(count: int, rank: int, ranks: int) -> tuple[int, int]:
    """What is a rank's of `count` things; the shares differ by one at most."""
    return count * rank // ranks, count * (rank + 1) // ranks


def _moved(part: tuple[int, int], by: int) -> tuple[int, int]:
    return part[0] + by, part[1] + by


def _is(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


def _fitting(count: int) -> str:
    """The numbers of ranks that divide this many heads."""
    *most, last = [str(n) for n in range(1, min(count, 64) + 1) if count % n == 0]
    return f"{', '.join(most)} or {last}" if most else last
