"""Sites of adapters: the matrices of a model, its embedding and its experts, chosen by pattern.

The parts themselves are the model's own list (`models.parts`). Knows nothing of adapters.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from likely.engine.base.errors import ParameterError
from likely.metal import mx
from likely.models import LanguageModel, Transformer
from likely.models.modules.parts import ModelPart
from likely.models.modules.weights import Matrix, PackedLayout, PackedRows
from likely.models.native_path.native import as_graph

EVERYTHING = "*"


def trainable(model: LanguageModel) -> Transformer:
    """The model as a graph, whose parts can be reached; ParameterError where they cannot."""
    if (graph := as_graph(model)) is None:
        raise ParameterError(
            f"training, adapters and fusing need a model of a family that is written here, and {model.config.family} "
            "runs by mlx-lm's own class: choose another model"
        )
    return graph


def sites(model: Transformer) -> list[ModelPart]:
    """Every site of the model: the embedding, the layers in their order, a head that is not the embedding."""
    return [part for part in model.parts() if part.kind != "norm" and part.role != "positions"]


def choose(all_sites: Sequence[ModelPart], layers: int, patterns: Sequence[str], count: int) -> list[ModelPart]:
    """The sites in the last `layers` of `count` layers (-1: all) whose path, name or last part matches a pattern.

    `*` is everything in the layers; embedding and head are chosen by patterns that say more, whatever `layers` is.
    ParameterError for more layers than there are, and for a pattern that matches nothing.
    """
    if layers == 0 or layers < -1 or layers > count:
        raise ParameterError(f"layers must be -1 (all) or 1 to the model's {count}, got {layers}")
    first = 0 if layers == -1 else count - layers
    within = [site for site in all_sites if first <= site.layer < count]
    outside = [site for site in all_sites if not 0 <= site.layer < count]
    chosen = [site for site in within if any(_matches(site, pattern) for pattern in patterns)]
    named = [pattern for pattern in patterns if pattern != EVERYTHING]
    chosen += [site for site in outside if any(_matches(site, pattern) for pattern in named)]
    for pattern in patterns:
        if not any(_matches(site, pattern) for site in (*within, *outside)):
            known = ", ".join(dict.fromkeys(site.name for site in (*within, *outside)))
            raise ParameterError(f"no module matches {pattern!r}; here: {known}")
    return chosen


def _matches(site: ModelPart, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) for text in (site.path, site.name, site.name.rsplit(".", 1)[-1]))


def pack(model: Transformer, bits: int, group_size: int) -> None:
    """Quantise the products and experts of the blocks in place (for QLoRA); what is packed already stays as it is.

    ParameterError where a width is not a multiple of `group_size`.
    """
    plain = [site for site in sites(model) if 0 <= site.layer < model.config.layers and site.layout is None]
    for site in plain:
        if site.width % group_size:
            raise ParameterError(
                f"{site.path} has {site.width} columns: not a multiple of the group size {group_size}; choose 32 or 64"
            )
    for site in plain:
        model.put(site, packed(site.matrix, PackedLayout(group_size, bits, "affine")))
    model.unite()


def packed(matrix: Matrix, layout: PackedLayout) -> PackedRows:
    """A matrix in a layout of mlx's, now; one that is packed stays as it is."""
    if isinstance(matrix, PackedRows):
        return matrix
    arrays = mx.quantize(matrix, layout.group_size, layout.bits, layout.mode)
    mx.eval(*arrays)
    return PackedRows(arrays[0], arrays[1], layout, arrays[2] if len(arrays) > 2 else None)
