"""Unquantised checkpoint of which one layer at a time is read, built and let go again.

Knows how a family's tensors become a block, nothing of how they are quantised.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import likely.models as models
from likely.engine.base.errors import CheckpointError
from likely.engine.text.tokenizer import from_folder, from_gguf, published
from likely.engine.weights.sources import gguf, safetensors
from likely.engine.weights.sources.gguf import mapping, weights
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.hf_folder import stored_dtype
from likely.engine.weights.sources.model_info import ModelInfo, quantization_of, read_config, weight_files
from likely.metal import mx
from likely.models.configuration import rope_scaling
from likely.models.configuration.keys import BUFFERS
from likely.models.configuration.rotation import Rotation
from likely.models.families import gemma3
from likely.models.families.builder import Builder
from likely.models.families.registry import family
from likely.models.modules.block import Block
from likely.models.modules.parts import ModelPart, of_block
from likely.models.modules.weights import Tensors

NAMED_OUTSIDE = ("eos_token_id", "bos_token_id", "pad_token_id", "tie_word_embeddings", "torch_dtype", "dtype")
NOT_COPIED = ("config.json", "model.safetensors.index.json", "pretrain.json", "metrics.jsonl")
Arrays = dict[str, mx.array]


@dataclass(frozen=True)
class Layer:
    """One layer, ready to be run, and its parts."""

    block: Block
    rotations: Sequence[Rotation]
    parts: list[ModelPart]


class Source:
    """The tensors of a checkpoint by layer. Of a model with an eye, the text model.

    CheckpointError for a model that is quantised already or whose family is not written here.
    """

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self._files: dict[str, Path] = {}  # tensor, as the file calls it -> where it is
        self._header: gguf.Header | None = None
        if info.path.is_file():
            header = gguf.read_header(info.path)
            self._arch = mapping.architecture(header)
            self._header = header
            self.config = mapping.config(header, lambda tensor: weights.read_values(header, tensor))
            self.tokenizer = from_gguf(header.metadata)
            self.dtype = mx.bfloat16 if self._arch.model_type.startswith("gemma") else mx.float16
            names = {tensor: mapping.weight_name(tensor, self._arch) for tensor in header.tensors}
        else:
            self.config = read_config(info.path)
            self.tokenizer = from_folder(info.path)
            if quantization_of(self.config):
                raise CheckpointError(f"{info.name} is quantised already: begin with the original model")
            self.dtype = stored_dtype(info.path)
            self._files = {name: file for file in weight_files(info.path) for name in safetensors.read_header(file)}
            names = {name: name for name in self._files}
        model_type = str(self.config.get("model_type"))
        if model_type not in models.FAMILIES:
            raise CheckpointError(f"likely quantize cannot write a {model_type}: use mlx_lm.convert for this family")
        if model_type == "gemma3":
            self.config = _text_model(self.config)
        self._family = family(model_type)
        # our name of each tensor -> the file's
        named = {self._family.rename(name): stored for stored, name in names.items() if name is not None}
        self._stored = {ours: stored for ours, stored in named.items() if ours and not ours.endswith(BUFFERS)}
        if f"{self._family.top['head']}.weight" in self._stored:
            self.config = {"tie_word_embeddings": False, **self.config}
        if info.rope:
            self.config = {**self.config, rope_scaling.KEY: info.rope}
        self.shape = models.configure(self.config)

    def layer(self, index: int) -> Arrays:
        """The tensors of one layer, read now, in the checkpoint's dtype."""
        return self._read(f"{self._family.top['layer'].format(index)}.")

    def top(self, *parts: str) -> Arrays:
        """The tensors of some of `parts`."""
        return {name: a for part in parts for name, a in self._read(f"{self._family.top[part]}.").items()}

    def spelled(self, arrays: Arrays) -> Arrays:
        """The arrays under the names and in the order of rows that mlx-lm keeps them in."""
        kind = self._family
        return {kind.spell(name): kind.arrange(name, array, self.shape) for name, array in arrays.items()}

    def spell(self, path: str) -> str:
        """The name that mlx-lm has for a path of ours."""
        return self._family.spell(path)

    @property
    def parts(self) -> tuple[str, ...]:
        """Roles of the parts outside of the layers."""
        positions = ("positions",) if self.shape.learned_positions else ()
        return ("embed", *positions, "norm") if self.shape.tied else ("embed", *positions, "norm", "head")

    def path(self, part: str) -> str:
        """Path of one of the parts outside the layers."""
        return self._family.top[part]

    def block(self, index: int, arrays: Arrays) -> Layer:
        """The layer that these tensors make, packed ones included, in float32."""
        floats = {name: a if a.dtype in (mx.uint32, mx.uint8) else a.astype(mx.float32) for name, a in arrays.items()}
        names = self._family.names(self.shape)
        builder = Builder(self.shape, names, Tensors(floats), False)
        block = builder.block(index)
        return Layer(block, builder.rotations, list(of_block(block, names, index)))

    def write_tokenizer(self, folder: Path) -> None:
        """Everything but config, weights and what a training left, as the checkpoint has it; from a GGUF file, what its
        metadata says."""
        if self._header is None:
            for file in sorted(self.info.path.iterdir()):
                weighty = file.suffix in (".safetensors", ".gguf", ".bin", ".pth", ".pt")
                if file.is_file() and not weighty and file.name not in NOT_COPIED:
                    shutil.copyfile(file, folder / file.name)
            return
        eos = self._header.metadata.get("tokenizer.ggml.eos_token_id")
        published.write(self.tokenizer, folder, None if eos is None else int(eos))

    def _read(self, prefix: str) -> Arrays:
        wanted = [name for name in self._stored if name.startswith(prefix)]
        arrays = dict(self._from_gguf(wanted) if self._header is not None else self._from_files(wanted))
        if self._family.prepare is not None:
            self._family.prepare(arrays, self.shape)
        mx.eval(list(arrays.values()))
        return arrays

    def _from_files(self, wanted: list[str]) -> Iterator[tuple[str, mx.array]]:
        stored = [self._stored[name] for name in wanted]
        for file in sorted({self._files[name] for name in stored}):
            lazy = mx.load(str(file))
            assert isinstance(lazy, dict)
            yield from ((name, lazy[name]) for name in stored if self._files[name] == file)

    def _from_gguf(self, wanted: list[str]) -> Iterator[tuple[str, mx.array]]:
        assert self._header is not None
        tensors = {self._stored[name]: self._header.tensors[self._stored[name]] for name in wanted}
        heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        part = replace(self._header, tensors=tensors)
        return weights.read_weights(part, self._arch, heads, Precision(self.dtype, packed=False))


def _text_model(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a Gemma 3 with an eye as that of its text model, with what such a one leaves out."""
    text = config.get("text_config")
    if not isinstance(text, dict):
        raise CheckpointError(f"config: text_config must be a table, got {text!r}")
    outside = {key: config[key] for key in NAMED_OUTSIDE if key in config}
    return {**gemma3.DEFAULTS, **text, **outside}
