"""Quality and speed of masked diffusion against its number of passes, on a language whose law is known.

    python benchmarks/denoising_steps.py [--steps 800] [--texts 400] [--seed 0] [--svg FILE]

Texts are 16 letters of 8; each is the one before or the one after its neighbour in a ring: log 8 + 15 log 2 nats, and
which letters two places far apart may have depends on each other. A diffusion model and an autoregressive one, the
judge, of one shape are trained as many steps on the same texts. For each number of passes: the share of texts that are
of the language (Wilson's interval), MMD^2 and MAUVE over spectra of bigrams, Vendi, distinct bigrams, the judge's
perplexity and beside it the entropy of a text's own letters, nats, which is low where texts repeat themselves; tokens a
second of processor time. `real` are texts of the language, `judge` those that the judge draws. One JSON line each.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

LETTERS, LENGTH, START, MASK = 8, 16, 8, 9
PASSES = (1, 2, 4, 8, 16)


def language(count: int, seed: int) -> np.ndarray:
    """Texts [count, LENGTH]."""
    random = np.random.default_rng(seed)
    moves = random.choice([-1, 1], (count, LENGTH - 1))
    first = random.integers(LETTERS, size=(count, 1))
    return np.concatenate([first, first + moves.cumsum(axis=1)], axis=1) % LETTERS


def right(texts: np.ndarray) -> np.ndarray:
    """Whether each text is of the language."""
    valid: np.ndarray = np.isin(np.diff(texts, axis=1) % LETTERS, (1, LETTERS - 1)).all(axis=1)
    return valid


def trained(rows: np.ndarray, options: argparse.Namespace, *, diffusion: bool) -> Any:
    """A model of the rows by its own factorisation."""
    from likely.engine.train.data.samples import TrainingSample
    from likely.engine.train.pretrain import parametrization as widths
    from likely.engine.train.pretrain.config import configure
    from likely.engine.train.pretrain.shape import ModelShape, config_of
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters.config import Config
    from likely.models.families import registry

    described = config_of(ModelShape("llama", 2, 64, 4), MASK + 1, LENGTH + 1)
    model = registry.blank(described | ({"mask_token_id": MASK} if diffusion else {}))
    plan = widths.parametrisation(configure({}), model)
    widths.start(model, plan, options.seed)
    samples = [TrainingSample((START, *row), (True,) * (LENGTH + 1), "") for row in rows.tolist()]
    settings = Config(objective="mdlm" if diffusion else "sft", kind="full", loss="all", length=LENGTH + 1, batch=32,
                      packing=False, steps=options.steps, rate=0.01, optimiser="muon", seed=options.seed, floor=0.1,
                      warmup=options.steps // 20, eval_every=0, save_every=0)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        groups = widths.groups(model, plan, "muon", 0.0)
        run = trainer.prepare(model, settings, trainer.Set(samples), Path(folder), groups=groups)
        run.keep = lambda run, folder: None
        for event in trainer.train(run):
            if isinstance(event, trainer.Stepped) and event.step % 100 == 0:
                print(f"diffusion {diffusion} {event.step} {event.smooth:.3f}", file=sys.stderr, flush=True)
    return model


def judged(judge: Any, texts: np.ndarray) -> float:
    """Perplexity of texts for the judge, by letter."""
    from likely.engine.base import arrays
    from likely.metal import mx

    read = np.concatenate([np.full((len(texts), 1), START), texts[:, :-1]], axis=1).astype(np.int32)
    logp = arrays.logprobs(np.array(judge(mx.array(read)), np.float64), np)
    return math.exp(-float(np.take_along_axis(logp, texts[..., None], -1).mean()))


def drawn(judge: Any, count: int, seed: int) -> np.ndarray:
    """Texts that the judge draws."""
    from likely.engine.base import arrays
    from likely.metal import mx

    random, texts = np.random.default_rng(seed), np.full((count, 1), START)
    for _ in range(LENGTH):
        logp = arrays.logprobs(np.array(judge(mx.array(texts.astype(np.int32))), np.float64)[:, -1, :LETTERS], np)
        texts = np.concatenate([texts, np.argmax(logp + random.gumbel(size=logp.shape), axis=1)[:, None]], axis=1)
    return texts[:, 1:]


def by_diffusion(model: Any, passes: int, count: int) -> tuple[np.ndarray, float]:
    """Texts, and processor seconds."""
    from likely.engine.diffusion.denoiser import ModelDenoiser
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.sampling.trace.unmasking import Unmasking, fill

    denoiser, texts = ModelDenoiser(model), []
    begun = time.process_time()
    for seed in range(count):
        ids = [START, *[MASK] * LENGTH]
        for step in fill(denoiser.logits, ids, MASK, Unmasking(steps=passes), SamplingConfig(), seed=seed):
            for one in step.unmasked:
                ids[one.token.position] = one.token.token
        texts.append(ids[1:])
    return np.array(texts), time.process_time() - begun


def measures(texts: np.ndarray, real: np.ndarray, judge: Any) -> dict[str, Any]:
    """All that is said of texts."""
    from likely.engine.base.statistics.estimates import share
    from likely.engine.measure.evaluate.figures import sample_metrics, samples

    words, others = ([[chr(97 + int(i)) for i in text] for text in some] for some in (texts, real))
    metrics = sample_metrics.of_features(samples.spectrum(words), samples.spectrum(others))
    metrics |= sample_metrics.of_texts(words, others)
    names = ("mmd2", "mauve", "vendi", "distinct_2")
    rounded = {name: [round(metrics[name].mean, 4), round(metrics[name].error, 4)] for name in names}
    of_language = share(right(texts).astype(float).tolist())
    counts = np.stack([(texts == letter).mean(axis=1) for letter in range(LETTERS)], axis=1)
    entropy = -np.where(counts > 0, counts * np.log(np.maximum(counts, 1e-9)), 0.0).sum(axis=1).mean()
    return {
        "right": [round(of_language.mean, 4), *(round(x, 4) for x in of_language.interval)],
        **rounded,
        "perplexity": round(judged(judge, texts), 3),
        "entropy": round(float(entropy), 3),
    }


def picture(rows: list[dict[str, Any]]) -> str:
    """Two pictures against the number of passes: the share of right texts and MAUVE, and tokens a second."""
    from likely.app.results.report import COLOURS
    from likely.app.results.scaling_figures import HEIGHT, WIDTH, Axes

    passes = [row["passes"] for row in rows]
    speeds = [row["tokens_per_s"] for row in rows]
    across = (min(passes), max(passes))
    quality = Axes("texts that are right (band: 95 %) and MAUVE (line)", across, (0.0, 1.0), "passes")
    low, high = (np.array([row["right"][i] for row in rows]) for i in (1, 2))
    parts = [quality.area(np.array(passes), low, high, COLOURS[0])]
    parts += [quality.dot(row["passes"], row["right"][0], COLOURS[0], 4, f"right {row['right'][0]}") for row in rows]
    parts.append(quality.line(passes, [row["mauve"][0] for row in rows], COLOURS[1]))
    speed = Axes("tokens a second of processor time", across, (0.0, 1.1 * max(speeds)), "passes")
    fast = [speed.line(passes, speeds, COLOURS[0])]
    fast += [speed.dot(n, y, COLOURS[0], 4, f"{y} tokens/s") for n, y in zip(passes, speeds, strict=True)]
    style = '<style>text{font:12px sans-serif;fill:#223}</style><rect width="100%" height="100%" fill="#fff"/>'
    right_of = f'x="{WIDTH}"'
    both = quality.drawn(parts) + speed.drawn(fast, right_of)
    box = f'width="{2 * WIDTH}" height="{HEIGHT}" viewBox="0 0 {2 * WIDTH} {HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{style}{both}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    rows, real = language(20_000, options.seed), language(options.texts, options.seed + 1)
    judge = trained(rows, options, diffusion=False)
    model = trained(rows, options, diffusion=True)
    print(json.dumps({"of": "real", **measures(language(options.texts, options.seed + 2), real, judge)}), flush=True)
    print(json.dumps({"of": "judge", **measures(drawn(judge, options.texts, 0), real, judge)}), flush=True)
    points = []
    by_diffusion(model, 2, 4)
    for passes in PASSES:
        texts, seconds = by_diffusion(model, passes, options.texts)
        speed = texts.size / seconds
        figures = measures(texts, real, judge) | {"tokens_per_s": round(speed, 1)}
        points.append({"of": "diffusion", "passes": passes, **figures})
        print(json.dumps(points[-1]), flush=True)
    if options.svg is not None:
        options.svg.write_text(picture(points))


if __name__ == "__main__":
    main()
