"""Thinking, by the marks that models publish: found in tokens and in texts however they are cut, never shown twice."""

import json
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import likely
from likely.app.cli import likely as verbs
from likely.app.jobs.jobs import ModelJobs
from likely.app.jobs.model_provider import LocalModelProvider
from likely.app.jobs.requests import Generate, Load
from likely.engine.base.errors import ParameterError
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.sampled.budget import Budget
from likely.engine.measure.answer_form import AnswerForm
from likely.engine.measure.evaluate.evaluation import answers
from likely.engine.measure.reason.paths import PathCollector
from likely.engine.sampling.thinking import (
    FAMILIES,
    MarkSplitter,
    Thinking,
    ThoughtSpan,
    answer_tokens,
    opens,
    switch,
    thinking_of,
)
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.text.tokenizer import from_folder
from likely.engine.text.tokenizer.template import ChatTemplate
from tests.engine import tiny
from tests.serve.served import write_model
from tests.support import thinkers
from tests.support.thinkers import Thinker


def thinks(template: str) -> bool:
    return any(family.end in template for family in FAMILIES)


TEMPLATES = [Path(os.environ.get("LIKELY_TEMPLATES") or "none"), Path.home() / ".cache/huggingface/hub"]
PUBLISHED = [
    file
    for folder in TEMPLATES
    for file in sorted(folder.glob("**/*.jinja"))
    if thinks(file.read_text(errors="replace"))
]
FAMILY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.end)


def cut(text: str, at: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in at)})
    return [text[a:b] for a, b in pairwise(ends)]


@FAMILY
@given(at=st.lists(st.integers(0, 200), max_size=12), opened=st.booleans(), closed=st.booleans())
def test_a_thought_is_found_however_its_marks_are_cut(
    family: Thinking, at: list[int], opened: bool, closed: bool
) -> None:
    thought = ("" if opened else family.begin) + "hm, <b>"
    text = thought + (family.ends[0] + " So." if closed else "")
    pieces = cut(text, at)
    span = ThoughtSpan(opened)
    for piece in pieces:
        span.push(piece)
    assert span.span is not None and span.span[0] == 0 and span.closed is closed
    after = "".join(pieces[span.span[1] :])
    assert " So.".endswith(after) if closed else not after  # a token that ends the mark may begin the answer
    assert (answer_tokens(pieces, opened) is None) is not closed
    splitter = MarkSplitter("thought" if opened else "said", thinking=family)
    parts = [part for piece in pieces for part in splitter.push(piece)] + list(splitter.push("", last=True))
    for kind, whole in (("thought", "hm, <b>"), ("said", " So." if closed else "")):
        assert "".join(words for k, words in parts if k == kind) == whole


@pytest.mark.parametrize(
    ("pieces", "thought"),
    [
        (["a", "b"], None),
        (["<think>", "x", "<think>", "y", "</think>", "z", "</think>", "<think>"], (0, 5)),  # marks within marks
        (["so", "</think>", "z"], (0, 2)),  # the template had opened it
        (["\n", "<thi", "nk>", "x", "</th", "ink>z"], (1, 6)),
        (["<|channel|>", "final", "<|message|>", "z"], (0, 3)),  # Harmony without a thought
        ([], None),
    ],
)
def test_what_is_thought_of_these(pieces: list[str], thought: tuple[int, int] | None) -> None:
    span = ThoughtSpan()
    for piece in pieces:
        span.push(piece)
    assert span.span == thought


@FAMILY
def test_a_prompt_that_ends_within_a_thought(family: Thinking) -> None:
    assert opens(f"a:{family.begin}\n") and opens(family.begin)
    assert not opens(f"{family.begin}so{family.ends[0]}\n") and not opens("a:") and not opens(f"{family.begin}so")


def test_a_template_is_told_to_think_or_it_is_said_that_it_cannot_be(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    tokenizer = from_folder(folder)
    asked = [Prompt((("user", "x"),), thinking=thinking).ids(tokenizer) for thinking in (None, False, True)]
    assert asked[0] == asked[1] and tokenizer.decode(asked[2]) == tokenizer.decode(asked[0]).replace("a:", "<think>a:")
    for template, thinking, line in (
        ("{{ messages[0].content }}", True, "cannot be told whether to think"),
        ("{{ reasoning_effort }}", False, "cannot be told that it is not to think"),
    ):
        settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": template}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        with pytest.raises(ParameterError, match=line):
            Prompt((("user", "x"),), thinking=thinking).ids(from_folder(folder))


@pytest.fixture(scope="module", params=thinkers.THINKERS)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Thinker, Path]:
    """A model of a family that thinks "hm, <b>" and says "So."."""
    thinker = thinkers.THINKERS[request.param]
    thinking = True if request.param == "gemma4" else None
    folder = tmp_path_factory.mktemp("thinks") / request.param
    return thinker, thinkers.write(folder, thinker, thinker.says("hm, <b>", "So."), thinking)


@pytest.mark.slow
def test_published_families_think_through_every_verb(family: tuple[Thinker, Path]) -> None:
    thinker, folder = family
    told = ("--think", "on") if thinker is thinkers.THINKERS["gemma4"] else ()

    def run(*words: str) -> str:
        done = CliRunner().invoke(verbs, ["run", "hi", "-M", str(folder), "--seed", "1", "-m", "60", *words])
        assert done.exit_code == 0, done.output
        return done.output.strip()

    assert run("-q", *told) == thinker.says("hm, <b>", "So.")
    assert run("-q", "--hide-thinking", "-n", "2", *told) == "[1]\nSo.\n[2]\nSo."
    assert run("-q", "--hide-thinking", "--regex", r"So\.") == "So.", "not written into a thought that was opened"
    switched = folder.name in ("qwen3", "gemma4", "glm4.7")
    for think in ("20", "on") if switched else ("20",):  # the thought is free, and then the answer is bound
        free, said = (run("-q", "--think", think, "--regex", "[xy]!", *more) for more in ((), ("--hide-thinking",)))
        assert free.count("hm, <b>") == 1 and said in ("x!", "y!") and free.endswith(said)
        assert run("-q", "--hide-thinking", "--think", think, "--choice", "No.", "--choice", "So.") == "So."
    if switched:  # in the chat
        jobs, prompt = ModelJobs(LocalModelProvider()), Prompt((("user", "hi"),), thinking=True)
        asked = Generate(str(folder), prompt, RunControl(), max_tokens=60, form=AnswerForm.read("choice", "x! | y!"))
        list(jobs.execute(Load(str(folder)), lambda _: None))
        steps = [event.step for event in jobs.execute(asked, lambda _: None) if isinstance(event, Emitted)]
        words = "".join(step.text for step in steps)
        assert "hm, <b>" in words and words.endswith(("x!", "y!"))
    cut = run("--hide-thinking", "-m", "5", *told)
    assert cut.count("\n") == 0 and "there is no answer" in cut
    drawn = [json.loads(line) for line in run("--json", "-q", "--think", "4").splitlines()[:-1]]
    forced = [i for i, token in enumerate(drawn) if token["origin"] == "forced"]
    ended = b"".join(bytes.fromhex(drawn[i]["bytes"]) for i in forced).decode()
    assert ended == thinker.answer.split("{}")[1].strip(), "the end of a thought of four tokens"
    begun = b"".join(bytes.fromhex(token["bytes"]) for token in drawn[: forced[0] - 4]).decode()
    assert begun == thinker.answer.split("{}")[0].strip()

    model = likely.load(folder)
    chat = model.chat()
    trace = chat.send("hi", seed=1, thinking=True if told else None)
    assert chat.messages[1]["content"].strip() == "So."
    ids = list(trace.prompt)
    assert [text.strip() for text in answers(model.session, ids, SamplingConfig(), 1, 1, 60, ())[0]] == ["So."]
    assert answers(model.session, ids, SamplingConfig(), 1, 1, 60, (".", "m,"))[0][0].strip() == "So", (
        "what is thought goes on"
    )
    assert answers(model.session, ids, SamplingConfig(), 1, 1, 5, ())[0] == [""], (
        "a thought without an end is no answer"
    )
    (path,) = PathCollector(Extraction("line"), 1, RunControl()).watch(model.session.generate(ids, RunControl()))
    assert path.answer == "so"

    # the surprise of what is said behind the thought, and behind an empty one, by the law of the script
    end = json.loads(run("--json", "-q", *told).splitlines()[-1])
    empty = [*ids, *model.tokenizer.encode(thinker.says("", "So."), special=True), tiny.EOS]
    said = len(thinker.says("", "So.").rpartition(">")[2]) + 1  # letters, and the end of the text
    law = [thinkers.logprobs(list(trace.ids), len(ids), text)[-said:].sum() for text in ([*ids, *trace.ids], empty)]
    found = [end[name] for name in ("answer_logprob", "answer_logprob_without_thought")]
    np.testing.assert_allclose(found, law, atol=1e-3, rtol=1e-5)
    assert end["thought_information"] == pytest.approx(law[0] - law[1], rel=1e-5) and law[0] - law[1] > 50
    assert (end["thought"]["tokens"], end["answer"]["tokens"]) == (len(trace) - said, said)
    assert trace.parts["tokens"] == [len(trace) - said, said] and trace.parts["part"] == ["thought", "answer"]
    information = model.thought_information(trace)
    assert information is not None and information.nats == pytest.approx(end["thought_information"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED, reason="no model here has a chat template that thinks, and LIKELY_TEMPLATES none")
@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_published_templates_are_told_to_think_or_not(file: Path) -> None:
    template = ChatTemplate(file.read_text(), {"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer: Any = SimpleNamespace(chat_template=template.source, encode=lambda text, special: [0, 0], piece=bytes)
    family = thinking_of(tokenizer)
    assert family is not None
    on, off = (switch(template.variables, thinking) for thinking in (True, False))
    turns = [{"role": "user", "content": "hi"}]
    asked = {
        told: template.render(turns, generation_prompt=True, **dict([told] if told else [])) for told in (None, on, off)
    }
    if off is not None:
        assert not opens(asked[off]) and asked[on] != asked[off]
    parts = MarkSplitter("thought" if opens(asked[on]) else "said", thinking=family)
    written = ("" if opens(asked[on]) else family.begin) + "hm" + family.ends[0] + "So."
    assert list(parts.push(written, last=True)) == [("thought", "hm"), ("said", "So.")]
    talk = template.render([*turns, {"role": "assistant", "content": "So."}, *turns], generation_prompt=True)
    assert "So." in talk and opens(talk) is opens(asked[None])


def test_marks_around_an_answer_are_not_its_words(tmp_path: Path) -> None:
    folder = thinkers.write(tmp_path / "hunyuan", thinkers.HUNYUAN, thinkers.HUNYUAN.says("hm, <b>", "So."))

    def run(*words: str) -> str:
        return CliRunner().invoke(verbs, ["run", "hi", "-M", str(folder), "-q", "-m", "60", *words]).output.strip()

    assert run() == thinkers.HUNYUAN.says("hm, <b>", "So."), "all that was drawn"
    assert run("--hide-thinking") == "So."
    model = likely.load(folder)
    chat = model.chat()
    trace = chat.send("hi", seed=1)
    assert chat.messages[1]["content"].strip() == "So."
    ids = list(trace.prompt)
    assert [text.strip() for text in answers(model.session, ids, SamplingConfig(), 1, 1, 60, ())[0]] == ["So."]
    collector = PathCollector(Extraction("line"), 1, RunControl(), thinking=thinking_of(model.tokenizer))
    (path,) = collector.watch(model.session.generate(ids, RunControl()))
    assert path.answer == "so"


def test_the_command_line_thinks_and_hides_it(tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "model"))

    def run(*words: str) -> str:
        done = CliRunner().invoke(verbs, ["run", "ab", "-M", folder, "--seed", "1", "-m", "8", *words])
        return (done.output + str(done.exception or "")).strip()

    whole = run("-q")
    assert whole and run("-q", "--think", "on") != whole == run("-q", "--hide-thinking")
    with pytest.raises(ParameterError, match="thinking is told to the chat template: give messages"):
        likely.load(folder).generate("ab", thinking=True)
    assert "has no end" in run("--prefill", "<think>") and run("-q", "--hide-thinking", "--prefill", "<think>") == ""
    assert run("-q", "--hide-thinking", "--prefill", "<think>b</think>a", "-m", "60").startswith("a")
    for words, line in (
        (("--think", "maybe"), "--think takes on, off or a number of tokens"),
        (("--think", "0"), "--think takes on, off or a number of tokens"),
        (("--think", "9", "--beam", "2"), "--think N is a way of finding tokens itself"),
        (("--think", "on", "--raw"), "--think is told to the chat template"),
        (("--hide-thinking", "--json"), "is of an answer as text"),
    ):
        assert line in run(*words)
    assert str(Budget(9)) == "budget 9" and "think" in run("--think", "9")
