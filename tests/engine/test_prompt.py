"""From turns to ids: one way, whoever asks."""

import io
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from likely.app.cli.commands.run import prompt_ids
from likely.app.cli.generate import text_chat
from likely.app.cli.options.sampling import Limits
from likely.app.tui.base.context import before
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.decode.prompt import Prompt, locate, single_turn
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.scoring.explain import explain
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.text.rows.training_row import parse
from likely.engine.text.tokenizer import from_gguf
from likely.engine.train.data.samples import encode
from tests.engine.vocabularies import byte_level, scored
from tests.fakes import BOS, ByteTokenizer, FakeCheckpoint, MarkovModel, certain_table


def base(bos: bool = True) -> ByteTokenizer:
    tokenizer = ByteTokenizer()
    tokenizer.chat_template, tokenizer.bos = None, BOS if bos else None
    return tokenizer


def test_a_base_model_reads_turns_as_paragraphs() -> None:
    prompt = Prompt((("user", "one"), ("assistant", "two"), ("user", "three")), system="zero")
    assert prompt.ids(base()) == [BOS, *b"zero\n\none\n\ntwo\n\nthree\n\n"]
    assert Prompt((("user", "one"),), template=False).ids(ByteTokenizer()) == [*b"one\n\n"]


def test_a_template_is_given_the_turns_and_what_follows_is_not() -> None:
    prompt = Prompt((("user", "one"),), ("So", (7, 8), "."), system="zero")
    assert prompt.ids(ByteTokenizer()) == [*b"s:zero;u:one;a:So", 7, 8, *b"."]


def test_a_template_is_given_tools_where_there_are_some_and_the_options() -> None:
    source = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
        "{% if tools %}{{ tools | length }} tools;{% endif %}"
        "{% if thinking is defined %}thinking={{ thinking }}{% endif %}"
    )
    tokenizer = from_gguf(byte_level() | {"tokenizer.chat_template": source})
    tools: Any = [{"type": "function"}]
    turns = (("user", "one"), {"role": "tool", "content": "2"})
    for given, options, said in (((), (), ""), (tools, (("thinking", True),), "1 tools;thinking=True")):
        prompt = Prompt(turns, tools=given, options=options)
        assert tokenizer.decode(prompt.ids(tokenizer)) == f"user:one;tool:2;{said}"
    ids, where = Prompt(turns, tools=tools).spans(tokenizer)
    assert tokenizer.decode(ids) == "user:one;tool:2;1 tools;" and len(where) == 2


def test_parts_alone_are_a_text_and_whole_ones_are_all_of_it() -> None:
    assert Prompt(parts=("a", (7,))).ids(base()) == [BOS, 97, 7]
    assert Prompt(parts=("a", (7,)), whole=True).ids(base()) == [97, 7]
    assert Prompt(parts=("a", (7,)), whole=True).spans(base()) == ([97, 7], [range(1), range(1, 2)])


@pytest.mark.parametrize("template", [None, "fake"])
def test_plain_chat_reads_what_the_screen_reads(template: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turns of the second answer, by the chat without a screen and as the screen writes them."""
    checkpoint = FakeCheckpoint(MarkovModel(certain_table(b"\nkxyz" if template is None else b":kxyz")))
    checkpoint.tokenizer.chat_template = template
    session = Session(checkpoint)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    text_chat.converse(session, SamplingConfig(greedy=True), Limits(0, 8, ()), system="zero")
    told = Prompt((("system", "zero"), ("user", "one"), ("assistant", "kxyz"), ("user", "two")))
    want = told.ids(checkpoint.tokenizer)
    assert session.pool.branches[-1].ids[0][: len(want)] == want
    if template is None:
        assert want == [*b"zero\n\none\n\nkxyz\n\ntwo\n\n"]


@pytest.mark.parametrize("template", [None, "fake"])
def test_the_screen_reads_what_plain_chat_reads(template: str | None) -> None:
    talk = Conversation("c", system="zero").add(Node("1", Fork(), "user", text="one"))
    talk = talk.add(Node("2", Fork("1"), "assistant", text="kxyz")).add(Node("3", Fork("2"), "user", text="two"))
    tokenizer = ByteTokenizer()
    tokenizer.chat_template = template
    said = Prompt((("user", "one"), ("assistant", "kxyz"), ("user", "two")), system="zero")
    assert before(talk, Fork("3")).ids(tokenizer) == said.ids(tokenizer)


def test_one_text_is_the_same_ids_for_run_explain_and_tune() -> None:
    """Of a base model a text to go on with; in training, the prompt before its completion."""
    for tokenizer in (base(), base(bos=False)):
        checkpoint = FakeCheckpoint(MarkovModel(certain_table(b"k")), tokenizer)
        session: Any = Session(checkpoint)  # type: ignore[arg-type]
        want = single_turn("a text", tokenizer).ids(tokenizer)
        assert want == [*([BOS] if tokenizer.bos else []), *b"a text"]
        assert prompt_ids(session, "a text", system=None, raw=False) == want
        assert [step.token for step in explain(session, "a text").steps] == want
        rows = [parse({"text": "a text"}, "1"), parse({"prompt": "a text", "completion": "!"}, "2")]
        for row in rows:
            sample = encode(row.messages, row, tokenizer, "answers")  # type: ignore[arg-type]
            assert list(sample.ids[: len(want)]) == want


@pytest.mark.parametrize("made", [byte_level, scored, partial(scored, prefix=False)], ids=["bytes", "scored", "bare"])
def test_a_text_in_parts_begins_as_a_text_does(made: Callable[[], dict[str, Any]]) -> None:
    tokenizer = from_gguf(made())
    assert Prompt(parts=("Hello there",)).ids(tokenizer) == tokenizer.encode("Hello there", bos=True)


def test_tokens_are_found_that_cover_a_text() -> None:
    pieces = [b"<u>", b"He", b"llo", b" you", b"</u>", b"Hi", b"!"]
    assert locate(pieces, ["Hello", "gone", "Hi"]) == ((1, 3), None, (5, 6))
    assert locate(pieces, ["ello y"]) == ((1, 4),)
    assert locate([b"Hi", b" you"], ["Hi", "you"]) == ((0, 1), (1, 2)) and locate([], ["Hi", ""]) == (None, None)
