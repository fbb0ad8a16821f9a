"""Quantisation: a checkpoint -> a folder that mlx-lm and this program load, and what it lost.

One layer is in memory at a time: read, scaled, packed, written, and left behind, while the measuring text goes through
it as it was and as it became. What is written is under another name until all of it is there.
"""

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.base.arrays import kl as divergence
from likely.engine.base.errors import NotFinite, ParameterError
from likely.engine.base.files.lock import aside
from likely.engine.base.numerics import damaged_at, not_finite
from likely.engine.base.statistics.comparison import Comparison
from likely.engine.weights.quantize import measure
from likely.engine.weights.quantize.measure import QuantizationReport, forward, logprobs
from likely.engine.weights.quantize.pack import Recorder, pack, packable, record, rounded, scale_channels
from likely.engine.weights.quantize.plan import BITS, Settings, allocate, lowest
from likely.engine.weights.quantize.source import Arrays, Source
from likely.engine.weights.sources import array_file
from likely.engine.weights.sources.fetch.progress import Report as Progress
from likely.engine.weights.sources.fetch.progress import disk_errors, require_space, silent
from likely.engine.weights.sources.model_info import ModelInfo, weight_bytes
from likely.metal import mx
from likely.models.families import registry
from likely.models.modules.linear import LayerNorm, Linear, Norm, RMSNorm
from likely.models.modules.parts import ModelPart
from likely.models.modules.weights import PackedLayout


def quantize(
    info: ModelInfo, target: Path, settings: Settings, *, text: str | None = None, progress: Progress = silent
) -> QuantizationReport:
    """Write the model of `info` to the new folder `target` by `settings`; what that costs, measured on a text.

    Half of the text's windows calibrate (`auto`, `awq`), the other half measure. Raises ParameterError where `target`
    exists or no matrix can be packed, CheckpointError where the model cannot be quantised, NotFinite where it gives no
    numbers, LockTaken where another process writes `target`; then nothing is written.
    """
    _check_new(target)
    source = Source(info)
    tokens = measure.windows(source.tokenizer, source.shape, text)
    with disk_errors(target.parent, "--to"), aside(target, "quantize", "--to") as partial:
        _check_new(target)  # by another process
        require_space(target.parent, info.nbytes, "--to")
        plan = _auto(source, settings, tokens[::2][:2], progress) if settings.recipe == "auto" else None
        out = _Folder(source, partial, settings.layout)
        rounding = _Rounding(source, out, settings, plan)
        for layers in _reading(source, [rounding], tokens):
            progress("quantising", *layers)
        report = rounding.report(target)
        out.close()
        os.replace(partial, target)
    return report


def widths(
    info: ModelInfo, settings: Settings, *, text: str | None = None, progress: Progress = silent
) -> list[QuantizationReport]:
    """Reports of what each number of bits of BITS would take and cost, measured as `quantize` does, fewest first.

    Nothing is written.
    Errors as `quantize`; ParameterError for settings that say the bits themselves.
    """
    pieces = measuring(info, settings, text=text)
    while True:
        try:
            progress("quantising", *next(pieces))
        except StopIteration as end:
            reports: list[QuantizationReport] = end.value
            return reports


def measuring(
    info: ModelInfo, settings: Settings, *, text: str | None = None
) -> Generator[tuple[int, int], None, list[QuantizationReport]]:
    """`widths`, which it returns, a layer at a time: yields how many of all are done."""
    if settings.recipe or settings.mode != "affine":
        said = f"recipe {settings.recipe}" if settings.recipe else f"mode {settings.mode}"
        raise ParameterError(f"{said} says the bits itself: leave it out, or --bits all")
    source = Source(info)
    tokens = measure.windows(source.tokenizer, source.shape, text)
    every = [replace(settings, bits=bits) for bits in BITS]
    roundings = [_Rounding(source, _Folder(source, None, each.layout), each) for each in every]
    yield from _reading(source, roundings, tokens)
    return [rounding.report() for rounding in roundings]


def _check_new(target: Path) -> None:
    if target.exists():
        raise ParameterError(f"{target} exists already: give another folder or remove it")


def matrices(parts: Sequence[ModelPart], arrays: Arrays, layout: PackedLayout) -> dict[str, str]:
    """Path -> role, for the parts of a layer that can be packed."""
    large = [part for part in parts if part.kind != "norm"]
    return {part.path: part.role for part in large if packable(arrays[f"{part.path}.weight"], layout)}


def _reading(source: Source, roundings: Sequence["_Rounding"], tokens: mx.array) -> Iterator[tuple[int, int]]:
    """Read the model a layer at a time, round each as every rounding says, and have both read the text held out: yields
    how many layers of all are done."""
    layers = source.shape.layers
    held, calibration = tokens[1::2], tokens[::2]
    table = source.top("embed")[f"{source.path('embed')}.weight"]
    positions = source.top("positions") if "positions" in source.parts else {}
    x = _finite(source, _embed(source, table, held), 0)
    scaled = any(rounding.settings.awq for rounding in roundings)
    activations = _embed(source, table, calibration) if scaled else None
    for rounding in roundings:
        rounding.embed(table, positions, held)
        yield 0, layers
    del table, positions
    for i in range(layers):
        yield i, layers
        arrays = source.layer(i)
        layer = source.block(i, dict(arrays))
        before = x
        x = _finite(source, forward(layer, x), i + 1)
        inputs: dict[str, Recorder] = {}
        if activations is not None:
            inputs = record(layer.block)
            # one window's inputs, then the others without the recorders' interest in them
            following = [forward(layer, activations[n : n + 1]) for n in range(len(activations))]
            activations = mx.concatenate(following)
        parts = layer.parts
        del layer
        for rounding in roundings:
            rounding.layer(i, dict(arrays), parts, inputs, before, x)
        del arrays, before, inputs
        mx.clear_cache()
    yield layers, layers
    role = "embed" if source.shape.tied else "head"
    last, head = source.top("norm"), source.top(role)[f"{source.path(role)}.weight"]
    for rounding in roundings:
        rounding.head(dict(last), head, x, held)
        yield layers, layers


class _Rounding:
    """An approximation of a model: what its tensors become, and how it reads a text beside the model."""

    def __init__(
        self, source: Source, out: "_Folder", settings: Settings, plan: Mapping[str, PackedLayout] | None = None
    ) -> None:
        self.source, self.out, self.settings, self.plan = source, out, settings, plan or {}
        self.errors: dict[str, float] = {}
        self.score = Comparison(["reverse_kl", "same_top"])
        self._y = mx.zeros(0)  # what the text has become in it so far

    def _layout(self, path: str, role: str, layer: int | None = None) -> PackedLayout:
        return self.plan.get(path) or self.settings.choose(path, layer, self.source.shape.layers, role)

    def embed(self, table: mx.array, positions: Arrays, tokens: mx.array) -> None:
        """The table that embeds, and learned positions, which stay as they are."""
        path = self.source.path("embed")
        how = self._layout(path, "embed")
        packed = packable(table, how)
        self._y = _embed(self.source, rounded(table, how) if packed else table, tokens)
        first = pack(path, table, how) if packed else {f"{path}.weight": table}
        weights = table.size + sum(a.size for a in positions.values())
        self.out.write(first | positions, {path: how} if packed else {}, weights)

    def layer(
        self, i: int, arrays: Arrays, parts: Sequence[ModelPart], inputs: Mapping[str, Recorder], before: mx.array,
        after: mx.array,
    ) -> None:  # fmt: skip
        """A layer's tensors, and what it makes of the text; the model's own makes `after` of `before`."""
        weights = sum(a.size for a in arrays.values())
        if self.settings.awq:
            scale_channels(arrays, parts, self.source.shape, inputs, self.out.default)
        roles = matrices(parts, arrays, self.out.default)
        chosen = {path: self._layout(path, role, i) for path, role in roles.items()}
        for path, how in chosen.items():
            arrays |= pack(path, arrays.pop(f"{path}.weight"), how)
        twin = self.source.block(i, dict(arrays))
        added = forward(twin, before) - after
        whole = mx.maximum(mx.sum((after - before) ** 2), 1e-20)
        self.errors[f"layer {i}"] = float(mx.sqrt(mx.sum(added**2) / whole))
        self._y = forward(twin, self._y)
        self.out.write(arrays, chosen, weights)

    def head(self, last: Arrays, head: mx.array, x: mx.array, tokens: mx.array) -> None:
        """The norm and the head, written and read by both: what each says of every token."""
        source = self.source
        role = "embed" if source.shape.tied else "head"
        path = source.path(role)
        how = self._layout(path, role)
        packed = packable(head, how)
        small = rounded(head, how) if packed else head
        norm = _norm(source, last)
        if not source.shape.tied:
            last |= pack(path, head, how) if packed else {f"{path}.weight": head}
        own = packed and not source.shape.tied
        weights = source.shape.width + (0 if source.shape.tied else head.size)
        self.out.write(last, {path: how} if own else {}, weights)
        for n, window in enumerate(tokens):
            p, q = (logprobs(_logits(source, norm, table, z[n])) for table, z in ((head, x), (small, self._y)))
            if not np.isfinite(p[:, 0]).all():
                raise damaged_at(source.info.name, f"in the text's window {n + 1} (the head is the first)")
            if not np.isfinite(q[:, 0]).all():
                raise NotFinite(
                    "what was quantised gives NaN where the model does not: take more bits, or larger groups"
                )
            self.score.add(p, q, np.asarray(window))

    def report(self, target: Path | None = None) -> QuantizationReport:
        """Its figures. ParameterError where nothing could be packed."""
        if not self.out.packed:
            raise ParameterError(
                f"no matrix of {self.source.info.name} has rows of whole groups of {self.out.default.group_size}, so "
                "there is nothing to quantise: give a smaller --group, or --gguf f16"
            )
        kl, perplexities = self.score.estimate("reverse_kl"), self.score.perplexity
        return QuantizationReport(
            path=target,
            weight_bits=8 * self.out.nbytes / self.out.weights,
            nbytes=self.out.nbytes,
            nbytes_before=weight_bytes(self.source.info),
            tokens=self.score.tokens,
            predicted=self.score.predicted,
            kl=kl.mean,
            kl_interval=kl.within(0.0).interval,
            flips=1 - self.score.estimate("same_top").mean,
            perplexity=perplexities[1],
            perplexity_before=perplexities[0],
            cost=self.score.cost,
            errors=self.errors,
            bits=self.settings.layout.bits,
        )


def _auto(source: Source, settings: Settings, tokens: mx.array, progress: Progress) -> dict[str, PackedLayout]:
    """Layouts that the budget buys: every matrix is rounded alone, and the KL that it causes at the end decides.

    All the models with one matrix rounded go through the layers side by side, so that every layer is read once.
    """
    low, layers = lowest(settings.layout), source.shape.layers
    count = len(tokens)
    sizes: dict[str, int] = {}
    embed = source.path("embed")
    table = source.top("embed")[f"{embed}.weight"]
    streams = [_finite(source, _embed(source, table, tokens), 0)]
    order = [""]
    if packable(table, low):
        sizes[embed] = table.size
        order.append(embed)
        streams.append(_embed(source, rounded(table, low), tokens))
    del table
    x = mx.concatenate(streams)  # [streams * N, T, C]
    for i in range(layers):
        progress("finding out what matters", i, layers)
        arrays = source.layer(i)
        layer = source.block(i, dict(arrays))
        rounds = []
        for path, role in matrices(layer.parts, arrays, low).items():
            if role == "router":
                continue
            name = f"{path}.weight"
            sizes[path] = arrays[name].size
            other = source.block(i, {**arrays, name: rounded(arrays[name], low)})
            rounds.append(forward(other, x[:count]))
            order.append(path)
        x = mx.concatenate([_finite(source, forward(layer, x), i + 1), *rounds])
        mx.eval(x)
        del layer, arrays, rounds
        mx.clear_cache()
    norm = _norm(source, source.top("norm"))
    path = source.path("embed" if source.shape.tied else "head")
    head = source.top("embed" if source.shape.tied else "head")[f"{path}.weight"]
    small = rounded(head, low) if packable(head, low) else None
    costs = dict.fromkeys(sizes, 0.0)
    if small is not None and not source.shape.tied:
        sizes[path], costs[path] = head.size, 0.0
    for n in range(count):
        exact = logprobs(_logits(source, norm, head, x[n]))
        for s, name in enumerate(order[1:], 1):
            own = small if name == path and small is not None else head
            rounded_logp = logprobs(_logits(source, norm, own, x[s * count + n]))
            costs[name] += float(divergence(exact, rounded_logp, np, fast=True).mean()) / count
        if path not in order and small is not None:
            rounded_logp = logprobs(_logits(source, norm, small, x[n]))
            costs[path] += float(divergence(exact, rounded_logp, np, fast=True).mean()) / count
    return allocate(costs, sizes, settings.layout)


def _embed(source: Source, table: mx.array, tokens: mx.array) -> mx.array:
    x = table[tokens].astype(mx.float32) * source.shape.embed_scale
    if "positions" in source.parts:
        (positions,) = source.top("positions").values()
        x = x + positions[: tokens.shape[1]].astype(mx.float32)
    mx.eval(x)
    return x


def _finite(source: Source, x: mx.array, layer: int) -> mx.array:
    """The output of a layer; NotFinite where that is no number: no cost can be told of it."""
    if where := not_finite(x, layer):
        raise damaged_at(source.info.name, where)
    return x


def _norm(source: Source, arrays: Arrays) -> Norm:
    path, shape = source.path("norm"), source.shape
    weight = arrays[f"{path}.weight"].astype(mx.float32)
    if shape.norm == "layer":
        return LayerNorm(weight, arrays[f"{path}.bias"].astype(mx.float32), shape.eps)
    return RMSNorm(1 + weight if shape.norm == "rms+1" else weight, shape.eps)


def _logits(source: Source, norm: Norm, head: mx.array, hidden: mx.array) -> mx.array:
    """[T, V] of hidden states [T, C] before the final norm."""
    shape = source.shape
    logits = Linear(head.astype(mx.float32))(norm(hidden)) * shape.logit_scale
    if shape.logit_softcap is not None:
        logits = mx.tanh(logits / shape.logit_softcap) * shape.logit_softcap
    return logits


class _Folder:
    """A model folder that grows a shard at a time; without a path its bytes are counted alone."""

    def __init__(self, source: Source, path: Path | None, default: PackedLayout) -> None:
        self.source, self.path, self.default, self.shards = source, path, default, source.shape.layers + 2
        self.nbytes = self.weights = self.packed = self._written = 0
        self._place: dict[str, str] = {}
        self._own: dict[str, Any] = {}

    def write(self, arrays: Arrays, chosen: Mapping[str, PackedLayout], weights: int) -> None:
        """One shard; `chosen` are the paths that are packed in it, `weights` the numbers that it stands for."""
        arrays = self.source.spelled(arrays)
        chosen = {self.source.spell(path): layout for path, layout in chosen.items()}
        self._written += 1
        name = f"model-{self._written:05}-of-{self.shards:05}.safetensors"
        if self.path is not None:
            array_file.write(self.path / name, arrays, {"format": "mlx"})
        self._place |= dict.fromkeys(arrays, name)
        self.nbytes += sum(a.nbytes for a in arrays.values())
        self.weights += weights
        self.packed += len(chosen)
        self._own |= {path: asdict(layout) for path, layout in chosen.items() if layout != self.default}
        for array in arrays:
            if array.endswith(".weight") and arrays[array].ndim >= 2 and array.removesuffix(".weight") not in chosen:
                self._own[array.removesuffix(".weight")] = False

    def close(self) -> None:
        """The index, the config and the tokenizer."""
        assert self.path is not None
        index = {"metadata": {"total_size": self.nbytes}, "weight_map": self._place}
        (self.path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
        packing = {**asdict(self.default), **self._own}
        config = {**registry.common(self.source.config), "quantization": packing, "quantization_config": packing}
        self.source.write_tokenizer(self.path)
        (self.path / "config.json").write_text(json.dumps(config, indent=2))
