"""Layouts of a quantisation: one for all matrices, a recipe by name, or what a budget buys where it matters.

Plain decisions: nothing here touches a tensor.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from likely.engine.base.errors import ParameterError
from likely.models.modules.weights import PackedLayout

DEFAULTS = {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}  # group size and bits
RECIPES = {"mixed_2_6": (2, 6), "mixed_3_4": (3, 4), "mixed_3_6": (3, 6), "mixed_4_6": (4, 6)}  # mlx-lm's names
BITS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings. `recipe` is "", one of RECIPES, or "auto": the same bytes as `bits` for all, spent by need.

    `awq` scales the input channels of each matrix by how active they are (arXiv:2306.00978). ConfigError and
    ParameterError for what mlx has no layout for.
    """

    bits: int | None = None
    group_size: int | None = None
    mode: str = "affine"
    recipe: str = ""
    awq: bool = False

    def __post_init__(self) -> None:
        if self.recipe and self.recipe not in (*RECIPES, "auto"):
            raise ParameterError(f"recipe must be one of {', '.join(RECIPES)} or auto, got {self.recipe!r}")
        if self.recipe and self.mode != "affine":
            raise ParameterError(f"recipe {self.recipe} mixes affine layouts, got mode {self.mode}: leave out one")
        if self.recipe in RECIPES and self.bits is not None:
            raise ParameterError(f"recipe {self.recipe} says the bits itself: leave out --bits {self.bits}")
        self.layout  # noqa: B018  checked now, not when the first layer has been read

    @property
    def layout(self) -> PackedLayout:
        """The layout of what no recipe singles out."""
        group, bits = DEFAULTS.get(self.mode, (64, 4))
        bits = RECIPES[self.recipe][0] if self.recipe in RECIPES else self.bits or bits
        return PackedLayout(self.group_size or group, bits, self.mode)

    def choose(self, path: str, layer: int | None, layers: int, role: str) -> PackedLayout:
        """The layout of a matrix by its place: `role` is our name of it, `layer` None outside the layers."""
        layout = self.layout
        if role == "router":
            return PackedLayout(64, 8, "affine")
        if self.recipe not in RECIPES:
            return layout
        # the layers where llama.cpp's Q4_K_M keeps more bits: the first and last eighth and every third between
        eighth = layers // 8
        more = layer is not None and (layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2)
        if role == "head" or (more and role in ("v", "qkv", "down", "experts.down")):
            return PackedLayout(layout.group_size, RECIPES[self.recipe][1], layout.mode)
        return layout


def lowest(layout: PackedLayout) -> PackedLayout:
    """The layout that sensitivities are measured at: one step below the one whose bytes are the budget."""
    below = [bits for bits in BITS if bits < layout.bits]
    return PackedLayout(layout.group_size, below[-1] if below else layout.bits, layout.mode)


def allocate(costs: Mapping[str, float], sizes: Mapping[str, int], layout: PackedLayout) -> dict[str, PackedLayout]:
    """A layout for each matrix that together take no more than `layout` for all would, and cost little.

    `costs` are the KL (nats) of each matrix alone at `lowest(layout)`; a bit more divides it by 4, as it does the mean
    square of the rounding. Greedy: the next step up goes where it saves most a bit, as long as it fits.
    """
    base = lowest(layout)
    bits = dict.fromkeys(costs, base.bits)
    budget = sum(sizes.values()) * (layout.bits - base.bits)

    def step(path: str) -> tuple[float, str, int] | None:
        higher = [b for b in BITS if b > bits[path]]
        if not higher:
            return None
        now, then = (max(costs[path], 0.0) * 4.0 ** (base.bits - b) for b in (bits[path], higher[0]))
        return (then - now) / (sizes[path] * (higher[0] - bits[path])), path, higher[0]

    heap = [entry for path in costs if (entry := step(path))]
    heapq.heapify(heap)
    while heap:
        _, path, target = heapq.heappop(heap)
        price = sizes[path] * (target - bits[path])
        if price > budget:
            continue
        budget -= price
        bits[path] = target
        if entry := step(path):
            heapq.heappush(heap, entry)
    return {path: PackedLayout(layout.group_size, b, layout.mode) for path, b in bits.items()}
