"""Results of evaluations made by hand: tasks of every form by two models, with odd rows, in a store of their own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from likely.app.store.evaluations import Evaluation, Evaluations
from likely.engine.measure.evaluate.tasks.tasks import Problem, Result

MODELS = ("one", "two")


def asked(form: str, model: str, **protocol: Any) -> dict[str, Any]:
    return {"protocol": {"chat": False, **protocol}, "form": form, "source": form, "weights": model, "likely": "1"}


def evaluation(task: str, model: str, form: str, **protocol: Any) -> Evaluation:
    return Evaluation(
        task,
        model,
        asked(form, model, **protocol),
        ("likely", "eval", task, "-M", model),
        {"task": "/none/x", "shots": None, "cluster": None},
    )


CHOICES = {  # log-probabilities of choices, the first of which is right but in the last item; clusters
    "one": ([-1.0, -2.0], [-3.0, -2.0], [-1.0, -4.0], [-2.0, -2.5], [-5.0, -1.0], [-1.0, -9.0]),
    "two": ([-1.0, -3.0], [-1.0, -2.0], [-1.5, -4.0], [-2.0, -2.5], [-5.0, -4.0], [-1.0, -9.0]),
}
ANSWERS = {"one": (1.0, 0.0, 0.0), "two": (1.0, 1.0, 0.0)}
TEXTS = {"one": ((40.0, 20), (30.0, 10)), "two": ((44.0, 20), (31.0, 10))}


def choice(number: int, lls: list[float], gold: int) -> Result:
    import math

    shares = [math.exp(ll) for ll in lls]
    right = float(max(range(len(lls)), key=lambda i: lls[i]) == gold)
    measures = {"acc": right, "confidence": max(shares) / sum(shares)}
    return Result(number, None, measures, {"loglikelihoods": lls, "gold": gold, "min_20": float(number)})


def fill(store: Evaluations) -> list[Evaluation]:
    """Every task by each model, as a run of each gives it."""
    found = []
    for model in MODELS:
        choices, answers = evaluation("choose", model, "choices"), evaluation("ask", model, "questions", seed=3)
        texts = evaluation("read", model, "documents", window=0)
        store.begin(choices)
        rows = [choice(i, lls, int(i == 5)) for i, lls in enumerate(CHOICES[model])]
        odd = [
            Problem(7, "empty", "row 8 has no text, got ''"), Problem(9, "empty", "row 10 has no text, got 'x'"),
            Problem(2, "duplicate", "stands twice", True),
        ]  # fmt: skip
        store.keep(choices, rows, odd if model == "one" else ())
        store.begin(answers)
        said = [
            Result(i, f"c{i % 2}", {"exact": x}, {"answers": [f"it is {i}\n<b>"]}) for i, x in enumerate(ANSWERS[model])
        ]
        store.keep(answers, said)
        store.begin(texts)
        nats = [
            Result(i, None, {"nats": x, "tokens": n, "bytes": 2.0 * n}, {}) for i, (x, n) in enumerate(TEXTS[model])
        ]
        store.keep(texts, nats)
        for each, more in ((choices, {}), (answers, {"about": "odd <questions>"}), (texts, {})):
            found.append(replace(each, protocol={"form": each.asked["form"], "chat": False, **more}))
    return found


def store_in(folder: Path) -> Evaluations:
    return Evaluations(folder / "evaluations.db")
