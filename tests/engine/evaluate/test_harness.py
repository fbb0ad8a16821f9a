"""Both ways between us and lm-evaluation-harness, over stand-ins of its two base classes.

The package itself gave the same numbers once: benchmarks/log.
"""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate import evaluation, harness
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.tasks import harness_tasks
from likely.engine.measure.evaluate.tasks.tasks import Result, Task, TaskSettings
from tests.engine.evaluate.asked import logprob, session
from tests.fakes import BOS, certain_table, random_table


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The package's modules, with as much in them as is asked for."""
    found = SimpleNamespace(tasks={})
    base, tasks = ModuleType("lm_eval.api.model"), ModuleType("lm_eval.tasks")
    base.LM = type("LM", (), {"rank": 0})  # type: ignore[attr-defined]
    tasks.TaskManager = SimpleNamespace  # type: ignore[attr-defined]
    tasks.get_task_dict = lambda names, _: {name: found.tasks[name] for name in names}  # type: ignore[attr-defined]
    for name, module in (("lm_eval", ModuleType("lm_eval")), ("lm_eval.api", ModuleType("lm_eval.api")),
                         ("lm_eval.api.model", base), ("lm_eval.tasks", tasks)):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    return found


def asked(*args: Any) -> SimpleNamespace:
    return SimpleNamespace(args=args)


def test_we_are_a_model_there(installed: SimpleNamespace) -> None:
    table = random_table(0)
    model = harness.model(session(table), window=8)
    assert model.rank == 0  # of the harness's class
    requests = [asked("Q:", " yes"), asked("Q:", " no"), asked("", "alone"), asked("Other: ", "no")]
    found = model.loglikelihood(requests)
    exact = [logprob(table, [58, *b" yes"]), logprob(table, [58, *b" no"]), logprob(table, [BOS, *b"alone"])]
    exact.append(logprob(table, [58, *b" no"]))  # a space at the end of a context goes to what follows
    assert [each for each, _ in found] == pytest.approx(exact, abs=2e-5)
    texts = ["a text of more than one window", "b", ""]
    rolled = model.loglikelihood_rolling([asked(text) for text in texts])
    assert (
        rolled == pytest.approx([logprob(table, [BOS, *text.encode()]) for text in texts], abs=1e-4) and rolled[2] == 0
    )


def test_the_most_likely_answer_ends_where_it_is_told(installed: SimpleNamespace) -> None:
    model = harness.model(session(certain_table(b":xyz")))
    assert model.loglikelihood([asked(":", "xyz"), asked(":", "xyx")])[0][1] is True
    assert model.loglikelihood([asked(":", "xyx")])[0][1] is False
    assert model.generate_until([asked("say:", {"until": ["z"], "max_gen_toks": 9})]) == ["xy"]
    assert model.generate_until([asked("say:", {"until": "!", "max_gen_toks": 2})]) == ["xy"]
    with pytest.raises(ParameterError, match="do_sample"):
        model.generate_until([asked("say:", {"do_sample": True})])


class HarnessTask:
    """As much of the harness's task as is read."""

    def __init__(self, kind: str, docs: list[dict[str, Any]], **generation: Any) -> None:
        self.OUTPUT_TYPE, self.docs = kind, docs
        self.config = SimpleNamespace(target_delimiter=" ", generation_kwargs=generation)
        self.instances: list[SimpleNamespace] = []

    def doc_to_target(self, doc: dict[str, Any]) -> Any:
        return doc["gold"]

    def build_all_requests(self, **how: Any) -> None:
        assert how == {"limit": None, "rank": 0, "world_size": 1}  # all of it, by one process
        for i, doc in enumerate(self.docs):
            args: list[tuple[Any, ...]] = [(f"Q: {doc.get('q')}\nA:", {})]
            if self.OUTPUT_TYPE == "multiple_choice":
                args = [(f"Q: {doc['q']}\nA:", f" {choice}") for choice in doc["choices"]]
                args += [("", f" {choice}") for choice in doc["choices"]]  # for its mutual information
            elif self.OUTPUT_TYPE == "loglikelihood_rolling":
                args = [(doc["q"],)]
            self.instances += [SimpleNamespace(doc_id=i, doc=doc, args=each) for each in args]


def measured(session: Session, task: Task) -> list[Result]:
    found = [each for each in evaluation.evaluate(session, task, Protocol()) if isinstance(each, Result)]
    return sorted(found, key=lambda each: each.number)


def test_its_tasks_are_tasks_here(installed: SimpleNamespace) -> None:
    table = random_table(0)
    docs = [{"q": f"{i}?", "choices": ["yes", "no", "perhaps"], "gold": i % 3} for i in range(12)]
    installed.tasks["choosing"] = HarnessTask("multiple_choice", docs)
    task = harness_tasks.named("lm_eval:choosing")
    right = 0
    for doc, found in zip(docs, measured(session(table), task), strict=True):
        exact = [logprob(table, [58, *f" {choice}".encode()]) for choice in doc["choices"]]
        assert found.detail["loglikelihoods"] == pytest.approx(exact, abs=2e-5)
        right += int(np.argmax(exact)) == doc["gold"]
    assert sum(each.values["acc"] for each in measured(session(table), task)) == right
    installed.tasks["asking"] = HarnessTask("generate_until", [{"q": "1", "gold": "xyz"}], until=["!"], max_gen_toks=3)
    asking = harness_tasks.named("lm_eval:asking")
    assert asking.settings == TaskSettings(stop=("!",), max_tokens=3)
    assert [each.values["exact"] for each in measured(session(certain_table(b":xyz")), asking)] == [1.0]
    installed.tasks["reading"] = HarnessTask("loglikelihood_rolling", [{"q": "a text", "gold": ""}])
    (read,) = measured(session(table), harness_tasks.named("lm_eval:reading"))
    assert read.values["nats"] == pytest.approx(-logprob(table, [BOS, *b"a text"]), abs=1e-4)


def test_what_it_has_not_is_one_line(installed: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="gives no task nothing"):
        harness_tasks.named("lm_eval:nothing")
    installed.tasks["odd"] = HarnessTask("something_else", [{"q": "", "gold": ""}])
    with pytest.raises(DataError, match=r"something_else.* none that can be asked"):
        harness_tasks.named("lm_eval:odd")


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lm_eval", "lm_eval.tasks", "lm_eval.api", "lm_eval.api.model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ParameterError, match="pip install lm-eval"):
        harness_tasks.named("lm_eval:piqa")
    with pytest.raises(ParameterError, match="pip install lm-eval"):
        harness.model(session(random_table(0)))
