"""The executor of a server's requests over sessions of a script: what it asks of them, and when others have a turn."""

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gguf import GGUFWriter

from likely.app.jobs import requests as r
from likely.app.jobs.worker import WORKED
from likely.app.serve.api import openai_requests
from likely.app.serve.bounds import BOUNDS
from likely.app.serve.requests import AnswerOpened, AnswerRequest, DescribeModel, EmbeddingRequest, RequestRefused
from likely.app.serve.serving_jobs import ServedAdapter, ServingJobs
from likely.engine.decode.loop.events import Done, Emitted, Stats, Waiting
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.strategy_table import parse
from likely.engine.sampling.presets import PRESETS, recipe
from likely.engine.weights.recommended import recommended
from tests.fakes import ByteTokenizer
from tests.serve.scripted import step

FACTS = r.ModelFacts("m", 10, (b"a", b"abc"), chat=True, nbytes=10)
END = Done(0, "eot", Stats(1, 0, 1, 0.0, 0.0))


class ScriptedSession:
    """Gives these events, whatever it is asked for, and writes that down."""

    def __init__(self, name: str, events: Sequence[Any] = (), joins: bool = True, bos: int | None = None) -> None:
        self.events = list(events)
        self.facts = replace(FACTS, name=name)
        self.tokenizer = ByteTokenizer()
        self.tokenizer.bos = bos
        self.tokenizer.fingerprint = "bytes"  # type: ignore[attr-defined]
        self.model = SimpleNamespace(
            make_cache=lambda: SimpleNamespace(joins=joins),
            rotations=(),
            hidden=None,
            config=SimpleNamespace(width=BOUNDS.coordinates // 2),
        )
        self.pool = SimpleNamespace(step=SimpleNamespace(hidden=None), reading=None)
        self.reload = True
        self.asked: list[tuple[list[int], dict[str, Any]]] = []
        self.changed: list[tuple[str, str, float]] = []
        self.forgotten = 0

    def generate(self, ids: list[int], control: Any, **more: Any) -> Iterator[Any]:
        self.asked.append((ids, more | {"recipe": control.recipe}))
        return iter(self.events)

    def check(self, ids: Sequence[int]) -> None: ...

    def scoring(self, ids: Sequence[int]) -> Generator[int, None, list[Any]]:
        yield len(ids)
        return [step(0, position=i) for i, _ in enumerate(ids)]

    def adapt(self, change: str, what: str, weight: float) -> None:
        self.changed.append((change, what, weight))

    def forget(self) -> None:
        self.forgotten += 1


def jobs(*sessions: ScriptedSession, budget: int = 100) -> ServingJobs:
    by_name = {session.facts.name: session for session in sessions}

    def opening(name: str) -> Generator[None, None, ScriptedSession]:
        yield None
        return by_name[name]

    def unloaded(name: str) -> r.ModelFacts:
        return replace(by_name[name].facts, nbytes=0)

    return ServingJobs(opening, unloaded, lambda: list(by_name), budget, {"x": ServedAdapter("folder/x", "m")})


def ask(text: str = "ab", **more: Any) -> AnswerRequest:
    chat = openai_requests.chat({"messages": [{"role": "user", "content": "q"}], "seed": 5})
    return replace(chat, prompt=Prompt(parts=(text,)), **more)


def run(executor: ServingJobs, request: Any) -> list[Any]:
    """All that is told of a request."""
    turns = executor.execute(request, lambda event: None)
    return [event for event in turns if event is not None and event is not WORKED]


def refused(executor: ServingJobs, request: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as found:
        run(executor, request)
    return found.value


def test_what_does_not_join_a_batch_takes_turns() -> None:
    """By its caches, which an adapter may change, and by a rope that varies with the length."""
    events = [*(Emitted(0, step(i)) for i in range(3)), Waiting(), END]

    def turns(executor: ServingJobs, **more: Any) -> list[int]:
        return [len(turn) for turn in run(executor, ask(**more))[1:]]

    session = ScriptedSession("m", events)
    executor = jobs(session)
    assert turns(executor) == [3, 1] and turns(jobs(ScriptedSession("m", events, joins=False))) == [1, 1, 1, 1]
    session.model.make_cache = lambda: SimpleNamespace(joins=False)
    assert turns(executor, adapter=("x", 0.5)) == [1, 1, 1, 1]
    varies = ScriptedSession("m", events)
    varies.model.rotations = (SimpleNamespace(rope=SimpleNamespace(varies=True)),)
    assert turns(jobs(varies)) == [1, 1, 1, 1]


@pytest.mark.parametrize(("bos", "whole", "count"), [(None, False, 2), (257, False, 2), (None, True, 2)])
def test_an_echo_has_no_token_that_nobody_wrote(bos: int | None, whole: bool, count: int) -> None:
    session = ScriptedSession("m", [END], bos=bos)
    echoed = replace(ask(), shown=replace(ask().shown, echo=True), max_tokens=0)
    if whole:
        echoed = replace(echoed, prompt=Prompt(parts=((97, 98),), whole=True))
    _, scored = run(jobs(session), echoed)
    assert isinstance(scored, r.Scored) and len(scored.steps) == count
    assert [each.position for each in scored.steps] == ([1, 2] if bos else [0, 1])
    assert session.asked == [], "nothing is drawn where no token is asked for"


def test_a_thought_that_the_template_opened_is_seen_near_the_end() -> None:
    for text, thinking in (("<think>", True), ("a<think>\n", True), ("<think>  ", True), ("<think>.", False)):
        opened = run(jobs(ScriptedSession("m", [END])), ask(text))[0]
        assert opened.opened is thinking, text


def test_a_model_is_described_without_being_loaded() -> None:
    executor = jobs(ScriptedSession("m", [END]))
    assert [facts.nbytes for facts in executor.execute(DescribeModel("m"), print) if facts] == [0]
    assert not executor.models and refused(executor, DescribeModel("z")).status == 404
    run(executor, r.Load("m"))
    assert [facts.nbytes for facts in executor.execute(DescribeModel("x"), print) if facts] == [10], "an adapter's base"


def test_what_a_model_cannot_do_is_refused() -> None:
    executor = jobs(ScriptedSession("m", [END]))
    unknown = refused(executor, ask(adapter=("y" * 90, 1.0)))
    assert (unknown.status, unknown.field) == (404, "likely.adapter")
    assert str(unknown) == f"there is no adapter {'y' * 80!r} here: x"
    none = refused(ServingJobs(lambda name: None, lambda name: FACTS, lambda: ["m"], 1, {}), ask(adapter=("y", 1.0)))
    assert str(none).endswith("here: none")
    model = refused(executor, ask(model="z" * 90))
    assert (model.status, model.field, model.kind) == (404, "model", "model_not_found")
    assert str(model) == f"there is no model {'z' * 80!r} here: m"
    run(executor, r.Load("m"))
    executor.models["m"].session.tokenizer.chat_template = None
    for prompt, name in (
        (Prompt(parts=("a",), tools=(1,)), "tools"),
        (Prompt(parts=("a",), options=(("a", 1),)), "chat_template_kwargs"),
    ):  # fmt: skip
        found = refused(executor, replace(ask(), prompt=prompt))
        assert (str(found), found.field) == (f"{name}: m has no chat template that could read it", name)
    run(executor, ask())  # a text needs none
    biases = {"messages": [{"role": "user", "content": "q"}], "seed": 1}
    fine = openai_requests.chat(biases | {"logit_bias": {"257": 1.0}})
    run(executor, replace(fine, prompt=Prompt(parts=("a",))))
    wrong = openai_requests.chat(biases | {"logit_bias": {"258": 1.0}})
    found = refused(executor, replace(wrong, prompt=Prompt(parts=("a",))))
    assert (str(found), found.field) == ("logit_bias: there is no token 258", "logit_bias")


def busy(executor: ServingJobs, request: Any) -> Generator[Any]:
    """A request that has begun, and goes on."""
    turns = executor.execute(request, lambda event: None)
    while not isinstance(next(turns), AnswerOpened):
        pass
    return turns  # type: ignore[return-value]


def waits(turns: Iterator[Any]) -> bool:
    """Whether a request has nothing to do for some turns."""
    return all(next(turns) is None for _ in range(5))


def test_the_least_recently_used_model_leaves_when_nobody_uses_it() -> None:
    sessions = [ScriptedSession(name, [Waiting(), Waiting(), END]) for name in "abc"]
    executor = jobs(*sessions, budget=20)
    for name, there in (("a", "a"), ("b", "ab"), ("a", "ba"), ("c", "ac")):
        run(executor, r.Load(name))
        assert "".join(executor.models) == there
    assert [session.forgotten for session in sessions] == [0, 1, 0]
    first, last = busy(executor, ask()), busy(executor, ask(model="c"))  # no name: the first, whoever was last
    asks_b, behind = (
        executor.execute(r.Load("b"), lambda event: None),
        executor.execute(r.Load("c"), lambda event: None),
    )
    assert waits(asks_b) and waits(behind), "nobody is idle, and who comes later does not pass"
    asks_b.close()  # type: ignore[attr-defined]  # gone while it waited
    assert r.Loaded(sessions[2].facts) in list(behind)
    list(first), list(last)
    run(executor, r.Load("b"))
    assert list(executor.models) == ["c", "b"]
    small = jobs(*sessions, budget=10)
    run(small, r.Load("a")), run(small, r.Load("b"))
    assert list(small.models) == ["b"]


def test_a_model_and_its_draft_stand_side_by_side_and_an_adapter_has_its_turn() -> None:
    """Together over the budget, they do not wait for themselves; an adapter is on for those alone that name it."""
    one, two = ScriptedSession("m", [Waiting(), END]), ScriptedSession("d", [END])
    executor = jobs(one, two, budget=5)
    drafted = busy(executor, ask(strategy=parse("draft d")))
    assert set(executor.models) == {"m", "d"} and all(model.running for model in executor.models.values())
    list(drafted)
    plain = busy(executor, ask())
    adapted, later = (executor.execute(each, lambda event: None) for each in (ask(adapter=("x", 0.5)), ask()))
    assert waits(adapted) and waits(later) and one.changed == []
    list(plain)
    begun = [event for event in adapted if isinstance(event, AnswerOpened)]
    assert begun and executor.models["m"].adapter == ("x", 0.5)
    list(later)
    assert one.changed == [("add", "folder/x", 0.5), ("remove", "x", 0.0)]


def test_what_a_request_does_not_say_is_as_the_model_was_published_else_as_in_the_chat() -> None:
    told = {"temp": 0.6, "top_k": 20}
    for published, defaults in (({}, dict(PRESETS["balanced"])), (told, told)):
        session = ScriptedSession("m", [END])
        session.facts = replace(session.facts, sampling=published)
        executor = jobs(session)
        for given, ours in (
            ({}, {}),
            ({"temperature": 0.5, "logit_bias": {"65": 2}}, {"temp": 0.5}),
            ({"top_p": 1}, {"top_p": 1}),
        ):
            asked = openai_requests.chat({"messages": [{"role": "user", "content": "q"}], **given})
            run(executor, asked)
            bias = {65: 2.0} if "logit_bias" in given else None
            assert session.asked[-1][1]["recipe"] == recipe({**defaults, **ours}, bias=bias)
        run(executor, ask(strategy=parse("beam 2")))
        assert session.asked[-1][1]["recipe"] == recipe({}), "a search is of the model's own law"


@pytest.mark.parametrize(
    ("written", "values"),
    [
        (None, {}), ({"eos_token_id": 2}, {}), ({"do_sample": False, "temperature": 0.7}, {"temp": 0.0}),
        ({"do_sample": True, "temperature": 0.6, "top_k": 20}, {"temp": 0.6, "top_k": 20}),
        ({"temperature": -1, "top_p": 7, "top_k": True, "min_p": "x", "typical_p": None, "repetition_penalty": 1.1},
         {"repetition_penalty": 1.1}),
    ],
)  # fmt: skip
def test_sampling_that_a_publisher_recommends(written: Any, values: dict[str, float], tmp_path: Path) -> None:
    if written is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(written))
    assert recommended(tmp_path) == values
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_sampling_temp(0.5), writer.add_sampling_top_k(40), writer.add_sampling_penalty_last_n(-5)
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    assert recommended(tmp_path / "m.gguf") == {"temp": 0.5, "top_k": 40}


def test_embeddings_have_so_many_numbers_in_all() -> None:
    def refused(count: int) -> str:
        request = EmbeddingRequest("m", (Prompt(parts=((),), whole=True),) * count, field="prompt")
        with pytest.raises(RequestRefused) as error:
            list(jobs(ScriptedSession("m")).execute(request, print))
        assert error.value.field == "prompt"
        return str(error.value)

    assert refused(2) == "prompt: text 1 has no token: there is nothing to measure", "it is not for how many they are"
    assert refused(3) == (
        f"prompt: 3 texts of {BOUNDS.coordinates // 2:,} coordinates each are {3 * BOUNDS.coordinates // 2:,}, and a "
        f"request has at most {BOUNDS.coordinates:,}: send fewer texts"
    )
