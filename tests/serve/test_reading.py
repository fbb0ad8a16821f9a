"""Reader of a run's events, the lines for one who watches, and the description of the routes."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from likely.app.serve.api import openai_requests, openapi
from likely.app.serve.api.openai_responses import ours, text_logprobs, top
from likely.app.serve.api.reading import AnswerReader, MarkSplitter, PartedText, TextDelta, read_calls
from likely.app.serve.requests import AnswerRequest, EmbeddingRequest
from likely.app.serve.watch_writer import WatchWriter, began
from likely.engine.chat.tools.call_format import JSON
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Event, Forked, Prefilled, Pruned, Rated, Stats
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.strategy_table import parse
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Temperature
from tests.serve.scripted import PIECES, step


def word(text: str, position: int = 0, *, special: bool = False, logprob: float | None = -1.0) -> Any:
    return SimpleNamespace(text=text, position=position, special=special, logprob=logprob, piece=b"<|end|>")


@pytest.mark.parametrize(
    ("pieces", "calls", "parts"),
    [
        (["a<th", "ink>b</", "think>c"], False, [("said", "a"), ("thought", "b"), ("said", "c")]),
        (["a<think"], False, [("said", "a"), ("said", "<think")]),
        (["a<tool_call>b</tool_call>c"], False, [("said", "a<tool_call>b</tool_call>c")]),
        (["a<tool_call>b</tool_", "call>c"], True, [("said", "a"), ("call", "b"), ("said", "c")]),
        (["<tool_call><think>x"], True, [("call", "<think>x")]),
        (["<tool_call>a</tool_call><think>b"], True, [("call", "a"), ("thought", "b")]),
        (["<<think>"], False, [("said", "<")]),
    ],
)
def test_a_text_is_parted_by_its_marks(pieces: list[str], calls: bool, parts: list[tuple[str, str]]) -> None:
    parting = MarkSplitter(calls=JSON.marks if calls else None)
    found = [part for piece in pieces for part in parting.push(piece)]
    assert [*found, *parting.push("", last=True)] == parts
    assert list(parting.push("x")) == [(parting.kind, "x")], "nothing is held twice"


def test_events_make_texts() -> None:
    reader = AnswerReader(2, calls=JSON)
    assert list(reader.texts) == [0, 1] and (reader.tokens, reader.reused) == (0, 0)

    def read(*events: Event) -> list[TextDelta]:
        return list(reader.read(events))

    one, two, end = word("a<", 5), word("b", 6), word("!", 7, special=True)
    assert read(Emitted(0, one), Prefilled(1, 2)) == [TextDelta(0, (("said", "a"),), (one,))]
    assert read(Forked(0, 4)) == []
    assert read(Emitted(4, two)) == [TextDelta(4, (("said", "<b"),), (two,))]
    assert read(Emitted(0, end)) == [TextDelta(0, (), (end,))]
    assert reader.texts[4].steps == [one, two] and reader.texts[0].steps == [one, end] and reader.tokens == 4
    assert read(Pruned(1)) == [] and list(reader.texts) == [0, 4]
    assert read(Rated(0, {"score": 1.0}), Rated(4, {"score": 2.0})) == []
    assert read(Done(0, "eot", Stats(9, 2, 7, 0.0, 0.0), "t")) == [TextDelta(0, (("said", "<t"),), (), "eot")]
    assert read(Done(4, "length", Stats(9, 3, 5, 0.0, 0.0))) == [TextDelta(4, (), (), "length")]
    assert (reader.tokens, reader.reused) == (12, 3) and [text.reason for text in reader.ended] == ["eot", "length"]
    assert [text.figures["score"] for text in reader.best(2)] == [2.0, 1.0] and len(reader.best(1)) == 1
    reader.texts[4].figures = {}
    assert [text.figures for text in reader.best(2)] == [{"score": 1.0}, {}]


def test_the_likeliest_a_token_are_given_of_more_than_are_asked_for() -> None:
    reader = AnswerReader(3)
    for number, logprobs in enumerate(([-3.0, -3.0], [-1.0, None, -2.0], [])):
        reader.texts[number].steps = [word("", logprob=logprob) for logprob in logprobs]
    assert [text.likelihood for text in reader.texts.values()] == [-3.0, -1.5, -math.inf]
    assert [text.likelihood for text in reader.best(2)] == [-1.5, -3.0]
    assert [text.likelihood for text in reader.best(3)] == [-3.0, -1.5, -math.inf], (
        "in their order, where all are given"
    )


def test_calls_are_joined_where_nothing_stands_between() -> None:
    call = '{"name": "f", "arguments": {"é": 1}}'
    text = PartedText(splitter=MarkSplitter(calls=JSON.marks))
    text.parts = [
        ("call", call[:5]),
        ("call", call[5:]),
        ("said", "x"),
        ("call", "no"),
        ("thought", "t"),
        ("call", call),
    ]
    assert text.calls == [{"name": "f", "arguments": '{"é": 1}'}] * 2 and text.of("said") == "x"
    assert read_calls('{"name": 3}') == [{"name": "3", "arguments": "{}"}]
    for wrong in ("", "[]", "3", '"x"', "{}", "null", "[" * 100_000):
        assert read_calls(wrong) == []


def test_the_likeliest_are_in_their_order_and_cuts_are_named() -> None:
    one = step(0)
    assert top(one, 2) == [(0, pytest.approx(-0.25)), (1, pytest.approx(-0.75))] and len(top(one, 9)) == 3
    assert top(step(0, snapshot=None), 2) == []
    found = text_logprobs([one, step(4), step(2), step(3)], 1, PIECES[:1], offset=3)
    assert found["text_offset"] == [3, 5, 5] and found["tokens"] == ["Hi", "bytes:\\xe2\\x82", "bytes:\\xac"]
    euro = {name: pytest.approx(-0.25) for name in ("Hi", "bytes:\\xac")}
    assert found["top_logprobs"][::2] == [{"Hi": pytest.approx(-0.25)}, euro], "the one that was drawn too"
    unknown = text_logprobs([one], 2, PIECES[:1])["top_logprobs"]
    assert unknown == [{"": pytest.approx(-0.75), "Hi": pytest.approx(-0.25)}]
    ask = openai_requests.chat(
        {"messages": [{"role": "user", "content": "x"}], "seed": 3, "likely": {"snapshot": True}}
    )
    recipe = SamplingConfig((Temperature(0.5),))
    made = ours(ask, [step(0, recipe=recipe), step(1, snapshot=None)], PIECES)["likely"]
    assert [each["cut_by"] for each in made["steps"][0]["candidates"]] == [None, "Temperature", None]
    assert "candidates" not in made["steps"][1] and (made["seed"], made["strategy"]) == (3, "sample")


def test_log_probabilities_say_how_they_were_computed() -> None:
    body = {"messages": [{"role": "user", "content": "x"}]}
    ask, plain = openai_requests.chat(body | {"logprobs": True}), openai_requests.chat(body)
    steps = [step(0, origin="given", precision="float32"), step(1, precision="rounded")]
    assert ours(ask, steps, PIECES) == {"likely": {"precision": {"measured": "float32", "sampled": "rounded"}}}
    assert ours(ask, steps[1:], PIECES) == {"likely": {"precision": {"sampled": "rounded"}}}
    assert ours(plain, steps, PIECES) == {} == ours(ask, [], PIECES)


# -- lines for one who watches ---------------------------------------------------------------------------------------


def request(**more: Any) -> AnswerRequest:
    given = {
        "model": "m",
        "prompt": Prompt(parts=("x", (1, 2))),
        "control": RunControl(SamplingConfig()),
        "seed": 4,
    } | more
    return AnswerRequest(**given)


def test_a_request_is_told_with_its_words() -> None:
    writer = WatchWriter()
    assert began() == {"likely": began()["likely"], "form": 1}
    asked = [("text", "x"), ("text", "(2 tokens)")]
    line = {"request": 7, "asked": asked, "kind": "text", "model": "m", "texts": 1, "seed": 4, "how": ""}
    assert list(writer.lines(7, request())) == [line]
    assert list(writer.lines(7, request(n=3), late=True)) == [line | {"texts": 3, "late": True}]
    assert next(writer.lines(7, request(max_tokens=0)))["texts"] == 0
    assert next(writer.lines(7, request(max_tokens=1, n=2)))["texts"] == 2
    beam = next(writer.lines(7, request(strategy=parse("beam 3"), n=2)))
    assert (beam["texts"], beam["how"]) == (1, "beam 3")
    turns = Prompt(turns=({"role": "user", "content": "q"}, {"role": "tool", "content": None}, {"content": [1]}))
    chat = next(writer.lines(7, request(prompt=turns)))
    assert chat["kind"] == "chat" and chat["asked"] == [("user", "q"), ("tool", ""), ("", "[1]")]
    embedding = EmbeddingRequest("m", (Prompt(parts=("a",)), Prompt(parts=("b",))))
    assert list(writer.lines(7, embedding)) == [
        {"request": 7, "asked": [("text", "a"), ("text", "b")], "kind": "embedding", "model": "m"}
    ]


# -- the description -------------------------------------------------------------------------------------------------


def test_every_route_says_its_answers() -> None:
    described = openapi.description()
    assert described["openapi"] == "3.1.0" and described["info"]["title"] == "likely serve"
    paths = described["paths"]
    assert list(paths) == [*openapi.GETS, *openapi.POSTS]
    whole = {"application/json": {"schema": {"type": "object"}}}
    for path, routes in paths.items():
        ((method, route),) = routes.items()
        assert method == ("get" if path in openapi.GETS else "post")
        answers = route["responses"]
        assert list(answers) == ["200", "400", "401", "403", "404", "408", "413", "429", "503"]
        error = answers["400"]["content"]["application/json"]["schema"]["properties"]["error"]
        assert error["type"] == ("string" if path.startswith("/api/") else "object")
        if path in ("/", "/metrics"):
            assert answers["200"] == {"description": "Text.", "content": {"text/plain": {}}}
            continue
        streamed = {"/api/chat": "application/x-ndjson", "/api/generate": "application/x-ndjson"}.get(path)
        if path.startswith("/v1/") and method == "post" and not path.endswith(("embeddings", "count_tokens")):
            streamed = "text/event-stream"
        more = {streamed: {"schema": {"type": "string"}}} if streamed else {}
        assert answers["200"]["content"] == whole | more
        if method == "post":
            body = route["requestBody"]
            assert body["required"] is True
            schema = body["content"]["application/json"]["schema"]
            assert schema["additionalProperties"] is False
            assert schema["required"] == [name for name in openapi.POSTS[path][1] if not name.endswith("?")]
            assert {**schema, "additionalProperties": None} == {
                **openapi.json_schema(openapi.POSTS[path][1]), "additionalProperties": None,
            }  # fmt: skip
