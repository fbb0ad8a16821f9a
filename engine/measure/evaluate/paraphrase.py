"""Paraphrases of a task's contexts or prompts by a named model, to vary the task by.

They are no better than the model: whether the meaning stayed can be measured (`likely eval meaning:FILE`), not assumed.
"""

from collections.abc import Iterator

from likely.engine.decode.prompt import single_turn
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.evaluation import answers
from likely.engine.measure.evaluate.tasks.tasks import Item, Task
from likely.engine.measure.evaluate.tasks.variations import text_of
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Temperature, TopP

ASKED = "Say this in other words. Keep its meaning, and every name and number.\n\n{text}\n\nIn other words:"
RECIPE = SamplingConfig((Temperature(0.7), TopP(0.9)))
LONGEST = 2  # times as many tokens as the text, at most, and a few


def paraphrases(
    session: Session, task: Task, n: int, *, limit: int | None = None, seed: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """The number of each item of the first `limit`, and n paraphrases of its text without the examples before it."""
    for entry in task.bare.items(None if limit is None else limit + task.aside):
        if isinstance(entry, Item) and entry.number >= task.aside:
            text = text_of(entry.body)
            ids = single_turn(ASKED.format(text=text), session.tokenizer).ids(session.tokenizer)
            longest = LONGEST * len(session.tokenizer.encode(text)) + 16
            texts, _ = answers(session, ids, RECIPE, n, seed + entry.number * n, longest, ("\n\n",))
            yield entry.number, [answer.strip() for answer in texts]
