"""Few rows: what a training of `likely tune` makes of small data sets (`benchmarks/row_sets.py`), at what cost.

    python benchmarks/few_rows.py [--model smollm2] [--sets facts sums] [--set rate=0.001 --set rank=16]

Each set is trained on whole, by default or with the options that are set, and examined as every training is: rows given
back, held-out rows before and after, other answers that changed. One JSON line a set, with processor seconds of the
training and of the examination.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    from benchmarks.row_sets import SETS
    from likely.app.results.training_verdict import sentence
    from likely.engine.train.assess.examination import examine
    from likely.engine.train.open_run import open_run
    from likely.engine.train.run.trainer import train
    from likely.engine.weights.adapters.config import configure

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--set", dest="options", action="append", default=[], metavar="OPTION=VALUE")
    asked = parser.parse_args()
    options = {name: json.loads(value) for name, _, value in (option.partition("=") for option in asked.options)}
    for name in asked.sets:
        with tempfile.TemporaryDirectory() as folder:
            for part, rows in zip(("train", "test"), SETS[name](), strict=True):
                (Path(folder) / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            how = {"model": asked.model, "data": folder, "out": f"{folder}/adapter", "valid": 0.0, "eval_every": 0,
                   "save_every": 0, **options}  # fmt: skip
            run = open_run(configure(how)).run
            run.made_as = ""  # a passing one: nobody asks for it by name
            began = time.process_time()
            for _ in train(run):
                pass
            trained = time.process_time()
            (*_, verdict) = examine(run)
            ended = time.process_time()
        assert verdict is not None
        others, held = verdict.others, verdict.held
        assert others is not None and held is not None
        figures = {
            "set": name, "options": options, "rate": run.config.rate, "epochs": run.config.epochs, "steps": run.steps,
            "sentence": sentence(verdict), "held_nats": [held.loss_before.mean, held.loss.mean],
            "kl": others.kl.mean, "others_right": [others.right_before.mean, others.right.mean],
            "train_s": round(trained - began, 1), "examine_s": round(ended - trained, 1),
        }  # fmt: skip
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
