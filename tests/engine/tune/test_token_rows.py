"""Rows of a corpus on disk are those a plain loop cuts from its documents."""

import numpy as np
import pytest

from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.data.token_rows import TokenRows

DOCUMENTS = [[7], [1, 2, 3, 4], [], [5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18], [19]]


def _by_loop(length: int) -> list[TrainingSample]:
    rows = []
    for number, document in enumerate(DOCUMENTS, 1):
        start = 0
        while start + 1 < len(document):
            ids = tuple(document[start : start + length])
            rows.append(TrainingSample(ids, (True,) * len(ids), f"corpus document {number}"))
            start += length - 1
    return rows


@pytest.mark.parametrize("length", [2, 3, 4, 5, 8])
def test_every_token_but_a_documents_first_is_a_target_once(length):
    ids = np.array([token for document in DOCUMENTS for token in document])
    rows = TokenRows(ids, np.array([len(document) for document in DOCUMENTS]), length, "corpus")
    expected = _by_loop(length)
    assert len(rows) == len(expected) and list(rows) == expected
    assert rows[1:] == expected[1:] and rows[-2::-1] == expected[-2::-1] and rows[-1] == expected[-1]
    targets = [token for row in expected for token in row.ids[1:]]
    assert targets == [token for document in DOCUMENTS for token in document[1:]]
    assert rows.targets == len(targets) == 14
