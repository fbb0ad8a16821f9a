"""A model's own answer to a question: the likeliest token each time, behind the chat template."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

MOST = 64  # tokens of an answer where nobody says how many


def own_answer(session: "Session", question: str, most: int = MOST) -> tuple[list[int], list[int]]:
    """The prompt's ids and the answer's, its end among them where it has come to one."""
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.texts import texts_of
    from likely.engine.decode.prompt import single_turn
    from likely.engine.sampling.trace.step import SamplingConfig

    prompt = single_turn(question, session.tokenizer).ids(session.tokenizer)
    (text,) = texts_of(session.generate(prompt, RunControl(SamplingConfig(greedy=True)), max_tokens=most))
    return prompt, [step.token for step in text.steps]
