"""Answers of two models to the same questions as pairs for a judge. No model."""

from collections.abc import Callable, Iterator

from likely.engine.measure.evaluate.tasks.tasks import Item, Question, Row, Task, TaskSettings

AnswerPairs = Iterator[tuple[int, str, str]]  # the number of a question, and the answers of both, by number
NOTHING = "(no answer)"


def pairs(task: Task, models: tuple[str, str], answers: Callable[[], AnswerPairs], identity: str) -> Task:
    """The second model's answers as answer_a, the first's as answer_b, so that `win_rate` is what the second wins.

    Questions are judged as they stand in the rows, without the examples before them.
    """

    def rows() -> Iterator[Row]:
        questions = (item for item in task.bare.items() if isinstance(item, Item))
        for number, first, second in answers():
            question = next(item.body for item in questions if item.number == number)
            assert isinstance(question, Question)
            sides = {"answer_a": second.strip() or NOTHING, "answer_b": first.strip() or NOTHING}
            yield {"prompt": question.prompt, **sides}

    name = f"{task.name}: {models[1]} against {models[0]}"
    return Task(name, rows, f"judged 1 {identity}", TaskSettings(judge=task.settings.judge))
