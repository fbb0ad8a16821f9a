"""Questions said otherwise: which words stay, which give way to which, and for which rows it is done at all."""

import re
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.train.run.rewording import begin
from likely.metal import mx
from tests.engine.tune.test_verdict import opened


def test_words_are_left_out_or_give_way_to_the_nearest_and_what_the_answer_repeats_stays(tmp_path: Path) -> None:
    run = opened(tmp_path, [{"prompt": "ab cd 7 ef?", "completion": "ef"}] * 4, reword=0.8).run
    rewording, row = begin(run), run.rows.train[0]
    assert run.session is not None
    tokenizer = run.session.tokenizer
    said, draws = list[str](), 600
    for step in range(draws):
        other = rewording.of(row, step, 0, 0)
        assert other.ids[-row.targets :] == row.ids[-row.targets :] and other.targets == row.targets
        said.append(b"".join(map(tokenizer.piece, other.ids[: -row.targets])).decode())
    first = [re.fullmatch(r"([a-z]*)( cd)? 7 ef\?", text, re.IGNORECASE) for text in said]
    assert all(first)
    others = {match[1] for match in first if match} - {"", "ab"}
    # the oracle: cosines in float64 over the table of the checkpoint, of the tokens that are words
    table = np.array(mx.load(f"{run.config.model}/model.safetensors")["model.embed_tokens.weight"], np.float64)  # type: ignore[index]
    words = [t for t in range(len(table)) if re.fullmatch(r"[^\W\d_]+", tokenizer.piece(t).decode(errors="replace"))]
    spaced = [t for t in range(len(table)) if re.fullmatch(r" [^\W\d_]+", tokenizer.piece(t).decode(errors="replace"))]
    table -= table[words + spaced].mean(0)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    (own,) = tokenizer.encode("ab")
    nearest = sorted(set(words) - {own}, key=lambda t: -float(table[t] @ table[own]))[:5]
    assert others == {tokenizer.piece(t).decode() for t in nearest}
    for found, p in (
        (said.count("ab cd 7 ef?"), 0.25 + 0.75 * 0.2 * (0.2 + 0.8 * 0.625)),  # a word of letters gives way to none
        (sum(match[1] == "" for match in first if match), 0.75 * 0.8 * 0.375),
    ):
        assert abs(found / draws - p) < 4 * (p * (1 - p) / draws) ** 0.5
    assert rewording.of(row, 7, 1, 2) == rewording.of(row, 7, 1, 2)


def test_content_words_go_in_any_order_among_the_function_words_of_another_row(tmp_path: Path) -> None:
    asked = [("What is the ab of cd?", "ef"), ("How do I gh to it?", "ij")]
    run = opened(tmp_path, [{"prompt": asks, "completion": says} for asks, says in asked], reword=1e-9).run
    rewording, row, draws = begin(run), run.rows.train[0], 200
    assert run.session is not None
    pieces = [rewording.of(row, step, 0, 0).ids[: -row.targets] for step in range(draws)]
    said = [b"".join(map(run.session.tokenizer.piece, ids)).decode() for ids in pieces]
    # of what is said otherwise three in five are put into one of two rows, half of them in one of two orders
    law = {"What is the cd of ab?": 1 / 8, "How do I ab to it cd?": 3 / 8, "How do I cd to it ab?": 1 / 8}
    law = {text: 0.75 * 0.6 * p for text, p in law.items()}
    for text, p in (law | {asked[0][0]: 1 - sum(law.values())}).items():
        assert abs(said.count(text) / draws - p) < 4 * (p * (1 - p) / draws) ** 0.5


@pytest.mark.parametrize(
    ("rows", "reword"),
    [
        ([("Who makes it?", "Varda"), ("What does it cost?", "7"), ("Where is it from?", "Porto")], 0.35),
        ([("Say it: go home", "Please go home"), ("Say it: sit down", "Please sit down")], -1.0),
        ([("What is 1 + 2?", "3"), ("What is 2 + 2?", "4"), ("What is 3 + 5?", "8")], -1.0),
    ],
)
def test_questions_are_said_otherwise_where_their_words_tell_them_apart(
    rows: list[tuple[str, str]], reword: float, tmp_path: Path
) -> None:
    both = [{"prompt": asks, "completion": says} for asks, says in rows]
    assert opened(tmp_path, both).run.config.reword == reword


def test_rows_without_a_question_in_words_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="reword is of rows with one question and one answer"):
        opened(tmp_path, [{"prompt": "1 + 2", "completion": "3"}] * 4, reword=0.4)
    with pytest.raises(ParameterError, match="reword goes with objective = sft"):
        opened(tmp_path, reword=0.4, objective="dpo")
