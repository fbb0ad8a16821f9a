"""Probes of a model in the middle of its training: what it says now, and how its distributions have moved.

To be called by the thread that owns the model, between two events of its training, before or after it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from likely.engine.base.arrays import kl
from likely.engine.base.errors import LikelyError, ParameterError
from likely.engine.base.statistics import compare
from likely.engine.base.statistics.difference import Difference
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.texts import GrownText, texts_of
from likely.engine.decode.prompt import single_turn
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.train.control import GREEDY, Answer, Compare, Compared, Complete, Completion, Refused, Request
from likely.engine.train.losses import batch_losses
from likely.engine.train.run.run import TrainingRun
from likely.engine.weights.adapters.full import FullWeights
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from likely.models.native_path.native import renew

READ = 512  # tokens of a text that are compared
ROWS, SHORT = 4, 256  # rows, and tokens of each, on which the whole change is measured


def answer(run: TrainingRun, request: Request) -> Answer:
    """The answer to a request by the model as it is now; `Refused` where it has none. Leaves the model unchanged."""
    try:
        return _drawn(run, request) if isinstance(request, Complete) else _compared(run, request)
    except LikelyError as error:
        return Refused(run.counters.step, request, str(error))


def moved(run: TrainingRun) -> float | None:
    """How far training has moved the model: mean KL to the base, nats a token of some validation or training rows.

    None where the weights of before are gone (full fine-tuning without a second copy), and for a diffusion model, which
    has no distribution of the next token.
    """
    if run.model.config.diffusion is not None:
        return None
    if isinstance(run.trained, FullWeights) and run.trained.start is None:
        return None
    before, now = compare.logits(run.base, _renewed(run, base=True)), compare.logits(run.base, _renewed(run))
    total, count = 0.0, 0
    for sample in batch_losses.samples_of((run.rows.valid or run.rows.train)[:ROWS]):
        ids = sample.ids[:SHORT]
        total += sum(float(mx.sum(kl(b, a, mx))) for a, b in zip(before(ids, 0), now(ids, 0), strict=True))
        count += len(ids)
    return max(0.0, total / count)


def said(
    run: TrainingRun,
    ids: Sequence[int],
    tokens: int,
    *,
    recipe: SamplingConfig = GREEDY,
    seed: int = 0,
    base: bool = False,
) -> GrownText:
    """The text after these ids, by the model as it is now or as it was before training."""
    (text,) = texts(run, ids, tokens, recipe=recipe, seed=seed, base=base)
    return text


def texts(
    run: TrainingRun, ids: Sequence[int], tokens: int, *, n: int = 1, recipe: SamplingConfig = GREEDY, seed: int = 0,
    base: bool = False, stop: Sequence[str] = (),
) -> list[GrownText]:  # fmt: skip
    """n texts after these ids, side by side, by the model as it is now or as it was before training."""
    session, around = as_before(run) if base else (_session(run), _renewed(run))
    session.forget()  # what was read was read by other weights
    with around():
        found = texts_of(session.generate(ids, RunControl(recipe), n=n, seed=seed, max_tokens=tokens, stop=stop))
    session.forget()
    return found


def words_of(run: TrainingRun, ids: Sequence[int]) -> str:
    """The text of ids without the tokens that control, and without the blanks around."""
    tokenizer = _session(run).tokenizer
    pieces = [tokenizer.piece(t) for t in ids if not (tokenizer.is_special(t) or t in tokenizer.eos)]
    return b"".join(pieces).decode(errors="replace").strip()


def _drawn(run: TrainingRun, request: Complete) -> Completion:
    ids = _ids(_session(run), request.text, request.chat)
    text = said(run, ids, request.tokens, recipe=request.recipe, seed=request.seed, base=request.base)
    return Completion(run.counters.step, request, tuple(text.steps), text.reason)


def _compared(run: TrainingRun, request: Compare) -> Compared:
    session = _session(run)
    if request.text:
        ids: Sequence[int] = _ids(session, request.text, request.chat)
    else:
        ids = batch_losses.samples_of((run.rows.valid or run.rows.train)[:1])[0].ids
    base, around = as_before(run)
    names = "base", f"step {run.counters.step}"
    before, now = (
        compare.logits(base.model, around, name=names[0]),
        compare.logits(run.base, _renewed(run), name=names[1]),
    )
    difference = compare.compare(before, now, ids[: min(READ, session.context)], names, top=request.top)
    return Compared(run.counters.step, request, difference, pieces(session, difference))


def pieces(session: Session, difference: Difference) -> dict[int, str]:
    """The text of every token that a difference names."""
    named = {p.token for p in difference.positions} | {t for p in difference.positions for t in p.top}
    named |= {s.token for p in difference.positions for s in (*p.risen, *p.fallen, *p.likely)}
    named |= {s.token for s in (*difference.risen, *difference.fallen)}
    return {token: session.tokenizer.piece(token).decode(errors="replace") for token in sorted(named)}


def as_before(run: TrainingRun) -> tuple[Session, Callable[[], AbstractContextManager[None]]]:
    """The model before training: a session, and the context in which it is that.

    Full fine-tuning keeps no second copy of the weights unless its objective needs one: they are loaded again then.
    """
    if isinstance(run.trained, FullWeights) and run.trained.start is None:
        return Session(load(run.name or run.config.model)), nullcontext
    return _session(run), _renewed(run, base=True)


def _renewed(run: TrainingRun, *, base: bool = False) -> Callable[[], AbstractContextManager[None]]:
    """Context in which the model is read as it is now, or as before training."""

    @contextmanager
    def inside() -> Iterator[None]:
        with batch_losses.base(run.model, run.trained)() if base else nullcontext():
            renew(run.base)
            yield

    return inside


def _ids(session: Session, text: str, chat: bool) -> list[int]:
    ids = single_turn(text, session.tokenizer, raw=not chat).ids(session.tokenizer)
    if not ids:
        raise ParameterError("there is nothing to look at: give a text")
    return ids


def _session(run: TrainingRun) -> Session:
    if run.session is None:
        raise ParameterError("this run has no tokenizer: give prepare's run a session")
    return run.session
