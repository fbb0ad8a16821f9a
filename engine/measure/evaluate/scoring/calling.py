"""Questions with tools, asked of a model: what it calls, and how likely the right choice was where it made it.

Each answer is the likeliest, or drawn at a temperature; the choice is measured by `engine.tools.choice`, behind what
the answer has thought before it. Nothing is called.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import ParameterError
from likely.engine.chat.tools.tool import ToolDistribution
from likely.engine.chat.tools.use import WORDS, ToolUse
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.loop.texts import texts_of
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.measure.evaluate.tasks.tasks import Item, Outcome, Problem, Result, TaskSettings
from likely.engine.measure.evaluate.tasks.tool_questions import ToolQuestion
from likely.engine.sampling.thinking import without_thought
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Temperature


def asked(
    session: Session,
    settings: TaskSettings,
    items: Iterable[Item | Problem],
    protocol: Protocol,
    strategy: Strategy = PLAIN,
) -> Iterator[Outcome]:
    """Each question's measures, and beside them `right_choice`, the probability of the right choice (a lower bound).
    ParameterError for several samples, and for a search."""
    if protocol.samples > 1 or strategy.SEARCHES:
        raise ParameterError("of a question with tools one answer is drawn: leave out --samples, and a search")
    warm = protocol.temperature > 0
    recipe = SamplingConfig((Temperature(protocol.temperature),)) if warm else SamplingConfig(greedy=True)
    stop = () if settings.stop == TaskSettings().stop else settings.stop  # empty lines stand in calls
    for entry in items:
        if isinstance(entry, Problem):
            yield entry
            continue
        question = entry.body
        assert isinstance(question, ToolQuestion)
        use = ToolUse.of(session.tokenizer, question.tools)
        ids = use.prompt((("user", question.prompt),)).ids(session.tokenizer)
        if use.format is None:
            ids = without_thought(ids, session.tokenizer)
        if len(ids) >= session.context:
            yield Problem.too_long(entry.number, len(ids), session.context, "the prompt")
            continue
        bound = use.constraint(len(ids))
        own = recipe if bound is None else replace(recipe, transforms=(bound, *recipe.transforms))
        events = session.generate(
            ids, RunControl(own), seed=protocol.seed + entry.number, max_tokens=settings.max_tokens, stop=stop,
            strategy=strategy,
        )  # fmt: skip
        (text,) = texts_of(events)
        rest = text.done.text if text.done is not None else ""
        answer = use.answer(ids, text.steps, rest, session.tokenizer)
        values = question.measures(answer.calls)
        law = whole(use.choosing(session, ids, text.steps, answer))
        if law is not None:
            values["right_choice"] = _p(law, question)
        calls = [call.function for call in answer.calls]
        detail = {"answers": [answer.written], "calls": calls, "finish": [text.reason]}
        yield Result(entry.number, entry.cluster, values, detail)


def _p(law: ToolDistribution, question: ToolQuestion) -> float:
    """The probability of the right choice."""
    p = {WORDS: law.none, **dict(law.tools)}
    return p[WORDS if question.call is None else question.call.name]
