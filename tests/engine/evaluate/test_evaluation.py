"""An evaluation on a table of known probabilities: prefixes, windows, what is left out, drawn answers, positions."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ContextOverflow, DataError, ParameterError
from likely.engine.measure.evaluate import evaluation, paraphrase
from likely.engine.measure.evaluate.evaluation import after, alone, answer_measures, evaluate
from likely.engine.measure.evaluate.figures import calibration, subgroups
from likely.engine.measure.evaluate.scoring import explain, features
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.tasks.tasks import Problem, Question, Result
from tests.engine.evaluate.asked import Beginning, logprob, logs, results, session, task
from tests.fakes import BOS, EOS, VOCAB, ByteTokenizer, certain_table, random_table


class WithBeginning(Beginning):
    """Texts begin with it where that is asked."""

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        return [BOS] * bos + list(text.encode())


def test_a_protocol_has_the_window_and_the_masks_of_a_model() -> None:
    plain = session(random_table(0), context=100)
    assert Protocol(draws=16).of_model(plain) == Protocol(window=99, draws=0)
    assert [Protocol().fitted(n).window for n in (5000, 513, 512)] == [512, 512, 511]
    assert Protocol(window=7).fitted(5000).window == 7
    model = SimpleNamespace(config=SimpleNamespace(diffusion=object(), context=100))
    diffusing: Any = SimpleNamespace(model=model, context=100)
    assert Protocol().of_model(diffusing) == Protocol(window=99, draws=128, unconditional=False)
    assert Protocol(draws=16).of_model(diffusing).draws == 16


def test_the_prefix_is_a_token_of_the_model() -> None:
    tokenizer: Any = Beginning()
    for text, token in (("default", BOS), ("none", None), ("0", 0), (str(VOCAB - 1), VOCAB - 1)):
        assert Protocol(text).token(tokenizer) == token
    for wrong in (str(VOCAB), "-1", "x", ""):
        with pytest.raises(ParameterError, match=rf"none or an id below {VOCAB}"):
            Protocol(wrong).token(tokenizer)
    for bos, token in ((None, EOS), (0, 0)):
        tokenizer.bos = bos
        assert Protocol().token(tokenizer) == token


def test_a_text_alone_has_the_prefix_once() -> None:
    tokenizer: Any = Beginning()
    assert alone("ab", tokenizer, BOS) == ((BOS, 97, 98), 1) and alone("ab", tokenizer, None) == ((97, 98), 1)
    assert alone("ab", tokenizer, 97) == ((97, 98), 1) and alone("", tokenizer, 5) == ((5,), 1)
    begun: Any = WithBeginning()
    assert after("ab ", "c", begun, BOS) == ((BOS, 97, 98, 32, 99), 3, True)
    assert after("", "c", begun, BOS) == ((BOS, 99), 1, True)

    class Merging(ByteTokenizer):
        def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
            return [200 if pair == "xy" else ord(pair[0]) for pair in text.replace("xy", "@")] if "@" in text else [
                250 if c == "@" else ord(c) for c in text.replace("xy", "@")
            ]  # fmt: skip

    merging: Any = Merging()
    assert after("ax", "yb", merging, None) == ((97, 120, 98), 2, False)  # read as they stand alone


def test_a_document_s_windows_say_their_tokens_bytes_and_positions() -> None:
    table = random_table(1)
    asked = session(table)
    text = "abcdefghij"
    found = list(evaluation.document(asked, text, Protocol(window=4)))
    ids = [BOS, *text.encode()]
    assert [(each.number, each.values["tokens"], each.values["bytes"]) for each in found] == [
        (0, 4.0, 4.0), (1, 4.0, 4.0), (2, 2.0, 2.0)
    ]  # fmt: skip
    assert sum(each.values["nats"] for each in found) == pytest.approx(-logprob(table, ids), abs=1e-4)
    assert found[1].values["nats"] == pytest.approx(-logprob(table, ids[4:9]), abs=1e-4)
    first = found[0].detail["positions"]
    said = [-logs(table)[a, b] for a, b in pairwise(ids)]
    near = pytest.approx
    assert first == {
        "1": [near(said[0], abs=1e-5), 1.0],
        "2": [near(said[1] + said[2], abs=1e-5), 2.0],
        "4": [near(said[3], abs=1e-5), 1.0],
    }
    assert [each.number for each in evaluation.document(asked, text, Protocol(window=4), done={0, 2})] == [1]
    few = list(evaluation.document(asked, text, Protocol(window=4), limit=2))
    assert [each.values["bytes"] for each in few] == [4.0, 4.0] and few[0].cluster is None
    bare = list(evaluation.document(asked, text, Protocol("none", window=4)))
    assert sum(each.values["bytes"] for each in bare) == 10 and sum(each.values["tokens"] for each in bare) == 9
    assert bare[-1].values["bytes"] > bare[-1].values["tokens"]
    assert list(evaluation.document(asked, "a", Protocol("none"))) == []
    with pytest.raises(ParameterError, match="a window of 60 tokens is more than this model reads: give --window 50"):
        list(evaluation.document(session(table, 50), text, Protocol(window=60)))
    chat = results(evaluation.document(asked, "hi", Protocol(chat=True)))
    assert chat[0].values["tokens"] == len(b"u:hi;a:") and chat[0].values["bytes"] == 2.0


def test_what_cannot_be_scored_is_said_and_the_rest_is() -> None:
    table = random_table(2)
    rows = [
        {"good": "abcd", "bad": "abdc"}, {"good": "a" * 12, "bad": "b"}, {"good": "a" * 11, "bad": "ba"},
        {"good": "b" * 10, "bad": "a"},
    ]  # fmt: skip
    found = list(evaluate(session(table, context=11), task(rows), Protocol()))
    problems = [each for each in found if isinstance(each, Problem)]
    assert [(each.number, each.kind, each.words) for each in problems] == [
        (1, "too long", "has 13 tokens, the model reads at most 11")
    ]
    scored = {each.number: each for each in results(found)}
    assert set(scored) == {0, 2, 3}
    good, bad = (logprob(table, [BOS, *text.encode()]) for text in ("abcd", "abdc"))
    assert scored[0].values == {"acc": float(good > bad)}
    assert scored[0].detail["loglikelihoods"] == pytest.approx([good, bad], abs=1e-4)
    same = results(evaluate(session(np.zeros((VOCAB, VOCAB))), task([{"good": "ab", "bad": "cd"}]), Protocol()))
    assert same[0].values == {"acc": 0.0}  # of equals neither is preferred
    documents = list(evaluate(session(table), task([{"text": "a"}, {"text": "bc"}]), Protocol("none")))
    assert isinstance(documents[0], Problem) and documents[0].words == "no token of the text has a distribution"
    assert isinstance(documents[1], Result) and documents[1].values["tokens"] == 1.0


def test_choices_are_set_against_themselves_without_a_context() -> None:
    table = random_table(3)
    rows = [{"context": "q", "choices": ["ab", "c"], "gold": 1}, {"context": "", "choices": ["ab", "c"], "gold": 0}]
    for found in results(evaluate(session(table), task(rows), Protocol())):
        row = rows[found.number]
        begin = [ord("q")] if row["context"] else [BOS]
        totals = [logprob(table, [*begin, 32, *c.encode()]) for c in row["choices"]]
        own = [logprob(table, [BOS, *c.encode()]) for c in row["choices"]]
        assert found.detail == {"loglikelihoods": pytest.approx(totals, abs=1e-4), "gold": row["gold"]}
        gains = [t - o for t, o in zip(totals, own, strict=True)]
        assert found.values["acc_mutual_info"] == float(np.argmax(gains) == row["gold"])
        measures = calibration.of_choice(totals, row["gold"])
        assert {name: found.values[name] for name in measures} == pytest.approx(measures, abs=1e-4)


def test_measures_of_choices_by_characters_and_by_bytes() -> None:
    found = evaluation.choice_measures([-3.0, -4.0, -7.0], ("ab", "ääää", "abcdef"), 1)
    assert (found["acc"], found["acc_norm"], found["acc_bytes"]) == (0.0, 1.0, 1.0)
    found = evaluation.choice_measures([-3.0, -3.4], ("aaaa", "ää"), 0)
    assert (found["acc_norm"], found["acc_bytes"]) == (1.0, 1.0)
    found = evaluation.choice_measures([-3.0, -2.9], ("aaa", "ää"), 0)  # a character -1 and -1.45, a byte -1 and -0.725
    assert (found["acc"], found["acc_norm"], found["acc_bytes"]) == (0.0, 1.0, 0.0)


def test_questions_too_long_for_an_answer_are_listed_and_others_answered() -> None:
    asked = session(certain_table(b":xyz"), context=12)
    rows = [
        {"prompt": "a:", "answer": "xyz"},
        {"prompt": "b" * 11 + ":", "answer": "x"},
        {"prompt": "c" * 10 + ":", "answer": "x"},
    ]
    found = list(evaluate(asked, task(rows), Protocol()))
    first, long, last = found
    assert isinstance(first, Result) and first.detail == {"answers": ["xyz"], "finish": ["eot"]}
    assert first.values["exact"] == 1
    assert isinstance(long, Problem) and long.words == "the prompt has 12 tokens, the model reads at most 12"
    assert isinstance(last, Result) and last.detail["answers"] == ["x"] and last.detail["finish"] == ["length"]
    with pytest.raises(ParameterError, match="several samples of the most likely answer are one"):
        list(evaluate(asked, task(rows), Protocol(samples=2)))
    several = results(evaluate(asked, task(rows[:1]), Protocol(samples=3, temperature=1.0)))
    assert len(several[0].detail["answers"]) == 3 and "exact pass@2" in several[0].values
    stopped = results(evaluate(asked, task(rows[:1], stop=("z",), max_tokens=1), Protocol()))
    assert stopped[0].detail["answers"] == ["x"]


def test_answers_differ_by_seed_and_item() -> None:
    asked = session(np.where(random_table(4) > -9, random_table(4, 0.3), 0.0))
    rows = task([{"prompt": "a:", "answer": "q"}, {"prompt": "a:", "answer": "w"}], max_tokens=6)
    drawn = [
        [
            each.detail["answers"]
            for each in results(evaluate(asked, rows, Protocol(samples=2, temperature=1.0, seed=s)))
        ]
        for s in (0, 1, 2)
    ]
    assert drawn[0][0] != drawn[0][1] and drawn[0] != drawn[1]
    assert drawn[0][1] == drawn[2][0]  # the second of two begins where the first of seed 2 does


def test_measures_of_one_and_of_several_answers() -> None:
    question, plain = Question("p", ("7",)), task([])
    assert answer_measures(question, ["7"], [{"exact": 1.0}], plain) == {"exact": 1.0}
    found = answer_measures(question, ["7", "8", "8"], [{"exact": 1.0}, {"exact": 0.0}, {"exact": 0.0}], plain)
    assert set(found) == {"exact", *(f"exact {kind}@{k}" for kind in ("pass", "maj") for k in (2, 3))}
    assert found["exact"] == pytest.approx(1 / 3) and found["exact pass@2"] == pytest.approx(2 / 3)
    assert found["exact pass@3"] == 1 and found["exact maj@3"] == 0
    none = answer_measures(question, ["8", "8"], [{"exact": 0.0}] * 2, plain)
    assert none["exact maj@2"] == 0 == none["exact pass@2"]
    judged = answer_measures(question, ["a", "b"], [{"program": 1.0}, {"program": 0.0}], plain)
    assert set(judged) == {"program", "program pass@2"}
    alike = answer_measures(
        question, ["7", "7.", "8"], [{"normalised": 1.0}, {"normalised": 1.0}, {"normalised": 0.0}], plain
    )
    assert alike["normalised maj@3"] == 1


def test_only_what_is_not_done_is_asked_of_the_first_rows() -> None:
    rows = [{"good": f"a{c}", "bad": f"{c}a"} for c in "bcdefg"]
    asked = session(random_table(5))
    assert sorted(e.number for e in evaluate(asked, task(rows), Protocol(), done={1, 3}, limit=5)) == [0, 2, 4]
    assert sorted(e.number for e in evaluate(asked, task(rows), Protocol())) == [0, 1, 2, 3, 4, 5]
    odd = [{"good": "a", "bad": "a"}, *rows]
    found = list(evaluate(asked, task(odd), Protocol(), done={0}))
    assert isinstance(found[0], Problem) and found[0].number == 0  # what is odd is said again


def test_contexts_that_are_too_long_are_listed_and_others_compared() -> None:
    table = random_table(6)
    rows = [
        {"context": "ab", "changed": "ac"},
        {"context": "a" * 9, "changed": "b"},
        {"context": "b", "changed": "a" * 8},
    ]
    rows.append({"context": "b" * 7, "changed": "b"})
    rows.insert(1, {"context": " ", "changed": "a"})
    first, odd, long, full, last = list(evaluate(session(table, context=8), task(rows), Protocol()))
    assert isinstance(odd, Problem) and odd.kind == "empty"
    assert isinstance(first, Result) and first.values["kl"] > 0
    assert isinstance(long, Problem) and long.words == "has 9 tokens, the model reads at most 8"
    assert isinstance(full, Problem) and full.words == "has 8 tokens, the model reads at most 8"  # none can follow
    assert isinstance(last, Result) and last.values["kl"] == pytest.approx(0, abs=1e-6)


def test_perplexity_is_by_how_far_in_a_token_stands() -> None:
    items = [
        (0, "a", {"1": (2.0, 1.0), "2": (3.0, 2.0)}),
        (1, "a", {"1": (4.0, 1.0)}),
        (2, "b", {"1": (1.0, 1.0), "4": (8.0, 4.0)}),
    ]
    found = subgroups.by_position(items)  # type: ignore[arg-type]
    assert list(found) == [("perplexity", f"position={said}") for said in ("1", "2-3", "4-7")]
    assert found["perplexity", "position=1"].mean == pytest.approx(math.exp(7 / 3))
    assert found["perplexity", "position=1"].df == 1  # two clusters
    assert found["perplexity", "position=4-7"].mean == pytest.approx(math.exp(2.0))


def test_a_text_is_worth_its_tokens_and_its_bytes() -> None:
    table = random_table(7)
    found = explain.explain(session(table), "abäc")
    ids = list("abäc".encode())
    assert [step.token for step in found.steps] == ids and len(found.scored) == 4
    total = logprob(table, ids)
    assert found.total_logprob == pytest.approx(total, abs=1e-4)
    assert found.perplexity == pytest.approx(math.exp(-total / 4), rel=1e-4)
    assert found.bits_per_byte == pytest.approx(-total / math.log(2) / 4, rel=1e-4)
    one = explain.explain(session(table), "a")
    assert one.perplexity is None and one.bits_per_byte is None and one.scored == () and one.total_logprob == 0


def test_continuations_have_the_probability_of_all_their_tokens() -> None:
    table = random_table(8)
    first, second = explain.continuations(session(table), "ab", ["cd", "e"])
    assert (first.text, second.text) == ("cd", "e") and len(first.steps) == 2
    assert first.logprob == pytest.approx(logprob(table, [98, 99, 100]), abs=1e-4)
    assert second.logprob == pytest.approx(logprob(table, [98, 101]), abs=1e-4)
    with pytest.raises(ParameterError, match="at least one byte, got an empty one"):
        explain.continuations(session(table), "ab", [""])
    with pytest.raises(ParameterError, match="a continuation needs a text before it"):
        explain.continuations(session(table), "", ["a"])

    class Merging(Beginning):
        def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
            return [1 if c == "@" else ord(c) for c in text.replace("bc", "@")]

        def piece(self, token: int, /) -> bytes:
            return b"bc" if token == 1 else bytes([token])

    with pytest.raises(ParameterError, match=r"'cde' changes how .* \('b' becomes part of 'bcd'\).*before 'b'\)"):
        explain.continuations(session(table, tokenizer=Merging()), "ab", ["cde"])
    with pytest.raises(ParameterError, match="'b' becomes part of 'bc'"):  # as many tokens as before
        explain.continuations(session(table, tokenizer=Merging()), "ab", ["c"])


def test_a_model_that_does_not_show_its_attention_is_refused() -> None:
    with pytest.raises(ParameterError, match="m runs through mlx-lm's own class"):
        explain.attention(session(random_table(0)), "ab")
    with pytest.raises(ContextOverflow, match="the text has 6 tokens and this model reads at most 5"):
        explain.attention(session(random_table(0), context=5), "abcdef")
    with pytest.raises(ParameterError, match="own class"):
        explain.attention(session(random_table(0), context=6), "abcdef")


def test_features_are_of_as_many_tokens_as_are_read() -> None:
    table, long = random_table(9), "x" * 600
    asked = session(table, tokenizer=WithBeginning())
    (few, many) = features.pooled(asked, ["ab", long])
    assert few == pytest.approx([(BOS + 97 + 98) / 3]) and many == pytest.approx([(BOS + 511 * ord("x")) / 512])
    said = features.scored(asked, ["ab", long])
    assert [token for token, _ in said[0]] == [97, 98] and len(said[1]) == 511
    assert math.fsum(p for _, p in said[0]) == pytest.approx(logprob(table, [BOS, 97, 98]), abs=1e-4)
    with pytest.raises(DataError, match="text 2 has no token"):
        features.pooled(session(table), ["a", ""])
    with pytest.raises(DataError, match="has no token"):
        features.mean_hidden(asked, [])
    with pytest.raises(ContextOverflow, match="the text has 4 tokens and this model reads at most 3"):
        features.mean_hidden(session(table, context=3), [1, 2, 3, 4])


def test_paraphrases_are_drawn_of_each_item_that_is_no_example() -> None:
    rows = [{"prompt": f"p{i}" + "!" * i, "answer": "x"} for i in range(4)]
    asked = session(random_table(0))
    found = list(paraphrase.paraphrases(asked, task(rows, shots=1), 3, seed=7))
    assert [number for number, _ in found] == [1, 2, 3] and all(len({*texts}) == 3 for _, texts in found)
    for number, texts in found:
        assert all(text == text.strip() and len(text) <= 2 * (2 + number) + 16 for text in texts)
    assert found == list(paraphrase.paraphrases(asked, task(rows, shots=1), 3, seed=7))
    assert found != list(paraphrase.paraphrases(asked, task(rows, shots=1), 3, seed=8))
