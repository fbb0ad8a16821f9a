"""Every family's tiny model shared by the ranks of a ring, against the same model whole: one rank's process.

python -m tests.models.shared WAY [NAME ...]: an object a line, what is off relative to the largest logit, and whether
all ranks have the same bits.
"""

import json
import sys

import likely.models as models
from likely.metal import mx
from likely.models.parallel.exchange import connect
from likely.models.parallel.shard import Sharding, share
from tests.models.oracle import difference, flat, reference, tokens
from tests.models.test_families import SAME

WIDE = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}
PACKED = {  # three groups of hidden units, of which one rank gets two
    "packed llama": SAME["llama biased"] | WIDE,
    "packed phi": SAME["phi 3"] | WIDE | {"partial_rotary_factor": 1.0},
    "packed mixtral": SAME["mixtral"] | WIDE,
}
CASES = SAME | PACKED


def taken(part: Sharding, weights: dict[str, mx.array]) -> dict[str, mx.array]:
    """The values of a checkpoint that a share places, cut in memory."""
    found = {}
    for name, array in weights.items():
        if (placed := part.place(name)) is None:
            continue
        new, cut = placed
        if cut is not None:
            ranges = cut.within(name, array.shape[cut.axis])
            whole = mx.moveaxis(array, cut.axis, 0)
            array = mx.contiguous(mx.moveaxis(mx.concatenate([whole[a:b] for a, b in ranges]), 0, cut.axis))
        found[new] = array
    return found


def main(way: str, names: list[str]) -> None:
    group = mx.distributed.init(strict=True, backend="ring")
    for name in names:
        config, quantization = CASES[name], {"group_size": 32, "bits": 4} if name in PACKED else None
        mx.random.seed(0)  # mlx-lm's biases begin at random
        weights = flat(reference(config, quantization=quantization).parameters())
        whole = models.build(config, dict(weights))
        part = share(config, weights, way, group.rank(), group.size(), 32 if quantization else 1)
        shared = connect(models.build(config, taken(part, weights), share=part), part, group)
        x = tokens(2, 9, config["vocab_size"])
        want, got = whole(x), shared(x)
        cached = []
        for model in (whole, shared):
            cache = model.make_cache()
            parts = [model(x[:, i:j], cache) for i, j in ((0, 6), (6, 8), (8, 9))]  # queued, evaluated together
            cached.append(mx.concatenate(parts, axis=1))
        everywhere = mx.distributed.all_gather(got[None], group=group)
        report = {
            "name": name,
            "off": max(difference(got, want), difference(cached[1], cached[0])),
            "alike": bool(mx.all(everywhere == got)),
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or list(CASES))
