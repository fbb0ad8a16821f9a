"""A session as a model of lm-evaluation-harness, where that is installed: `simple_evaluate(model(session), ...)`.

The harness asks, and counts; what is asked is answered as `likely eval` answers it, with shared beginnings read once.
"""

from collections.abc import Sequence
from importlib import import_module
from itertools import groupby
from typing import Any

from likely.engine.base.errors import ParameterError
from likely.engine.base.machine.installation import adding
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.texts import texts_of
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.evaluation import after
from likely.engine.measure.evaluate.scoring.likelihood import Reader, Request, windows
from likely.engine.measure.evaluate.scoring.protocol import Protocol
from likely.engine.sampling.trace.step import SamplingConfig

MAX_TOKENS = 256


def model(session: Session, *, window: int | None = None) -> Any:
    """An `lm_eval.api.model.LM`; `window`: tokens that a rolling one reads, the model's context unless given.

    ParameterError where the package is not installed.
    """
    try:
        base = import_module("lm_eval.api.model").LM
    except ImportError:
        raise ParameterError(f"lm-evaluation-harness is not installed: {adding('lm-eval')}") from None
    kind = type("Likely", (_Answers, base), {})
    answering = kind()
    answering.session, answering.window = session, window or session.context
    return answering


class _Answers:
    """The harness's three requests: each an object with `args`."""

    session: Session
    window: int

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log-probability of each (context, continuation), and whether it is the most likely one."""
        tokenizer = self.session.tokenizer
        prefix = Protocol().token(tokenizer)
        grouped, results = [], []
        for _, same in groupby((request.args for request in requests), key=lambda args: args[0]):
            pairs = [after(context, continuation, tokenizer, prefix) for context, continuation in same]
            grouped.append(Request(tuple(ids for ids, *_ in pairs), tuple(start for _, start, _ in pairs)))
        answers = dict(Reader(self.session.model, name=self.session.info.name).read(grouped))
        for index in range(len(grouped)):
            results += [(likelihood.total, likelihood.greedy) for likelihood in answers[index]]
        return results

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of each text, read by windows from the prefix token on."""
        tokenizer = self.session.tokenizer
        prefix = Protocol().token(tokenizer)
        numbered = [
            (i, w) for i, r in enumerate(requests) for w in windows(tokenizer.encode(r.args[0]), self.window, prefix)
        ]
        sums = [0.0] * len(requests)
        reader = Reader(self.session.model, name=self.session.info.name)
        for index, (likelihood,) in reader.read(request for _, request in numbered):
            sums[numbered[index][0]] += likelihood.total
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The most likely answer to each (context, settings), until one of `until`; ParameterError for sampling."""
        texts = []
        for request in requests:
            context, settings = request.args
            if settings.get("do_sample"):
                raise ParameterError("the harness's sampling is not answered here: set do_sample: false")
            until = settings.get("until") or []
            events = self.session.generate(
                self.session.tokenizer.encode(context, bos=True),
                RunControl(SamplingConfig(greedy=True)),
                max_tokens=int(settings.get("max_gen_toks") or MAX_TOKENS),
                stop=[until] if isinstance(until, str) else list(until),
            )
            texts.append(texts_of(events)[0].said())
        return texts
