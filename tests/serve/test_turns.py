"""Turns of a served model that is real and tiny: nobody holds the others up, and who has left is worked for no more."""

import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.jobs.requests import Load, Loaded, Scored
from likely.app.jobs.worker import Closed, Failed, Worker
from likely.app.serve.api import messages_api, openai_requests
from likely.app.serve.api.reading import AnswerReader
from likely.app.serve.prefill_scheduler import PrefillScheduler
from likely.app.serve.requests import AnswerOpened, AnswerRequest, Embedded, EmbeddingRequest, RequestRefused
from likely.app.serve.server import ServedNames, ServeOptions, executor
from likely.engine.decode.loop.events import Emitted, Prefilled
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.session import Session
from likely.engine.sampling.thinking import opens
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.engine.tiny import PIECES
from tests.serve import hostile_bodies
from tests.serve.served import Client, server, write_model
from tests.serve.test_soak import ROUNDS, held, idle, keeps
from tests.support import thinkers

LONG = tuple(random.Random(4).randrange(256) for _ in range(1900))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("turns") / "tiny")


def hi(**more: Any) -> AnswerRequest:
    return openai_requests.chat({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **more})


def echo() -> AnswerRequest:
    return openai_requests.completions({"prompt": list(LONG), "max_tokens": 0, "echo": True, "logprobs": 5})[0]


def embedding(layer: int | None = None) -> EmbeddingRequest:
    return EmbeddingRequest("", (Prompt(parts=(LONG,), whole=True),), layer)


def served(tiny: Path) -> Any:
    """The maker of a server's executor, of the model and another one."""
    other = tiny.parent / "other"
    options = ServeOptions((str(tiny), str(other if other.exists() else write_model(other, seed=1))), only=True)
    return executor(options, ServedNames(options))


def ran(tiny: Path, *requests: Any, stop: int | None = None) -> list[tuple[int, Any]]:
    """All that is reported of requests that come together, once the model is there; one of them is stopped as soon as
    anything is reported of any."""
    seen: list[tuple[int, Any]] = []
    jobs: list[int] = []

    def heard() -> None:  # in the worker's own thread, between two turns: nothing hangs on how fast the other one is
        seen.extend(news := worker.drain())
        if jobs and stop is not None and not any(job in jobs for job, _ in seen[: -len(news)]):
            worker.stop(jobs[stop])
        if not jobs and (warm, Closed()) in news:
            jobs.extend(worker.submit(request, brief=getattr(request, "brief", False)) for request in requests)
            worker.finish()

    worker = Worker(served(tiny), reported=heard)
    warm = worker.submit(echo())
    worker.start()
    assert worker.join()
    return [(jobs.index(job), event) for job, event in seen if job in jobs]


def at(found: list[tuple[int, Any]], job: int, kind: type) -> int:
    """Where a job's first event of a kind stands."""
    for i, (owner, event) in enumerate(found):
        events = event if isinstance(event, tuple) else (event,)
        assert not isinstance(event, Failed), event
        if owner == job and any(isinstance(each, kind) for each in events):
            return i
    raise AssertionError(f"job {job} has no {kind.__name__}")


@pytest.mark.slow(2)
@pytest.mark.parametrize(("long", "ends"), [(echo, Scored), (embedding, Embedded), (lambda: embedding(1), Embedded)])
def test_another_draws_before_a_long_computation_is_over(tiny: Path, long: Any, ends: type) -> None:
    short = openai_requests.completions({"prompt": [1, 2, 3], "max_tokens": 3})[0]
    found = ran(tiny, short, long())
    assert at(found, 0, Emitted) < at(found, 1, ends)


def test_others_draw_while_a_model_is_loaded(tiny: Path) -> None:
    """Between a request for a model, which comes behind the first token, and its being there, many pieces later."""
    there = threading.Event()
    seen: list[tuple[int, Any]] = []
    load: list[int] = []

    def heard() -> None:
        seen.extend(news := worker.drain())
        if not load and any(isinstance(event, tuple) for _, event in news):
            load.append(worker.submit(Load("other")))
            seen.clear()
        if any(job in load and isinstance(event, Loaded | Failed) for job, event in news):
            there.set()

    worker = Worker(served(tiny), reported=heard)
    draws = worker.submit(hi(max_tokens=1900, temperature=1.0, logit_bias={"287": -100.0}))
    worker.start()
    there.wait()
    worker.close(10)
    begun = next(i for i, (_, event) in enumerate(seen) if isinstance(event, Loaded))
    assert (draws, Closed()) not in seen[:begun]
    assert sum(job == draws and isinstance(event, tuple) for job, event in seen[:begun]) > 5


@pytest.mark.parametrize("long", [echo, embedding, lambda: hi(max_tokens=1900, logit_bias={"287": -100.0})])
def test_whoever_has_left_is_worked_for_no_more(tiny: Path, long: Any) -> None:
    """Stopped behind its first turn: nothing comes but its end, and the other is answered."""
    found = ran(tiny, long(), hi(), stop=0)
    mine = [event for job, event in found if job == 0]
    assert mine[-1] == Closed() and len(mine) <= 3 and not any(isinstance(e, Scored | Embedded) for e in mine)
    assert at(found, 1, Emitted) < at(found, 1, Closed)


@pytest.mark.slow(2)
def test_pieces_come_to_what_the_whole_comes_to(tiny: Path) -> None:
    """A long text's log-probabilities, and its mean hidden state, as a session of its own gives them in one."""
    found = ran(tiny, echo(), embedding(), *map(embedding, (0, 1, -1)))
    steps = next(event for job, event in found if job == 0 and isinstance(event, Scored)).steps
    session = Session(load(tiny))
    alone = session.score(LONG)
    np.testing.assert_allclose([s.logprob for s in steps[1:]], [s.logprob for s in alone[1:]], atol=1e-4)
    (row,), *at_layers = [event.rows for _, event in sorted(found, key=lambda it: it[0]) if isinstance(event, Embedded)]
    for _ in session.read(LONG):
        pass
    place = session.pool.find(LONG)
    assert place is not None
    np.testing.assert_allclose(row, np.array(place.hidden(0, len(LONG))[0]).mean(0), atol=1e-5)
    inside = session.model.inspect(mx.array([LONG])).hidden
    for (row,), layer in zip(at_layers, (0, 1, -1), strict=True):
        np.testing.assert_allclose(row, np.array(inside[layer][0]).mean(0), atol=1e-4)


@pytest.mark.slow(2)
def test_a_tokenizer_that_panics_ends_one_request(tmp_path: Path) -> None:
    """Its pre-tokenizer backtracks without end at some texts, and the library's own bound is a panic."""
    path = write_model(tmp_path / "tiny")
    made = json.loads((path / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, made["pre_tokenizer"]]}
    (path / "tokenizer.json").write_text(json.dumps(made))
    with server(tmp_path, [path], "-q") as client:
        status, answer = client.ask("/v1/completions", {"prompt": "a" * 40 + "!", "max_tokens": 2})
        assert status == 500 and "PanicException" in answer["error"]["message"]
        assert client.ask("/health") == (200, {"status": "ok"})
        assert client.ask("/v1/completions", {"prompt": "b", "max_tokens": 2})[0] == 200


@pytest.mark.slow(4)
@pytest.mark.linux
@pytest.mark.parametrize(
    ("rounds", "count", "people"),
    [(2, 40, 4), pytest.param(ROUNDS, 1000, 12, marks=pytest.mark.soak)],
)
def test_hostile_requests_leave_a_server_as_it_was(tmp_path: Path, rounds: int, count: int, people: int) -> None:
    """The same ones in each round: each is answered, none is a fault, and behind a round that fills what is remembered
    of prompts no more is held from thousand to thousand."""
    held_behind = []

    def said(client: Client) -> int:
        return int(client.ask("/api/ps")[1]["models"][0]["size"])

    with server(tmp_path, [write_model(tmp_path / "tiny")], "-q") as client, ThreadPoolExecutor(people) as pool:
        weights = said(client)
        for _ in range(rounds):
            answers = list(pool.map(lambda seed: hostile_bodies.sent(client.port, seed), range(count)))
            assert {status for status, _ in answers} <= {0, 200, 400, 404, 429}
            idle(client)
            assert client.ask("/health") == (200, {"status": "ok"})
            assert client.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})[0] == 200
            if count >= 1000:
                held_behind.append(held(client))
                print({"held": held_behind[-1], "longest_s": max(waited for _, waited in answers)})
        assert said(client) > weights, "what is remembered of prompts counts"
        assert count < 1000 or not keeps(held_behind, count)
        assert 'status="500"' not in client.send("/metrics").read().decode()


@pytest.mark.slow(2)
def test_of_several_long_prompts_one_piece_is_read_between_two_turns_of_who_draws(tiny: Path) -> None:
    slow = write_model(tiny.parent / "slow", hidden_size=256, intermediate_size=4096)  # read in many pieces
    prompts = [[i, *LONG[: 1800 + i]] for i in range(3)]
    long = [openai_requests.completions({"prompt": prompt, "max_tokens": 1})[0] for prompt in prompts]
    drawn = hi(max_tokens=60, logit_bias={str(PIECES.index("a")): 100.0})  # each of its turns is a letter that is told
    found = ran(slow, drawn, *long)
    begun = at(found, 0, Emitted)
    told = [(job, type(event[-1])) for job, event in found[begun:] if isinstance(event, tuple) and event]
    pieces = [i for i, (job, kind) in enumerate(told) if job and kind is Prefilled]
    ends = {job: i for i, (job, kind) in enumerate(told) if not job or kind is Prefilled}
    last = min(ends.values())  # behind it comes the end of a prompt, which is not told, and another who draws
    between = [told[i:j] for i, j in zip(pieces, pieces[2:], strict=False) if j <= last]
    assert len(between) > 3
    for turns in between:  # a turn in which it works may tell nothing, but not two
        assert any(job == 0 for job, _ in turns), "who draws waits for pieces of all prompts"


@pytest.mark.slow(3)
@pytest.mark.parametrize(("strategy", "tokens"), [("sample", 100), ("beam 2", 12)])
def test_a_short_request_is_answered_before_longer_ones_are_let_go_on(tiny: Path, strategy: str, tokens: int) -> None:
    """Behind sixteen that read and draw: for each of its turns, eight tokens and what comes before them, they have
    four, where they would have sixteen; before its first token some more where a busy machine reads its prompt in more
    pieces."""
    more = {"max_tokens": tokens, "logit_bias": {"287": -100}, "likely": {"strategy": strategy}}
    long = [openai_requests.completions({"prompt": [i, *LONG[:600]], **more})[0] for i in range(16)]
    found = ran(tiny, *long, hi(max_tokens=8, logit_bias={"287": -100}))
    opened, drawn, over = (at(found, 16, kind) for kind in (AnswerOpened, Emitted, Closed))
    assert sum(job < 16 for job, _ in found[drawn:over]) <= 4 * (8 + 1)
    assert sum(job < 16 for job, _ in found[opened:over]) <= 6 * (8 + 6)
    assert all(at(found, job, Closed) > over for job in range(16))


@pytest.mark.slow
@pytest.mark.parametrize("name", thinkers.THINKERS)
def test_published_families_are_served_with_their_thoughts_apart(name: str, tmp_path: Path) -> None:
    thinker, can = thinkers.THINKERS[name], name not in ("qwen3-thinking", "r1")
    again = "hm<think>" if "<think>" in thinker.words else "hm"  # a mark within marks
    folder = thinkers.write(tmp_path / name, thinker, thinker.says(f"{again} <b>", "So."), can or None)
    options = ServeOptions((str(folder),), only=True)
    jobs = executor(options, ServedNames(options))()

    def served(**more: Any) -> tuple[Any, AnswerOpened]:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 60} | more
        asked = messages_api.read(json.dumps(body).encode())
        opened, *events = [
            event for event in jobs.execute(asked, lambda _: None) if isinstance(event, tuple | AnswerOpened)
        ]
        reader = AnswerReader(1, opened=opened.opened, thinking=opened.thinking)
        for event in events:
            list(reader.read(event))
        return messages_api.response(asked, opened, reader, messages_api.head(opened)), opened

    whole, opened = served(thinking={"type": "enabled", "budget_tokens": 50})
    assert [block.get("thinking") or block["text"] for block in whole["content"]] == [f"{again} <b>", "So."]
    assert opened.opened is (name in ("qwen3-thinking", "r1", "glm4.7"))
    cut, _ = served(thinking={"type": "enabled", "budget_tokens": 6}, max_tokens=7)
    assert [block["type"] for block in cut["content"]] == ["thinking"] and cut["stop_reason"] == "max_tokens"
    form = {"format": {"type": "json_schema", "schema": {"const": "So"}}}
    thought, _ = served(output_config=form, thinking={"type": "enabled", "budget_tokens": 50})
    blocks = [block.get("thinking") or block["text"] for block in thought["content"]]
    assert [words.strip() for words in blocks] == [f"{again} <b>".strip(), '"So"'], "free, and then bound"
    bound, _ = served(output_config=form)
    assert bound["content"] == [{"type": "text", "text": '"So"'}], "not written into the thought that was opened"
    begun = {"role": "assistant", "content": "Now"}
    answer, opened = served(messages=[{"role": "user", "content": "hi"}, begun], max_tokens=1)
    before = b"".join(opened.facts.vocabulary[i] for i in opened.ids).decode()
    assert answer["content"][0]["type"] == "text" and before.endswith("Now") and not opens(before.removesuffix("Now"))
    if name in ("qwen3", "gemma4", "glm4.7"):
        assert not served(thinking={"type": "disabled"})[1].opened
    else:
        with pytest.raises(RequestRefused, match="cannot be told not to think"):
            served(thinking={"type": "disabled"})


class ReadsAndDraws:
    """An executor whose jobs, some turns later, read or draw so many pieces, in one line."""

    def __init__(self) -> None:
        self.line = PrefillScheduler()

    def execute(self, request: Any, tell: Any) -> Iterator[Any]:
        later, reads, draws = request
        yield from (("later",) for _ in range(later))
        yield from self.line.read(("piece",) for _ in range(reads))
        with self.line.drawing():
            for _ in range(draws):
                self.line.drew()
                yield ("token",)

    def close(self) -> None: ...


@pytest.mark.parametrize("order", list(permutations("drls")))
def test_a_short_text_is_read_while_long_ones_have_every_other_piece(order: tuple[str, ...]) -> None:
    """Whoever came first, and whoever draws meanwhile: of all pieces until it is there, half are its own."""
    worker = Worker(ReadsAndDraws)
    work = {"d": (0, 0, 400), "r": (0, 100, 0), "l": (0, 100, 1), "s": (40, 8, 1)}
    jobs = {worker.submit(work[each], brief=each == "s"): each for each in order}
    worker.start()
    worker.finish()
    assert worker.join()
    told = [(jobs[job], event) for job, event in worker.drain()]
    read = [each for each, event in told if event == ("piece",)]
    assert read.count("r") == read.count("l") == 100
    began, ended = read.index("s"), len(read) - read[::-1].index("s")
    assert began > 2 * 8 and ended - began <= 2 * 8, "there is more than it that has read more than it"
    for several in (read[:began], read[ended : ended + 100]):
        assert abs(several.count("r") - several.count("l")) <= 2
