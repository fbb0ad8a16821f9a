"""Model to talk to from Python: the next token's distribution, answers, scores of a given text, its inside.

A model belongs to the thread that loaded it. Knows nothing of pages.
"""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.app.store.run_trace import run_trace
from likely.distribution import Distribution
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.loop.texts import GrownText, Texts, answer_events, search_answers
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.thought_information import ThoughtInformation, informing
from likely.engine.sampling.trace.step import TokenStep
from likely.sampling import Sampling
from likely.table import Table
from likely.trace import Trace

if TYPE_CHECKING:
    from likely.chat import Chat
    from likely.engine.decode.session import Session
    from likely.engine.train.attach.stack import Stack
    from likely.engine.weights.sources.checkpoint import Checkpoint
    from likely.inside import Inside

Asked = str | Sequence[Mapping[str, Any]] | Sequence[int]  # a text as it is, messages for the template, or ids
DEFAULT = "balanced"  # the preset of `likely run` and of the chat
MAX_TOKENS = 256


def load(
    name: str = "",
    *,
    adapter: str | Path | Mapping[str, float] | None = None,
    draft: str | None = None,
    rope: str | None = None,
) -> "Model":
    """A model by its short name, hub repository, folder or .gguf file; fetched first if it is not here. "": the one
    chosen last.

    `adapter` is a folder, or folders and their weights; `draft` names a small model of the same vocabulary that
    proposes tokens, which changes the speed and not the law. `rope` makes the context longer: "yarn:2" has twice as
    many positions as it was made for ("ntk:2", "linear:2"; `models/configuration/rope_scaling.py`). Raises
    CheckpointError for a
    model or an adapter that cannot be found, fetched or read, OutOfMemory for one that does not fit.
    """
    from likely.engine.decode.session import Session
    from likely.engine.weights.sources import checkpoint, store
    from likely.models.configuration.rope_scaling import MARK, RopeScaling

    if not name:
        info = store.default()
        if info is None:
            raise ParameterError('no model is named, and none is the default: likely.load("smollm2"), say')
        name = info.name
    if rope is not None:
        name = f"{name}{MARK}{RopeScaling.read(rope)}"
    model = Model(Session(checkpoint.load(name)), draft)
    weights = {} if adapter is None else adapter if isinstance(adapter, Mapping) else {str(adapter): 1.0}
    for folder, weight in weights.items():
        model.adapt(folder, weight)
    return model


def catalogue() -> Table:
    """The models that are on this machine, then those of the catalogue: name, MB, here, fits (this machine's memory),
    license, about."""
    from likely.app.jobs.model_provider import LocalModelProvider

    offers = LocalModelProvider().offers()
    return Table(
        {
            "name": [offer.name for offer in offers],
            "MB": [round(offer.nbytes / 1e6) for offer in offers],
            "here": [offer.here for offer in offers],
            "fits": [offer.fits for offer in offers],
            "license": [offer.licence for offer in offers],
            "about": [offer.about for offer in offers],
        }
    )


class Model:
    """A loaded model. A prompt is a text, which is continued as it is, messages (dicts of role and content), which go
    through the chat template, or ids."""

    def __init__(self, session: "Session", draft: str | None = None) -> None:
        self.session, self.tokenizer = session, session.tokenizer
        self._thread, self._draft = threading.get_ident(), draft
        self._stack: Stack | None = None
        self._plain: Checkpoint | None = None  # over the same weights, once there has been an adapter
        self._others: dict[str, Any] = {}  # models that strategies need, by name

    @property
    def name(self) -> str:
        return self.session.info.name

    @property
    def title(self) -> str:
        """Its name, and what is on it: `smollm2 + style 0.5`."""
        return " + ".join([self.name, *(f"{name} {weight:g}" for name, weight in self.adapters)])

    @property
    def context(self) -> int:
        """Positions that it was made for."""
        return self.session.context

    @property
    def adapters(self) -> tuple[tuple[str, float], ...]:
        """Names and weights of the adapters on it."""
        return () if self._stack is None else tuple((it.name, it.weight) for it in self._stack.attached)

    def adapt(self, folder: str | Path, weight: float = 1.0) -> None:
        """Put an adapter on the model (mlx-lm's or PEFT's folder, a steering direction); one that is there gets another
        weight, and goes at weight 0. Raises what `engine.attach.stack.Stack.add` raises."""
        from likely.engine.base.files.home import expanded
        from likely.engine.train.attach.stack import Stack

        self._own()
        self._plain = self._plain or self.session.checkpoint.twin()
        self._stack = self._stack or Stack(self.session)
        name = expanded(folder).resolve().name
        if name not in (known for known, _ in self.adapters):
            self._stack.add(folder, weight)
        elif weight:
            self._stack.weigh(name, weight)
        else:
            self._stack.remove(name)

    def steer(
        self, toward: Sequence[Asked], away: Sequence[Asked], *, layer: int | None = None, weight: float = 1.0
    ) -> Path:
        """Put a steering direction on the model: the mean residual stream after a layer (the middle one) at the end of
        some prompts, less that of others. Gives its folder, under the temporary folder, for `adapt`."""
        from likely.engine.inside import steering
        from likely.engine.inside.subject import transformer

        self._own()
        layer = len(transformer(self.session).blocks) // 2 if layer is None else layer
        to, off = ([self.encode(prompt) for prompt in side] for side in (toward, away))
        folder = Path(tempfile.mkdtemp(prefix="likely-")) / "direction"
        steering.save(folder, steering.direction(self.session.model, to, off, layer, self.name))
        self.adapt(folder, weight)
        return folder

    def twin(self) -> "Checkpoint":
        """A checkpoint over the same weights without its adapters: what is attached there is not on this one."""
        self._own()
        return (self._plain or self.session.checkpoint).twin()

    def encode(self, prompt: Asked, thinking: bool | None = None) -> list[int]:
        """The ids that the model reads for a prompt. `thinking`: its template is told to think, or not to.
        TemplateError where the chat template refuses the messages, ParameterError where it cannot be told."""
        if thinking is not None and (isinstance(prompt, str) or not all(isinstance(part, Mapping) for part in prompt)):
            raise ParameterError("thinking is told to the chat template: give messages, not a text or ids")
        if isinstance(prompt, str):
            return Prompt(parts=(prompt,)).ids(self.tokenizer)
        if all(isinstance(part, Mapping) for part in prompt) and len(prompt):
            turns = tuple(dict(turn) for turn in prompt)  # type: ignore[arg-type]
            return Prompt(turns, thinking=thinking).ids(self.tokenizer)
        ids = [part for part in prompt if isinstance(part, int | np.integer) and not isinstance(part, bool)]
        if len(ids) != len(prompt):
            raise ParameterError("a prompt is a text, a list of messages such as {'role': ..., 'content': ...}, or ids")
        if wrong := next((i for i in ids if not 0 <= i < self.tokenizer.vocab_size), None):
            raise ParameterError(f"the vocabulary has the ids 0 to {self.tokenizer.vocab_size - 1}, got {wrong}")
        return [int(i) for i in ids]

    def next(self, prompt: Asked) -> Distribution:
        """The distribution of the token after a prompt, the model's own. ContextOverflow for one that is too long."""
        self._own()
        ids = self.encode(prompt)
        return Distribution(self.session.logits_after(ids), self.tokenizer, ids)

    def generate(
        self, prompt: Asked, *, n: int = 1, max_tokens: int = MAX_TOKENS, seed: int | None = None,
        sampling: Sampling | str | None = None, strategy: Strategy | str | None = None, stop: Sequence[str] = (),
        thinking: bool | None = None,
    ) -> Any:  # fmt: skip
        """A `Trace` of an answer; of n > 1 answers a list of them, best first if the strategy is a search.

        `sampling` is a `Sampling` or a preset's name, by default the chat's ("balanced"; a search's is the model's own
        distribution); `strategy` a way of finding tokens, as `likely run --strategy` has it ("beam 4"). Without a seed
        one is drawn, and is the trace's. Ctrl+c ends it after a token, and the trace so far is given. Raises what
        `engine.session.Session.generate` raises.
        """
        run = self._run(prompt, n, max_tokens, seed, sampling, strategy, stop, thinking)
        with _interrupted(run.control):
            for _ in run.events:
                pass
        texts = run.texts.ended()
        texts = search_answers(texts, n) if run.searches else texts
        traces = [self._trace(run.ids, text, run.seed + (text.done.branch if text.done else 0)) for text in texts]
        return traces if n > 1 else traces[0]

    def stream(self, prompt: Asked, **options: Any) -> Iterator[TokenStep]:
        """The tokens of one answer as they are drawn; takes what `generate` takes but `n`. A search gives its tokens
        when it is over. To close it ends the run."""
        if "n" in options:
            raise ParameterError("stream gives the tokens of one answer: generate(n=...) gives several")
        taken = {
            "max_tokens": MAX_TOKENS,
            "seed": None,
            "sampling": None,
            "strategy": None,
            "stop": (),
            "thinking": None,
        }
        if unknown := set(options) - set(taken):
            raise ParameterError(f"no option {', '.join(sorted(unknown))}: stream takes what generate takes")
        run = self._run(prompt, 1, **taken | options)
        events = answer_events(run.events) if run.searches else run.events
        return (event.step for event in events if isinstance(event, Emitted))

    def score(self, text: Asked) -> Trace:
        """A given text, token by token, teacher-forced. Its first token has no distribution before it, unless the
        model's texts begin with a token of their own."""
        self._own()
        ids = self.encode(text)
        return self._trace([], GrownText(self.session.score(ids)), 0)

    def thought_information(self, trace: Trace) -> ThoughtInformation | None:
        """What an answer's thought says of the answer, nats: the log-probabilities of its tokens behind the thought and
        behind an empty one, which is read now. None for one without a thought, or with nothing behind it."""
        self._own()
        return whole(informing(self.session, trace.prompt, list(trace), trace.opened))

    def chat(self, system: str = "") -> "Chat":
        """A conversation."""
        from likely.chat import Chat

        return Chat(self, system)

    def inside(self, text: Asked) -> "Inside":
        """Views of the model while it reads a text. ParameterError for a model whose layers cannot be seen."""
        from likely.inside import Inside

        self._own()
        return Inside(self, self.encode(text))

    def __repr__(self) -> str:
        info = self.session.info
        return f"{self.title}: {info.family}, {info.quantization}, context {self.context:,}"

    def _own(self) -> None:
        if threading.get_ident() != self._thread:
            raise ParameterError("a model belongs to the thread that loaded it: load it in this one")

    def _run(
        self, prompt: Asked, n: int, max_tokens: int, seed: int | None, sampling: Sampling | str | None,
        strategy: Strategy | str | None, stop: Sequence[str], thinking: bool | None,
    ) -> "_Run":  # fmt: skip
        self._own()
        found = self._strategy(strategy, n)
        if not isinstance(sampling, Sampling):
            sampling = Sampling(sampling or ("" if found.SEARCHES else DEFAULT))
        if max_tokens < 1:
            raise ParameterError(f"max_tokens must be 1 or more, got {max_tokens}")
        seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
        ids, control = self.encode(prompt, thinking), RunControl(sampling.recipe)
        begun = 1 if found.SEARCHES else n  # a search has several answers by itself
        texts = Texts[GrownText](begun)
        events = texts.follow(
            self.session.generate(
                ids, control, n=begun, seed=seed, max_tokens=max_tokens, stop=tuple(stop), strategy=found
            )
        )
        return _Run(texts, seed, ids, control, events, found.SEARCHES)

    def _strategy(self, strategy: Strategy | str | None, n: int) -> Strategy:
        """The strategy that is asked for, of a search its n best, with the models that it needs."""
        from likely.engine.decode import strategy_table
        from likely.engine.decode.drafts.prompt_lookup import Drafting
        from likely.engine.weights.sources import checkpoint

        if strategy is None:
            strategy = strategy_table.PLAIN if self._draft is None else Drafting(self._draft)
        found = strategy_table.parse(strategy) if isinstance(strategy, str) else strategy
        if found.SEARCHES:
            found = found.best(n)
        for name in found.needs:
            self._others[name] = self._others.get(name) or checkpoint.load(name)
        return found.bind({name: self._others[name] for name in found.needs}, self.tokenizer)

    def _trace(self, ids: Sequence[int], text: GrownText, seed: int) -> Trace:
        return Trace(run_trace(self.session, ids, text.steps, seed, text.reason), text.done.text if text.done else "")


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that has begun: `texts` grow as its events are taken."""

    texts: Texts[GrownText]
    seed: int
    ids: list[int]
    control: RunControl
    events: Iterator[Event]
    searches: bool  # its answers are to be chosen


@contextmanager
def _interrupted(control: RunControl) -> Iterator[None]:
    """Within the block the first ctrl+c ends the run after its token; the second is Python's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        control.cancel()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
