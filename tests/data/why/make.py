"""Makes `cases.json`: why SmolLM2 says one token and not another, by transformers in float64.

Needs torch, transformers, gguf and accelerate, which this project does not depend on; where they are installed:

    python tests/data/why/make.py SmolLM2-135M-Instruct.Q4_1.gguf

The weights are those of the file as gguf expands them. Everything is in nats.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils.quantization_config import GgufConfig

BLUE = "Blue light, which has a shorter wavelength than other colors (red),"
CHAT = "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\nThe sky is"
# a text, a target and a foil: two that are no favourites, the favourite and its runner-up, a rare one and an absurd one
CASES = [(BLUE, " reflects", " of"), ("The capital of France is", None, None), (CHAT, " green", " Monday")]
HERE = Path(__file__).parent


class Inside:
    """A model, and what its last pass added to the residual stream at the last position."""

    def __init__(self, model: Any) -> None:
        self.model, self.size = model, model.config.head_dim
        self.heads: list[torch.Tensor] = []  # each [H, C]
        self.mlp: list[torch.Tensor] = []  # each [C]
        self.stream: list[torch.Tensor] = []  # each [C]: the embedding, then after each layer
        inner = model.model
        inner.embed_tokens.register_forward_hook(lambda _, x, y: self.stream.append(y[0, -1]))
        for layer in inner.layers:
            layer.self_attn.o_proj.register_forward_hook(lambda out, x, y: self.heads.append(self._heads(out, x[0])))
            layer.mlp.register_forward_hook(lambda _, x, y: self.mlp.append(y[0, -1]))
            layer.register_forward_hook(lambda _, x, y: self.stream.append(y[0, -1]))

    def _heads(self, out: Any, x: torch.Tensor) -> torch.Tensor:
        """What each head alone writes, [H, C]."""
        return torch.einsum("hd,chd->hc", x[0, -1].view(-1, self.size), out.weight.view(len(out.weight), -1, self.size))

    def logprobs(self, ids: list[int]) -> torch.Tensor:
        self.heads, self.mlp, self.stream = [], [], []
        return self.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)


def found(inside: Inside, ids: list[int], target: int | None, foil: int | None) -> dict[str, Any]:
    """Both tokens' log-probabilities and ranks by layer, who wrote their difference, and what `target` loses without
    each token."""
    whole = inside.logprobs(ids)
    order = whole.argsort(descending=True).tolist()
    named = target is not None
    target = order[0] if target is None else target
    foil = order[1] if foil is None else foil
    pair = [target, foil]
    head, norm = inside.model.lm_head.weight, inside.model.model.norm
    lens = norm(torch.stack(inside.stream)) @ head.T
    last = inside.stream[-1]
    scale = norm.weight * torch.rsqrt(last.square().mean() + norm.variance_epsilon)
    direction = scale * (head[target] - head[foil])
    embedding, heads, mlp = ((torch.stack(x) @ direction) for x in (inside.stream[:1], inside.heads, inside.mlp))
    left = [whole[target] - inside.logprobs(ids[:i] + ids[i + 1 :])[target] for i in range(len(ids))]
    return {
        "ids": ids, "target": target, "foil": foil, "named": named, "logprobs": rounded(whole[pair]),
        "ranks": [[1 + int((row > row[token]).sum()) for token in pair] for row in lens],
        "embedding": rounded(embedding)[0], "heads": rounded(heads), "mlp": rounded(mlp),
        "left_out": rounded(torch.stack(left)),
    }  # fmt: skip


def rounded(values: torch.Tensor) -> Any:
    return (values * 1e6).round().div(1e6).tolist()


if __name__ == "__main__":
    file = Path(sys.argv[1])
    how = {"gguf_file": file.name, "dtype": torch.float64, "quantization_config": GgufConfig(dequantize=True)}
    model = transformers.LlamaForCausalLM.from_pretrained(file.parent, attn_implementation="eager", **how).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    inside, cases = Inside(model), []
    with torch.no_grad():
        for text, *words in CASES:
            pair = [tokenizer(word).input_ids if word else [None] for word in words]
            assert all(len(ids) == 1 for ids in pair), pair
            cases.append(found(inside, tokenizer(text).input_ids, *(ids[0] for ids in pair)))
    document = {"transformers": transformers.__version__, "torch": torch.__version__, "cases": cases}
    (HERE / "cases.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")
