"""Sums with carry by both factorisations: what left-to-right and masked diffusion learn of one language.

    python benchmarks/factorisations.py [--steps 2000] [--seed 0] [--layers 3] [--width 64] [--batch 64] [--asked 500]

Texts are `17+25=042`, nine characters, the operands uniform over 00 to 99: 10,000 texts, whose entropy is 4 log 10
nats (`--digits 1`: `17+8=025`, 1,000 texts, 3 log 10); a fifth is never trained on. One shape, one start, as many steps
on as many texts, by Muon: a model of p(x_i | x_<i), one of masked diffusion, and one that is autoregressive for half of
its steps and is adapted then, its attention both ways after half of the rest and the rate a quarter. Of each, on texts
that were held out: the loss (exact; for diffusion the bound over all masks of a text), and the share of right answers
with Wilson's interval: the sum (`17+25=???`), a digit of the first operand (`1?+25=042`), the operand (`??+25=042`),
all of which have one answer. Left-to-right answers the last two greedily, which sees nothing behind the hole, and by
enumeration: the most probable text of all 10 or 100 fillings, which is its exact posterior. Diffusion fills one mask a
pass, the most confident first, at temperature 0. One JSON line a model.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

CHARACTERS = "0123456789+="
START, MASK = 12, 13  # ids beside the characters
BEFORE = (START, START)  # stands before a text, and is never masked
KINDS = ("autoregressive", "adapted", "diffusion")
HOLES = {"sum": [-3, -2, -1], "digit": [1], "operand": [0, 1]}  # positions of what is asked for


def texts(digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids [N, T] that are trained on, four fifths, and those that are not; `digits` of the second operand."""
    every = [f"{a:02}+{b:0{digits}}={a + b:03}" for a in range(100) for b in range(10**digits)]
    ids = np.array([[CHARACTERS.index(c) for c in text] for text in every], np.int32)
    ids = ids[np.random.default_rng(0).permutation(len(ids))]
    return ids[: len(ids) * 4 // 5], ids[len(ids) * 4 // 5 :]


def blank(options: argparse.Namespace, *, diffusion: bool) -> Any:
    """A random model."""
    from likely.engine.train.pretrain import parametrization as widths
    from likely.engine.train.pretrain.config import configure
    from likely.engine.train.pretrain.shape import ModelShape, config_of
    from likely.models.families import registry

    shape = ModelShape("llama", options.layers, options.width, options.width // 16)
    described = config_of(shape, MASK + diffusion, 16)
    if diffusion:
        described |= {"mask_token_id": MASK, "shifted_logits": True}
    model = registry.blank(described)
    widths.start(model, widths.parametrisation(configure({}), model), options.seed)
    return model


def train(
    model: Any, rows: np.ndarray, options: argparse.Namespace, steps: int, *, share: float = 1.0, anneal: float = 0.0
) -> float:
    """Train the model by its own factorisation at this share of the rate; the processor seconds that it took."""
    from likely.engine.train.data.samples import TrainingSample
    from likely.engine.train.pretrain import parametrization as widths
    from likely.engine.train.pretrain.config import configure
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters.config import Config

    objective = "sft" if model.config.diffusion is None else "mdlm"
    known = (False,) * len(BEFORE)
    samples = [TrainingSample((*BEFORE, *row), (*known, *(True,) * len(row)), "") for row in rows.tolist()]
    settings = Config(objective=objective, kind="full", loss="all", length=16, batch=options.batch,
                      packing=False, steps=steps, rate=share * options.rate, optimiser="muon", seed=options.seed,
                      floor=0.1, warmup=steps // 20, anneal=anneal, eval_every=0, save_every=0)  # fmt: skip
    groups = widths.groups(model, widths.parametrisation(configure({}), model), "muon", 0.0)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = trainer.prepare(model, settings, trainer.Set(samples), Path(folder), groups=groups)
        run.keep = lambda run, folder: None
        for event in trainer.train(run):
            if isinstance(event, trainer.Stepped) and event.step % 200 == 0:
                print(f"{objective} {event.step} {event.smooth:.3f}", file=sys.stderr, flush=True)
    return time.process_time() - begun


class LeftToRight:
    """Answers by p(x_i | x_<i)."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def logprobs(self, ids: np.ndarray) -> np.ndarray:
        """Log p of each character [B, T, V] given those before, of texts [B, T]."""
        from likely.engine.base import arrays
        from likely.metal import mx

        read = np.concatenate([np.tile(np.array(BEFORE, np.int32), (len(ids), 1)), ids[:, :-1]], axis=1)
        logits = np.array(self.model(mx.array(read)), np.float64)[:, len(BEFORE) - 1 :]
        return np.asarray(arrays.logprobs(logits, np))

    def loss(self, ids: np.ndarray) -> float:
        """Nats a text."""
        return -float(np.take_along_axis(self.logprobs(ids), ids[..., None], -1).sum() / len(ids))

    def greedy(self, ids: np.ndarray, hole: Sequence[int]) -> np.ndarray:
        """Texts [B, T] whose hole is filled from left to right by the likeliest character."""
        filled = ids.copy()
        for at in hole:
            filled[:, at] = self.logprobs(filled)[:, at, :START].argmax(-1)
        return filled

    def enumerated(self, ids: np.ndarray, hole: Sequence[int]) -> np.ndarray:
        """Texts [B, T] with the filling, of all digits', that makes the text most probable."""
        n = 10 ** len(hole)
        answers = []
        for text in ids:
            every = np.repeat(text[None], n, axis=0)
            for place, at in enumerate(reversed(hole)):
                every[:, at] = np.arange(n) // 10**place % 10
            logp = np.take_along_axis(self.logprobs(every), every[..., None], -1).sum((1, 2))
            answers.append(every[logp.argmax()])
        return np.stack(answers)


class ByDiffusion:
    """Answers by unmasking."""

    def __init__(self, model: Any) -> None:
        from likely.engine.diffusion.denoiser import ModelDenoiser

        self.denoiser = ModelDenoiser(model)

    def loss(self, ids: np.ndarray) -> float:
        """Nats a text at most: the bound over all masks."""
        from likely.engine.diffusion.bound import exact

        free = [False] * len(BEFORE) + [True] * ids.shape[1]
        read = ([*BEFORE, *text] for text in ids.tolist())
        return math.fsum(exact(self.denoiser.log_probabilities, text, MASK, free) for text in read) / len(ids)

    def filled(self, ids: np.ndarray, hole: Sequence[int]) -> np.ndarray:
        from likely.engine.sampling.trace.step import SamplingConfig
        from likely.engine.sampling.trace.unmasking import Unmasking, fill

        answers = []
        for text in ids:
            canvas = text.copy()
            canvas[list(hole)] = MASK
            whole = [*BEFORE, *canvas.tolist()]
            for step in fill(self.denoiser.logits, whole, MASK, Unmasking(), SamplingConfig(greedy=True)):
                for one in step.unmasked:
                    canvas[one.token.position - len(BEFORE)] = one.token.token
            answers.append(canvas)
        return np.stack(answers)


def share(fill: Callable[[np.ndarray, Sequence[int]], np.ndarray], ids: np.ndarray, hole: Sequence[int]) -> list[float]:
    """How many of the texts come out as they were, with the ends of Wilson's 95 % interval."""
    from likely.engine.base.statistics.estimates import wilson

    right = float((fill(ids, hole) == ids).all(1).mean())
    return [right, *(round(end, 4) for end in wilson(right, len(ids)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="twice as many in all, of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--digits", type=int, default=2, choices=(1, 2), help="of the second operand")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2.0**-5.5)
    parser.add_argument("--share", type=float, default=0.25, help="of the rate, once it is adapted")
    parser.add_argument("--asked", type=int, default=500)
    parser.add_argument("--bounded", type=int, default=50, help="texts of which the bound is")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    rows, held = texts(options.digits)
    questions, steps = held[: options.asked], options.steps
    for kind in options.only:
        model = blank(options, diffusion=kind == "diffusion")
        if kind == "adapted":
            from likely.engine.train.run.adaptation import add_mask

            seconds = train(model, rows, options, steps)
            add_mask(model)
            seconds += train(model, rows, options, steps, share=options.share, anneal=0.5)
        else:
            seconds = train(model, rows, options, 2 * steps)
        figures: dict[str, Any] = {"kind": kind, **vars(options), "processor_s": round(seconds)} | {"only": kind}
        if kind == "autoregressive":
            forward = LeftToRight(model)
            figures["nats_a_text"] = round(forward.loss(questions), 3)
            for name, hole in HOLES.items():
                figures[name] = share(forward.greedy, questions, hole)
                if name != "sum":
                    figures[f"{name} enumerated"] = share(forward.enumerated, questions, hole)
        else:
            by = ByDiffusion(model)
            figures["nats_a_text_at_most"] = round(by.loss(questions[: options.bounded]), 3)
            for name, hole in HOLES.items():
                figures[name] = share(by.filled, questions, hole)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
