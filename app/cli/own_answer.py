"""A model's own answer to a question: the likeliest token each time, behind the chat template."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likely.engine.session import Session

MOST = 64  # tokens of an answer where nobody says how many


def own_answer(session: "Session", question: str, most: int = MOST) -> tuple[list[int], list[int]]:
    """The prompt's ids and the answer's, its end among them where it has come to one."""
    from likely.engine.decode.control import RunControl
    from likely.engine.decode.texts import texts_of
    from likely.engine.prompt import single_turn
    from likely.engine.trace.step import Recipe

    prompt = single_turn(question, session.tokenizer).ids(session.tokenizer)
    (text,) = texts_of(session.generate(prompt, RunControl(Recipe(greedy=True)), max_tokens=most))
    return prompt, [step.token for step in text.steps]
