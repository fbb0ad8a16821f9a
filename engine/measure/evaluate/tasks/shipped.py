"""Real texts that ship with packages: documents to measure likelihoods on without fetching anything. No model.

They are everywhere, so that any model may have been trained on them: good for one model against another on the same
text, and for a quantised one against its original, not for how well a model reads what is new.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from likely.engine.base.errors import DataError
from likely.engine.measure.evaluate.tasks.tasks import Row, Task


def _python_reference() -> Mapping[str, str]:
    """The Python reference by topics, as `help()` has it: some 80 documents, half a megabyte of English about code."""
    topics: Mapping[str, str] = import_module("pydoc_data.topics").topics
    return topics


SHIPPED: dict[str, Callable[[], Mapping[str, str]]] = {"python-reference": _python_reference}


def shipped(name: str) -> Task | None:
    """The task of this name, whose rows have a text and a topic; None where there is none. DataError where this Python
    came without its texts."""
    if name not in SHIPPED:
        return None
    try:
        texts = SHIPPED[name]()
    except ImportError as error:
        raise DataError(f"{name}: this Python came without its texts ({error}): choose another task") from None

    def rows() -> Iterator[Row]:
        return ({"text": text, "topic": topic} for topic, text in sorted(texts.items()))

    return Task(name, rows, hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest())
