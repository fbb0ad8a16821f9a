"""A model's configuration in our names. Plain data; a family makes it of a published one (`models.families.llama`)."""

from dataclasses import dataclass

from likely.models.configuration.keys import ACTIVATIONS, MOST
from likely.models.configuration.rope import Rope
from likely.models.errors import ConfigError

MAX_HEAD = 4096  # eight times what there is; the tables of rotations are quadratic in it


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in place of a layer's MLP: a router sends each token to `active` of `count`."""

    count: int
    active: int
    width: int  # of one expert's hidden layer
    among: str = "chosen"  # the softmax of the router is over the "chosen" experts or over "all"
    normalise: bool = True  # whether the weights of the chosen sum to 1; always so for "chosen"


@dataclass(frozen=True, slots=True)
class MaskedDiffusion:
    """A model that says at each position which token stands there where it sees the mask.

    It sees both ways: all positions, or with `block` those of its block and of the blocks before (arXiv:2503.09573).
    """

    mask: int  # the token's id
    shifted: bool = False  # what it says of a position stands one before, as in a model that was autoregressive
    block: int = 0  # positions of a block; 0: all are one


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a transformer. C `width`, H `heads`, Hkv `kv_heads`, D `head_size`, V `vocab_size`."""

    family: str
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_width: int
    context: int  # positions it was made for
    eps: float
    windows: tuple[int, ...]  # for each layer: how many positions back it sees, its own included; 0: all
    ropes: tuple[Rope | None, ...]  # for each layer
    scale: float  # of the attention scores
    tied: bool  # the head is the embedding
    norm: str = "rms"  # "rms" | "rms+1", whose weight is stored less one | "layer", with mean and bias
    qk_norm: str = ""  # "head": over each head of q and k; "all": over all heads at once
    activation: str = "silu"
    gated: bool = True  # the MLP is down(activation(gate(x)) * up(x)), else down(activation(up(x)))
    parallel: bool = False  # attention and MLP read the same input
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    softcap: float | None = None  # of the attention scores
    logit_softcap: float | None = None
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    learned_positions: int = 0  # rows of a table of positions that is added to the embedding
    experts: Experts | None = None
    sparse: tuple[bool, ...] = ()  # for each layer: experts in place of the MLP
    diffusion: MaskedDiffusion | None = None  # not p(x_i | x_<i), and every pass is told what positions see

    def check(self) -> "ModelConfig":
        """Itself, if its parts agree with each other."""
        for name in ("vocab_size", "width", "layers", "heads", "kv_heads", "head_size", "mlp_width", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"config: {name} must be 1 or more, got {getattr(self, name)}")
        if self.head_size > MAX_HEAD:
            raise ConfigError(f"config: head_size must be at most {MAX_HEAD}, got {self.head_size}")
        for rope in self.ropes:
            if rope is not None and not 0 < rope.dims <= self.head_size:
                raise ConfigError(f"config: {rope.dims} dimensions of a head of {self.head_size} cannot turn")
        if self.heads % self.kv_heads:
            raise ConfigError(f"config: {self.heads} heads cannot share {self.kv_heads} key/value heads")
        for name in ("windows", "ropes"):
            if len(getattr(self, name)) != self.layers:
                raise ConfigError(f"config: {name} has {len(getattr(self, name))} entries for {self.layers} layers")
        if min(self.windows) < 0:
            raise ConfigError(f"config: a sliding window must be 1 or more, got {min(self.windows)}")
        if self.activation not in ACTIVATIONS.values():
            raise ConfigError(f"config: activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation}")
        if self.diffusion and not 0 <= self.diffusion.mask < self.vocab_size:
            raise ConfigError(
                f"config: mask_token_id must be one of the {self.vocab_size} tokens, got {self.diffusion.mask}"
            )
        if self.diffusion and self.diffusion.block < 0:
            raise ConfigError(f"config: block_size must be 1 or more, got {self.diffusion.block}")
        if self.diffusion and self.diffusion.block and any(self.windows):
            raise ConfigError("config: block_size goes with layers that see all, and this model's windows slide")
        if self.experts and not 1 <= self.experts.active <= self.experts.count:
            raise ConfigError(f"config: {self.experts.active} of {self.experts.count} experts cannot be active")
        if self.experts and self.experts.count > MOST:
            raise ConfigError(f"config: at most {MOST:,} experts expected, got {self.experts.count:,}")
        return self
