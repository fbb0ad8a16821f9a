"""The host's share of a token: what Python does for each, where the device would do the rest at the same time.

    python benchmarks/host.py [--rounds 5] [--tokens 24]

A Qwen3 of 28 layers, so narrow that its products are nothing, with its vocabulary of 151,936, on a machine that says it
is a Mac: the paths are Metal's, and a launch of a kernel is a custom function of as many arrays, which costs Python no
less than a kernel. mlx's own fast kernels, which a GPU takes as one operation and a CPU as six to nine, are one too,
for both sides. What a token left is replaced by arrays that are there, as if computed, before the next is timed.
Processor time of one thread, nothing computed: the graph of the layers, that of the draw (the head, the token, the row
as an observer needs it), what is observed of the token (from numbers that the simulator has made once), its text and
the event that the chat gets. Beside it, by turns, what mlx-lm's Python does for a token: model, log-probabilities,
sampler, detokeniser. mx.compile is off for both; "compiled" are the layers where it is on and attention ours, "compiled
by stock" where it is mlx's own, with an array of what is seen. Milliseconds, lower quartiles; one JSON line.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

CONFIG: dict[str, Any] = {
    "model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 28, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "rms_norm_eps": 1e-6, "vocab_size": 151_936,
    "max_position_embeddings": 2048, "rope_theta": 1e6, "tie_word_embeddings": True,
}  # fmt: skip
CHIP = {"device_name": "Apple M4", "architecture": "applegpu_g16g", "memory_size": 16 << 30}
AIM_MS, AIM_RATIO = 3.0, 0.8
PROMPT = 64


@contextmanager
def stubbed() -> Iterator[None]:
    """Inside, this is a Mac whose kernels cost Python what kernels cost, and give zeros."""
    from likely.metal import device, mx
    from likely.models.modules import linear

    @mx.custom_function
    def one(x: Any, *_: Any) -> Any:
        return mx.abs(x)

    def norm(x: Any, weight: Any, eps: float, **_: Any) -> Any:
        return one(x) if weight is None else one(x, weight)

    def rope(x: Any, *_: Any, freqs: Any = None, **__: Any) -> Any:
        return one(x) if freqs is None else one(x, freqs)

    def attention(q: Any, k: Any, v: Any, **_: Any) -> Any:
        return one(q, k, v)

    def make(**_: Any) -> Callable[..., list[Any]]:
        launches: dict[Any, Any] = {}

        def launch(*, inputs: list[Any], output_shapes: Any, output_dtypes: Any, **options: Any) -> list[Any]:
            shapes = tuple(map(tuple, output_shapes)), tuple(map(str, output_dtypes))
            if shapes not in launches:

                @mx.custom_function
                def zeros(*_: Any) -> tuple[Any, ...]:
                    return tuple(mx.zeros(s, d) for s, d in zip(output_shapes, output_dtypes, strict=True))

                launches[shapes] = zeros
            return list(launches[shapes](*inputs))

        return launch

    swaps: list[tuple[Any, str, Any]] = [
        (mx.fast, "metal_kernel", make),
        (mx.fast, "rms_norm", norm),
        (mx.fast, "rope", rope),
        (mx.fast, "scaled_dot_product_attention", attention),
        (linear, "GPU", True),
        (mx.metal, "is_available", lambda: True),
        (mx, "default_device", lambda: mx.gpu),
        (mx, "device_info", lambda *_: CHIP),
    ]
    originals = [(place, name, getattr(place, name)) for place, name, _ in swaps]
    try:
        for place, name, other in swaps:
            setattr(place, name, other)
        device._device.cache_clear()
        yield
    finally:
        for place, name, other in originals:
            setattr(place, name, other)
        device._device.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()

    from likely.metal import mx  # isort: skip  the tuned BLAS before mlx_lm imports mlx
    import mlx_lm.models.qwen3 as qwen3
    import numpy as np
    from mlx.utils import tree_flatten
    from mlx_lm.models.cache import make_prompt_cache
    from mlx_lm.sample_utils import make_sampler
    from mlx_lm.tokenizer_utils import load

    import likely.models as models
    from benchmarks.peers import export
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler
    from likely.engine.decode.loop.text_stream import TextStream
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.sampling.transforms import Temperature, TopP
    from likely.engine.text.tokenizer import from_folder
    from likely.metal import dispatch
    from likely.metal.malloc import giving_back
    from likely.metal.simulator import simulated
    from likely.models.native_path.compiled import CompiledStep

    with giving_back():  # as after a load
        theirs = qwen3.Model(qwen3.ModelArgs.from_dict(CONFIG))
        theirs.set_dtype(mx.bfloat16)
        mx.eval(theirs.parameters())
    with stubbed(), giving_back():
        net = models.build(CONFIG, dict(tree_flatten(theirs.parameters())))
    recipe = SamplingConfig((TopP(0.9), Temperature(0.7)))
    draw_theirs = make_sampler(temp=0.7, top_p=0.9)
    ids = list(range(1, PROMPT + 1))
    with tempfile.TemporaryDirectory() as folder:
        exported = export(Path(folder), "float16")
        tokenizer, detokenizer = from_folder(exported), load(exported).detokenizer
    words = tokenizer.encode("What a token costs the host is told by many a word, and by 1,234 digits. " * 4)

    def read() -> tuple[Branches, Sampler]:
        place = Branches(net, net.make_cache())
        list(place.read(ids))
        return place, Sampler.start(recipe, place.ids)

    place, sampler = read()
    place._logits = mx.random.normal((1, CONFIG["vocab_size"]), mx.bfloat16, 0, 9, key=mx.random.key(0))
    with simulated():  # a row as the device gives it, of a distribution as sharp as a model's
        (drawn_row,) = sampler.draw(place)
        mx.eval(drawn_row.arrays)
        assert drawn_row.kernel is not None and drawn_row.kernel.observed and not drawn_row.spilled
    tokens = [int(i) for i in np.random.default_rng(0).integers(0, CONFIG["vocab_size"], options.tokens)]
    times: dict[str, list[float]] = {}

    def timed(name: str, act: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.process_time()
        result = act(*arguments)
        times.setdefault(name, []).append(1e3 * (time.process_time() - begin))
        return result

    compiled = {"compiled": CompiledStep(net, mx.compile), "compiled by stock": CompiledStep(net, mx.compile)}

    def ours(layers: str) -> None:
        place, sampler = read()
        path: Any = nullcontext()
        if layers in compiled:
            path = dispatch.forced("stock" if "stock" in layers else "ours")
            place.step = compiled[layers].hidden
        text = TextStream(tokenizer, ())
        with stubbed(), path:
            drawn = mx.array(1, dtype=mx.int32)
            held = [(mx.zeros_like(c.keys), mx.zeros_like(c.values)) for c in place.cache.layers]
            mx.eval(held, drawn)

            for token, word in zip(tokens, words, strict=False):
                timed(layers, place.feed, [drawn])
                following = timed("draw", lambda: sampler.draw(place, flying=[drawn]))
                assert following[0].kernel is not None
                step = timed("observe", drawn_row.step, place.ids[0])
                timed("text", lambda step: list(text.push(step, 0.0)), replace(step, token=word))
                place.settle([token])
                place._hidden[-1], place._logits = place._hidden[0][:, :1], None
                for layer, (keys, values) in zip(place.cache.layers, held, strict=True):
                    layer.keys, layer.values = keys, values
                del following

    def peer() -> None:
        cache = make_prompt_cache(theirs)
        detokenizer.reset()

        def graph(y: Any) -> Any:
            logits = theirs(y[None], cache=cache)[:, -1, :]
            logprobs = logits - mx.logsumexp(logits, keepdims=True)
            return draw_theirs(logprobs), logprobs.squeeze(0)

        def text(word: int) -> str:
            detokenizer.add_token(word)
            return str(detokenizer.last_segment)

        y, _ = graph(mx.array(ids))
        mx.eval(y)
        held = [(mx.zeros_like(c.keys), mx.zeros_like(c.values)) for c in cache]
        mx.eval(held)
        with stubbed():
            for _, word in zip(tokens, words, strict=False):
                timed("mlx-lm graph", graph, y)
                timed("mlx-lm text", text, word)
                for layer, (keys, values) in zip(cache, held, strict=True):
                    layer.keys, layer.values = keys, values

    for _ in range(options.rounds):
        ours("layers")
        peer()
        mx.enable_compile()
        for layers in compiled:
            ours(layers)
        mx.disable_compile()
    assert [step.traces for step in compiled.values()] == [1, 1]
    parts_ms = {name: round(float(np.quantile(spent, 0.25)), 3) for name, spent in times.items()}
    other = parts_ms["mlx-lm graph"] + parts_ms["mlx-lm text"]
    after = sum(parts_ms[name] for name in ("draw", "observe", "text"))
    plain, fast = parts_ms["layers"] + after, parts_ms["compiled"] + after
    figures = {"ms": round(plain, 3), "compiled_ms": round(fast, 3), "aim_ms": AIM_MS}
    figures |= {"of_mlx_lm": round(plain / other, 3), "compiled_of_mlx_lm": round(fast / other, 3), "aim": AIM_RATIO}
    print(json.dumps({"benchmark": "host", **vars(options), **figures, "parts": parts_ms}))


if __name__ == "__main__":
    main()
