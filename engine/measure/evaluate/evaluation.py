"""An evaluation: a model asked every item of a task, each item's measures, and the figures they add up to.

Requests and measures are lm-evaluation-harness's, so that scores can be set beside published ones: a context and its
continuation are split where the context's own tokens end, trailing spaces of the context go to the continuation, and an
empty context is the prefix token. Yields as it goes; whoever takes the results keeps them. Prints nothing.
"""

import itertools
import math
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.measures import every
from likely.engine.decode.answers.program import VerifierError
from likely.engine.decode.answers.vote import maj_at, pass_at
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.loop.texts import search_answers, texts_of
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.measure.evaluate.figures import calibration
from likely.engine.measure.evaluate.figures.contamination import least_likely
from likely.engine.measure.evaluate.scoring import bounded, calling
from likely.engine.measure.evaluate.scoring.bounded import LikelihoodBound, reach
from likely.engine.measure.evaluate.scoring.features import cosines
from likely.engine.measure.evaluate.scoring.likelihood import WINDOW, Likelihood, Request, windows
from likely.engine.measure.evaluate.scoring.protocol import Protocol, diffuses
from likely.engine.measure.evaluate.scoring.token_paths import PathSampler
from likely.engine.measure.evaluate.tasks import verifiers
from likely.engine.measure.evaluate.tasks.conditional import ChangedContext, ConditionedText, JudgedPair, RestatedText
from likely.engine.measure.evaluate.tasks.tasks import (
    Choices,
    Document,
    Item,
    KnownDistribution,
    MinimalPair,
    Outcome,
    Problem,
    Question,
    Result,
    Task,
)
from likely.engine.measure.evaluate.tasks.tool_questions import ToolQuestion
from likely.engine.measure.evaluate.tasks.verifiers import judge
from likely.engine.sampling.thinking import end_of, opens, thinking_of
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Temperature
from likely.engine.text.tokenizer import Tokenizer

KNOWN = 4096  # choices whose probability without a context is kept


Scores = tuple[Likelihood, ...] | tuple[LikelihoodBound, ...]


def evaluate(
    session: Session,
    task: Task,
    protocol: Protocol,
    *,
    strategy: Strategy | None = None,
    done: Container[int] = (),
    limit: int | None = None,
) -> Iterator[Outcome]:
    """Ask what has not been `done` of a task's first `limit` items, by number; results come in any order within some
    hundreds.

    ParameterError for what the task or the model cannot do.
    """
    verifiers.check(task.settings)
    items = (entry for entry in task.items(limit) if isinstance(entry, Problem) or entry.number not in done)
    if diffuses(session):
        bounded.check(task, session.info.name)
    if task.form is Question:
        yield from _drawn(session, task, items, protocol, strategy or PLAIN)
    elif task.form is ToolQuestion:
        yield from calling.asked(session, task.settings, items, protocol, strategy or PLAIN)
    elif task.form is ChangedContext:
        yield from _shifts(session, items, protocol)
    else:
        yield from _Scored(session, task, protocol).outcomes(items)


def document(
    session: Session, text: str, protocol: Protocol, *, done: Container[int] = (), limit: int | None = None
) -> Iterator[Result]:
    """One text by its windows, the first `limit` of them, each a result."""
    tokenizer = session.tokenizer
    ids = _whole(text, tokenizer, protocol)
    total = len(text.encode())
    scorer = bounded.reader(session, protocol)
    requests = list(enumerate(islice(_windows(ids, session, protocol), limit)))
    sizes = [sum(len(tokenizer.piece(t)) for t in r.texts[0][r.starts[0] :]) for _, r in requests]
    if sizes and limit is None:
        sizes[-1] += total - sum(sizes)  # what a tokenizer adds, and a first token that is not scored
    remaining = [(number, request) for number, request in requests if number not in done]
    sampler = _sampler(session, protocol)
    for index, (likelihood,) in scorer.read(request for _, request in remaining):
        number = remaining[index][0]
        if isinstance(likelihood, LikelihoodBound):
            yield Result(number, None, bounded.of_texts([likelihood], sizes[number]))
            continue
        values = {"nats": -likelihood.total, "tokens": float(len(likelihood.tokens)), "bytes": float(sizes[number])}
        yield Result(number, None, values, _of_tokens(number, [(remaining[index][1], likelihood)], sampler))


def _windows(ids: Sequence[int], session: Session, protocol: Protocol) -> Iterator[Request]:
    """A document's windows; ParameterError for longer ones than the model reads."""
    if protocol.window > (most := reach(session)):
        raise ParameterError(
            f"a window of {protocol.window} tokens is more than this model reads: give --window {most}"
        )
    return windows(ids, protocol.fitted(session.context).window, protocol.token(session.tokenizer), protocol.stride)


def _sampler(session: Session, protocol: Protocol) -> PathSampler | None:
    return PathSampler(session, protocol.paths, protocol.seed) if protocol.paths else None


def _of_tokens(number: int, read: Sequence[tuple[Request, Likelihood]], sampler: PathSampler | None) -> dict[str, Any]:
    """Detail of a text by its tokens."""
    detail: dict[str, Any] = {"positions": by_position(read)}
    return detail if sampler is None else {**detail, "marginal": sampler.marginal(number, read)}


def _whole(text: str, tokenizer: Tokenizer, protocol: Protocol) -> list[int]:
    if protocol.chat:
        return tokenizer.chat([{"role": "user", "content": text}], generation_prompt=False)
    return tokenizer.encode(text)


class _Scored:
    """Items whose texts are given: pairs, choices, documents, laws."""

    def __init__(self, session: Session, task: Task, protocol: Protocol) -> None:
        self.session, self.task, self.protocol = session, task, protocol
        self.tokenizer = session.tokenizer
        self.prefix = protocol.token(session.tokenizer)
        if self.prefix is None and task.form in (ConditionedText, RestatedText):
            raise ParameterError(f"{task.name} asks for a text's first token too: leave out --prefix-token none")
        self.reader, self.other = (bounded.reader(session, protocol) for _ in range(2))
        self.sampler = _sampler(session, protocol)
        self.known: OrderedDict[str, float] = OrderedDict()  # choices without a context

    def outcomes(self, items: Iterable[Item | Problem]) -> Iterator[Outcome]:
        waiting = iter(items)
        while entries := list(islice(waiting, WINDOW)):
            pending: list[tuple[Item, list[Request]]] = []
            for entry in entries:
                if isinstance(entry, Problem):
                    yield entry
                    continue
                requests, odd = self._requests(entry)
                if odd is not None:
                    yield odd
                if requests:
                    pending.append((entry, requests))
            self._learn([item.body for item, _ in pending])
            by_item: dict[int, dict[int, Scores]] = {}
            owners = [(index, place) for index, (_, requests) in enumerate(pending) for place in range(len(requests))]
            for number, likelihoods in self.reader.read(request for _, requests in pending for request in requests):
                index, place = owners[number]
                own = by_item.setdefault(index, {})
                own[place] = likelihoods
                item, requests = pending[index]
                if len(own) == len(requests):
                    ordered = [likelihoods for _, likelihoods in sorted(by_item.pop(index).items())]
                    yield self._result(item, requests, ordered)

    def _requests(self, item: Item) -> tuple[list[Request], Problem | None]:
        """Requests of an item, none where it cannot be scored; and what is odd about it."""
        body = item.body
        if isinstance(body, Document):
            ids = _whole(body.text, self.tokenizer, self.protocol)
            if parts := list(_windows(ids, self.session, self.protocol)):
                return parts, None
            return [], Problem(item.number, "unanswerable", "no token of the text has a distribution")
        if isinstance(body, MinimalPair):
            groups = [[(*self._alone(text), True) for text in (body.good, body.bad)]]
        elif isinstance(body, KnownDistribution):
            groups = [[self._after(body.context, text) for text, _ in body.law]]
        elif isinstance(body, Choices):
            groups = [[self._after(body.context, f"{self.task.settings.delimiter}{choice}") for choice in body.choices]]
        else:
            assert isinstance(body, JudgedPair | ConditionedText | RestatedText)
            groups = [
                [self._after(context, text) for text in texts] for context, texts in body.asked(self.task.settings)
            ]
        texts = [text for group in groups for text in group]
        longest, context = max(len(text) for text, *_ in texts), reach(self.session)
        if longest - 1 > context:
            return [], Problem.too_long(item.number, longest, context)
        if any(len(text) <= start for text, start, _ in texts):
            words = "a choice becomes one token with the context before it, or has no token of its own"
            return [], Problem(item.number, "unanswerable", words)
        requests = [
            Request(tuple(text for text, *_ in texts), tuple(start for _, start, _ in texts)) for texts in groups
        ]
        if not all(apart for *_, apart in texts):
            words = "the context's tokens are others where a choice follows, and are read as they stand alone"
            return requests, Problem(item.number, "boundary", words, scored=True)
        return requests, None

    def _alone(self, text: str) -> tuple[tuple[int, ...], int]:
        return alone(text, self.tokenizer, self.prefix)

    def _after(self, context: str, continuation: str) -> tuple[tuple[int, ...], int, bool]:
        if self.protocol.chat:
            before = self.tokenizer.chat([{"role": "user", "content": context}])
            return (*before, *self.tokenizer.encode(continuation.lstrip(" "))), len(before), True
        return after(context, continuation, self.tokenizer, self.prefix)

    def _learn(self, bodies: Sequence[object]) -> None:
        """Find the probabilities of choices that nothing precedes, each once."""
        if not self.protocol.unconditional:
            return
        wanted = {choice: None for body in bodies if isinstance(body, Choices) for choice in body.choices}
        new = [choice for choice in wanted if choice not in self.known]
        for choice in wanted:
            if choice in self.known:
                self.known.move_to_end(choice)  # what is wanted now is not what makes room
        requested = [(choice, *self._alone(choice)) for choice in new]
        requested = [entry for entry in requested if len(entry[1]) - 1 <= self.session.context]
        requests = (Request((ids,), (start,)) for _, ids, start in requested)
        for index, (likelihood,) in self.other.read(requests):
            self.known[requested[index][0]] = likelihood.total
        while len(self.known) > max(KNOWN, len(wanted)):
            self.known.popitem(last=False)

    def _result(self, item: Item, requests: Sequence[Request], of_texts: Sequence[Scores]) -> Result:
        body = item.body
        texts = [score for scores in of_texts for score in scores]
        if bounds := [text for text in texts if isinstance(text, LikelihoodBound)]:
            return Result(item.number, item.cluster, *bounded.of_item(item, bounds))
        exact = [text for text in texts if isinstance(text, Likelihood)]
        if isinstance(body, Document):
            read = list(zip(requests, exact, strict=True))
            nats = -math.fsum(likelihood.total for _, likelihood in read)
            tokens = sum(len(likelihood.tokens) for _, likelihood in read)
            values = {"nats": nats, "tokens": float(tokens), "bytes": float(len(body.text.encode()))}
            detail = {
                "loglikelihoods": [-nats],
                "min_20": least_likely(np.concatenate([likelihood.tokens for _, likelihood in read])),
                **_of_tokens(item.number, read, self.sampler),
            }
            return Result(item.number, item.cluster, values, detail)
        totals = [likelihood.total for likelihood in exact]
        if isinstance(body, JudgedPair | ConditionedText | RestatedText):
            values = body.measures(totals)
            if isinstance(body, RestatedText):
                values |= cosines(self.session, body.texts)
            return Result(item.number, item.cluster, values, {"loglikelihoods": totals})
        if isinstance(body, MinimalPair):
            return Result(item.number, item.cluster, {"acc": float(totals[0] > totals[1])}, {"loglikelihoods": totals})
        if isinstance(body, KnownDistribution):
            return Result(item.number, item.cluster, law_measures(totals, body), {"loglikelihoods": totals})
        assert isinstance(body, Choices)
        values = choice_measures(totals, body.choices, body.gold)
        if self.protocol.unconditional and all(choice in self.known for choice in body.choices):
            gains = [total - self.known[choice] for total, choice in zip(totals, body.choices, strict=True)]
            values["acc_mutual_info"] = float(np.argmax(gains) == body.gold)
        return Result(item.number, item.cluster, values, {"loglikelihoods": totals, "gold": body.gold})


def by_position(read: Sequence[tuple[Request, Likelihood]]) -> dict[str, list[float]]:
    """Nats and number of the tokens that had 1, 2 or 3, 4 to 7, ... tokens of their window before them, by the least of
    these numbers."""
    before = np.concatenate([np.arange(len(likelihood.tokens)) + request.starts[0] for request, likelihood in read])
    nats = -np.concatenate([likelihood.tokens for _, likelihood in read])
    power = np.log2(before).astype(int)
    return {str(2**p): [float(nats[power == p].sum()), float((power == p).sum())] for p in np.unique(power).tolist()}


def alone(text: str, tokenizer: Tokenizer, prefix: int | None) -> tuple[tuple[int, ...], int]:
    """Ids of a text that nothing precedes but the prefix token, and from which on it is scored."""
    ids = tokenizer.encode(text)
    before = [] if prefix is None or ids[:1] == [prefix] else [prefix]
    return (*before, *ids), 1


def after(
    context: str, continuation: str, tokenizer: Tokenizer, prefix: int | None
) -> tuple[tuple[int, ...], int, bool]:
    """Ids of a context and what follows it, where that begins, and whether the two texts together begin with the
    context's own tokens, which are taken in either case."""
    if not context:
        return *alone(continuation, tokenizer, prefix), True
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    before = tokenizer.encode(stripped, bos=True)
    whole = tokenizer.encode(stripped + continuation, bos=True)
    return (*before, *whole[len(before) :]), len(before), whole[: len(before)] == before


def choice_measures(totals: Sequence[float], choices: Sequence[str], gold: int) -> dict[str, float]:
    """The harness's measures of one question, from each choice's log-probability; of equals, the first is taken.

    acc_norm divides by a choice's characters, acc_bytes by its bytes; the others are `calibration.of_choice`.
    """
    logp, measures = np.asarray(totals, np.float64), calibration.of_choice(totals, gold)
    return {
        "acc": measures["acc"],
        "acc_norm": float(np.argmax(logp / [len(choice) for choice in choices]) == gold),
        "acc_bytes": float(np.argmax(logp / [len(choice.encode()) for choice in choices]) == gold),
        **measures,
    }


def law_measures(totals: Sequence[float], body: KnownDistribution) -> dict[str, float]:
    """KL(law || model) in nats, exact by summing over all that the law allows, from each text's log-probability as the
    tokenizer writes it; and the mass that the model gives to them together."""
    kl = math.fsum(p * (math.log(p) - total) for total, (_, p) in zip(totals, body.law, strict=True))
    return {"kl": kl, "mass": math.fsum(map(math.exp, totals))}


def _shifts(session: Session, items: Iterable[Item | Problem], protocol: Protocol) -> Iterator[Outcome]:
    """Contexts changed: how far the next-token distribution moves."""
    for entry in items:
        if isinstance(entry, Problem):
            yield entry
            continue
        body = entry.body
        assert isinstance(body, ChangedContext)
        before, now = (_prompt(text, session.tokenizer, protocol) for text in (body.context, body.changed))
        longest = max(len(before), len(now))
        if longest >= session.context:  # a token comes after it
            yield Problem.too_long(entry.number, longest, session.context)
        else:
            values = every(session.logits_after(before), session.logits_after(now))
            yield Result(entry.number, entry.cluster, values)


# -- answers that are drawn -----------------------------------------------------------------------------------------


def _drawn(
    session: Session, task: Task, items: Iterable[Item | Problem], protocol: Protocol, strategy: Strategy
) -> Iterator[Outcome]:
    """Questions, one after another: what a prompt shares with the one before it is not read again."""
    settings = task.settings
    warm = protocol.temperature > 0
    if strategy.SEARCHES:
        if protocol.samples > 1:
            raise ParameterError(f"{strategy.NAME} is a search, whose answer is its best: leave out --samples")
        strategy = strategy.best(1)
    if protocol.samples > 1 and not warm:
        raise ParameterError("several samples of the most likely answer are one: give --temp too")
    recipe = SamplingConfig((Temperature(protocol.temperature),)) if warm else SamplingConfig(greedy=True)
    for entry in items:
        if isinstance(entry, Problem):
            yield entry
            continue
        question = entry.body
        assert isinstance(question, Question)
        ids = _prompt(question.prompt, session.tokenizer, protocol)
        if len(ids) >= session.context:
            yield Problem.too_long(entry.number, len(ids), session.context, "the prompt")
            continue
        seed = protocol.seed + entry.number * protocol.samples
        texts, ends = answers(
            session, ids, recipe, protocol.samples, seed, settings.max_tokens, settings.stop, strategy
        )
        votes: list[dict[str, float]] = []
        for answer in texts:
            try:
                votes.append(judge(question, answer, settings))
            except VerifierError as error:
                yield Problem(entry.number, "verifier", f"{error}; the answer counts as wrong", scored=True)
                votes.append(dict.fromkeys(settings.scorers, 0.0))
        values = answer_measures(question, texts, votes, task, apart=protocol.samples > 1)
        yield Result(entry.number, entry.cluster, values, {"answers": texts, "finish": ends})


def _prompt(prompt: str, tokenizer: Tokenizer, protocol: Protocol) -> list[int]:
    if protocol.chat:
        return tokenizer.chat([{"role": "user", "content": prompt}])
    return tokenizer.encode(prompt, bos=True)


def answers(
    session: Session,
    ids: list[int],
    recipe: SamplingConfig,
    n: int,
    seed: int,
    max_tokens: int,
    stop: Sequence[str],
    strategy: Strategy = PLAIN,
) -> tuple[list[str], list[str]]:
    """The texts of n answers, or the answers of a search, without their thoughts, and why each ended."""
    events = session.generate(
        ids, RunControl(recipe), n=n, seed=seed, max_tokens=max_tokens, stop=stop, strategy=strategy
    )
    texts, opened = texts_of(events), opens(end_of(ids, session.tokenizer.piece))
    marks = thinking_of(session.tokenizer)
    texts = search_answers(texts, strategy.most) if strategy.SEARCHES else texts
    return [text.said(opened, marks) for text in texts], [text.reason for text in texts]


def answer_measures(
    question: Question,
    said: Sequence[str],
    votes: Sequence[Mapping[str, float]],
    task: Task,
    *,
    apart: bool = True,
) -> dict[str, float]:
    """The mean over the answers; of several that were drawn each by itself, `apart`, also pass@k (any of k is right,
    unbiased: Chen et al. 2021) for k up to all of them, by doubling, and maj@k: whether the commonest of any k is
    right, equals by their share."""
    values: dict[str, float] = {}
    n = len(votes)
    for name in votes[0]:
        right = [vote[name] for vote in votes]
        values[name] = math.fsum(right) / n
        if n == 1 or not apart:
            continue
        sizes = [*itertools.takewhile(lambda k: k < n, (2**i for i in itertools.count(1))), n]
        values |= {f"{name} pass@{k}": pass_at(k, int(sum(right)), n) for k in sizes}
        if name != "program":
            finals = [verifiers.final(text, name, task.settings) or None for text in said]
            one = next((final for final, is_right in zip(finals, right, strict=True) if is_right), None)
            said_alike = [one if is_right else final for final, is_right in zip(finals, right, strict=True)]
            values |= {f"{name} maj@{k}": maj_at(k, said_alike, one) if one is not None else 0.0 for k in sizes}
    return values
