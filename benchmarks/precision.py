"""How exact the log-probability of a sentence is that packed weights give, and what that costs.

    python benchmarks/precision.py --text FILE [--sentences 200] [--rounds 5]

Of FILE (WikiText-2, raw) sentences are taken at even distances and read without a token before them; where it is
missing nothing is run, and the line says so. The reference is the definition of a Llama in float64 (numpy), with the
weights of SmolLM2's file as the `gguf` package expands them. Both ways of reading take turns:

    drawing    activations as whoever draws has them, of 16 bits where kernels round
    measuring  of 24 bits: as `eval`, `explain`, the text view and `diff` read

Figures, for each: errors of a sentence's and of a token's log-probability, nats; the lower quartile of the processor
time of reading all sentences, and the ratio of the two. One JSON line at the end, with the processor's name.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

SHORTEST, LONGEST = 40, 400  # letters of a sentence
LIMITS = {"within_95": 2e-3, "within": 1e-2, "ratio": 1.5}  # nats a sentence, and of drawing's time


class Reference:
    """A Llama of a GGUF file in float64: log-probabilities of a text by the definition."""

    def __init__(self, path: Path) -> None:
        import gguf

        reader = gguf.GGUFReader(path)
        fields = {name.rpartition(".")[2]: field.contents() for name, field in reader.fields.items()}
        self.layers, self.heads, self.kv_heads, self.eps, self.theta = (
            fields[name]
            for name in ("block_count", "head_count", "head_count_kv", "layer_norm_rms_epsilon", "freq_base")
        )
        self.size = fields["embedding_length"] // self.heads
        self.weights = {
            tensor.name.removesuffix(".weight"): np.asarray(
                gguf.dequantize(tensor.data, tensor.tensor_type), np.float64
            ).reshape(tensor.shape[::-1])
            for tensor in reader.tensors
        }

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weights[name]

    def turned(self, x: np.ndarray) -> np.ndarray:
        """Heads [T, H, D], whose neighbours are pairs: GGUF orders the rows of q and k so (arXiv:2104.09864)."""
        t, _, size = x.shape
        angle = np.arange(t)[:, None] / self.theta ** (np.arange(0, size, 2) / size)
        pairs = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[:, None]
        return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        """log p of each token but the first, in nats."""
        w, t = self.weights, len(ids) - 1
        x = w["token_embd"][list(ids[:-1])]
        hidden = np.triu(np.full((t, t), -np.inf), 1)
        for i in range(self.layers):
            at = f"blk.{i}."
            y = self.norm(x, at + "attn_norm")
            q, k, v = ((y @ w[f"{at}attn_{part}"].T).reshape(t, -1, self.size) for part in "qkv")
            q, k = self.turned(q), self.turned(k)
            k, v = (np.repeat(part, self.heads // self.kv_heads, axis=1) for part in (k, v))
            scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1]) + hidden
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            x = x + np.einsum("hij,jhd->ihd", weights, v).reshape(t, -1) @ w[at + "attn_output"].T
            y = self.norm(x, at + "ffn_norm")
            gate = y @ w[at + "ffn_gate"].T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ w[at + "ffn_up"].T)) @ w[at + "ffn_down"].T
        z = self.norm(x, "output_norm") @ w.get("output", w["token_embd"]).T
        z -= z.max(-1, keepdims=True)
        logp: np.ndarray = z[np.arange(t), list(ids[1:])] - np.log(np.exp(z).sum(-1))
        return logp


def sentences(text: str, count: int) -> list[str]:
    """So many of a text's, at even distances."""
    chosen = [s.strip() + " ." for line in text.splitlines() if "=" not in line for s in line.split(" . ")]
    chosen = [s for s in chosen if SHORTEST <= len(s) <= LONGEST]
    return chosen[:: max(1, len(chosen) // count)][:count]


def quartile(times: Sequence[float]) -> float:
    return float(np.quantile(times, 0.25))


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not options.text.exists():
        print(json.dumps({"benchmark": "precision", "not run": f"there is no {options.text}"}))
        return

    from likely.engine.measure.evaluate.scoring.likelihood import Request, loglikelihoods
    from likely.engine.weights.sources.checkpoint import load
    from likely.metal import packed
    from likely.models.native_path.native import NativeModel

    checkpoint = load("smollm2")
    model, library = checkpoint.model, packed.load()
    assert isinstance(model, NativeModel) and library is not None
    texts = sentences(options.text.read_text(encoding="utf-8"), options.sentences)
    ids = [checkpoint.tokenizer.encode(text) for text in texts]
    reference = Reference(checkpoint.info.path)
    want = [reference.logprobs(text) for text in ids]
    del reference
    requests = [Request((tuple(text),), (1,)) for text in ids]
    ways, figures = {"drawing": model.drawing, "measuring": model}, {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            logps = [likelihood.tokens for (likelihood,) in loglikelihoods(way, requests)]
            if turn:  # the first warms up
                seconds[name].append(time.process_time() - began)
                continue
            off = [logp - exact for logp, exact in zip(logps, want, strict=True)]
            sums, tokens = np.abs([errors.sum() for errors in off]), np.concatenate(off)
            figures[name] = {
                "within_95": float(np.quantile(sums, 0.95)),
                "within": float(sums.max()),
                "token_rms": float(np.sqrt((tokens * tokens).mean())),
                "token_most": float(np.abs(tokens).max()),
            }
    for name, times in seconds.items():
        figures[name]["processor_s"] = quartile(times)
    print(
        json.dumps(
            {
                "benchmark": "precision",
                "model": "smollm2",
                "processor": processor(),
                "kernels": library.kernels,
                "sentences": len(ids),
                "tokens": sum(map(len, ids)),
                **figures,
                "ratio": quartile(seconds["measuring"]) / quartile(seconds["drawing"]),
                "limits": LIMITS,
            }
        )
    )


if __name__ == "__main__":
    main()
