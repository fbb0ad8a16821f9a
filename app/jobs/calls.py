"""Calls of a loaded model: functions of an `Engine`, done in its thread, a piece at a time. Imports no mlx.

`call(function, model, ...)` is the request for one (`app.requests.Call`). What a function yields are events, `WORKED`
after a piece with nothing to tell; what any other returns is the one event. Knows neither who asks nor how a model
works.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol

import numpy as np

from likely.app.jobs import requests as r
from likely.app.jobs.worker import worked
from likely.engine.base.arrays import logprobs
from likely.engine.base.concurrency.background_thread import Helper
from likely.engine.base.statistics.difference import TokenSequence
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Encoding, Prompt, locate
from likely.engine.inside.why import named_token
from likely.engine.sampling.thought_information import informing
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasking
from likely.engine.sampling.transforms import Vocabulary, along
from likely.models.configuration.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from likely.app.jobs.interpretability import InsideQuestion
    from likely.engine.base.statistics import compare
    from likely.engine.chat.tools.tool import Tool, ToolResult
    from likely.engine.chat.tools.use import CallsRead, ResultsHeard, ToolAnswer
    from likely.engine.decode.context_extension_cost import ContextPrice
    from likely.engine.decode.loop.events import Event
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.measure.answer_form import AnswerForm, Binding
    from likely.engine.sampling.trace.step import TokenStep
    from likely.engine.weights.adapters.attached import AdapterChange, Attached
    from likely.engine.weights.quantize.measure import QuantizationReport

P = ParamSpec("P")
HELPER = Helper()  # texts are read into tokens beside the thread


class EngineTokenizer(Encoding, Vocabulary, Protocol):
    """The tokenizer of a loaded model."""

    @property
    def fingerprint(self) -> str:
        """The same for two whose ids mean the same."""
        ...

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]: ...


class Engine(Protocol):
    """A loaded model to draw from. Everything it gives is plain Python and numpy; used by one thread only."""

    @property
    def facts(self) -> r.ModelFacts: ...
    @property
    def tokenizer(self) -> EngineTokenizer: ...
    @property
    def cache_nbytes(self) -> int: ...
    def generate(
        self,
        ids: Sequence[int],
        control: RunControl,
        *,
        n: int = 1,
        seed: int = 0,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        strategy: "Strategy | None" = None,
    ) -> "Iterator[Event]":
        """Continue `ids` in n branches; several of these may be open at once, and are advanced in turn."""
        ...

    def binding(
        self, ids: Sequence[int], form: "AnswerForm", strategy: "Strategy", own: int, after: str
    ) -> "Generator[int | None, None, Binding]":
        """The binding of recipes to a form in the end; of the answer's tokens the last `own` ids are the first. Behind
        the mark `after` where a thought comes first."""
        ...

    def scoring(self, ids: Sequence[int], *, start: int = 0) -> "Generator[int, None, Sequence[TokenStep]]":
        """A step for each of ids[start:] in the end; how many have been read after each piece."""
        ...

    def read(self, ids: Sequence[int]) -> Generator[int]:
        """Read a text in pieces, so that what is asked of it next is found."""
        ...

    def reading_calls(
        self, ids: Sequence[int], steps: "Sequence[TokenStep]", tools: "Sequence[Tool]"
    ) -> "Generator[None, None, CallsRead]":
        """The calls of an answer in `steps` behind `ids`, and the law over what it could have called, in the end."""
        ...

    def hearing_results(
        self, prompt: Prompt, tools: "Sequence[Tool]", answer: "ToolAnswer", results: "Sequence[ToolResult]"
    ) -> "Generator[int, None, ResultsHeard]":
        """The results of calls as turns of the next prompt, and how surprising they are there, in the end."""
        ...

    def logits_after(self, ids: Sequence[int]) -> np.ndarray: ...
    def logits_along(self, ids: Sequence[int], start: int) -> Iterator[np.ndarray | None]:
        """The raw logits [n, V] after each position from `start` on, n at a time; None after a piece that was read."""
        ...

    def adapt(self, change: "AdapterChange", what: str, weight: float) -> "tuple[Attached, ...]":
        """Change the adapters as `adapt` says; gives all that are there then."""
        ...

    def steer(
        self, name: str, toward: Sequence[Sequence[int]], away: Sequence[Sequence[int]], layer: int | None
    ) -> "tuple[Attached, ...]":
        """Make a direction and put it on the model as `steer` says; gives all adapters that are there then."""
        ...

    def look_inside(self, ids: Sequence[int], look: "InsideQuestion[Any]", control: RunControl) -> Iterator[Any]:
        """Answer a look of `app.looks` in pieces: between two of them others have their turn."""
        ...

    def shift(self, ids: Sequence[int]) -> float:
        """KL of the next token, the model as it is || without its adapters, nats: a mean over the text's end."""
        ...

    def canvas(self, text: str) -> "list[int] | None":
        """The ids of a text with gaps; None for one without."""
        ...

    def answer_canvas(self, prompt: Sequence[int], prefill: Sequence[int], masks: int, block: int) -> list[int]:
        """A prompt with an answer of so many tokens after it, masks but for the first ones, 0 for as many as are
        usual, or fewer where no more have room."""
        ...

    def fill(
        self, ids: Sequence[int], first: int, how: Unmasking, control: RunControl, *, seed: int
    ) -> Iterator[DenoisingStep]:
        """Tokens for the masks of a canvas, pass by pass, by the control's recipe as it is before each. An answer that
        begins at `first` may be over before all of them are known; 0 for a canvas that is none."""
        ...

    def bounding(self, ids: Sequence[int], free: Sequence[int]) -> Generator[int, None, Estimate]:
        """The bound on -log p of the free positions, in nats, in the end; how many masked canvases each pass reads."""
        ...

    def pricing(
        self, scaling: RopeScaling, whole: Sequence[int], short: Sequence[int]
    ) -> "Generator[int, None, ContextPrice]":
        """The price of a longer RoPE in the end, for a text and for what stays without its oldest part; how many tokens
        have been read after each piece."""
        ...

    def widths(self) -> "Generator[tuple[int, int], None, Sequence[QuantizationReport]]":
        """Reports of the model in every number of bits a weight in the end; how many layers of all before each."""
        ...

    def close(self) -> None: ...


def call(function: Callable[Concatenate[Engine, P], Any], model: str, *args: P.args, **options: P.kwargs) -> r.Call:
    """The request to call `function` with a loaded model."""
    return r.Call(model, function, args, options)


def ids_of(engine: Engine, prompt: Prompt) -> Generator[None, None, list[int]]:
    """The ids of a prompt, as a part of a job."""
    return (yield from HELPER.do(lambda: prompt.ids(engine.tokenizer)))


def sizes(engine: Engine, prompts: Sequence[Prompt]) -> Iterator[Any]:
    """How many tokens each of some prompts has, a tuple."""
    yield (yield from HELPER.do(lambda: tuple(len(prompt.ids(engine.tokenizer)) for prompt in prompts)))


def score(engine: Engine, prompt: Prompt, contents: Sequence[str] = ()) -> Iterator[Any]:
    """Measure every token of a prompt: `Scored`. `contents` are texts to find in it."""
    ids = yield from ids_of(engine, prompt)
    steps = tuple((yield from worked(engine.scoring(ids))))
    last = yield from ids_of(engine, Prompt(parts=prompt.parts[-1:], whole=True))
    yield r.Scored(steps, locate([step.piece for step in steps], contents), len(last))


def weigh_thought(
    engine: Engine, prompt: Sequence[int], steps: "Sequence[TokenStep]", opened: bool, anew: bool
) -> Iterator[Any]:
    """The information of an answer's thought, a `ThoughtInformation`; nothing where it says nothing. `anew`: there are
    adapters now."""
    anew = anew or any(step.recipe.adapters for step in steps)
    found = yield from worked(informing(engine, prompt, steps, opened, anew=anew))
    if found is not None:
        yield found


def logits(engine: Engine, prompt: Prompt) -> Iterator[Any]:
    """The whole raw distribution after a prompt: logits, float32 [V], read-only."""
    ids = yield from ids_of(engine, prompt)
    yield from worked(engine.read(ids))
    row = engine.logits_after(ids)
    row.flags.writeable = False
    yield row


@dataclass(frozen=True, slots=True)
class ReaderAsked:
    """A law that reads: a model's own (`recipe` None), or what is drawn from by a recipe; and the text that it has,
    the `drawn` last tokens of a prompt, None where all of it was given."""

    name: str
    prompt: Prompt
    drawn: int | None = None
    recipe: SamplingConfig | None = None
    seed: int = 0


def crossed(engines: Sequence[Engine], readers: Sequence[ReaderAsked]) -> Iterator[Any]:
    """Each reader's text read by each other, by their engines: `r.Progressed` as positions are compared, then
    `r.Crossed`, with KL(author || reader) and the total variation at every token. CheckpointError where they do not
    have their tokens in common."""
    from likely.engine.base.statistics import compare  # which computes: this is the worker's thread

    passages = []
    for engine, reader in zip(engines, readers, strict=True):
        compare.check_vocabularies(engines[0].tokenizer, engine.tokenizer, (readers[0].name, reader.name))
        ids = yield from ids_of(engine, reader.prompt)
        start = 0 if reader.drawn is None else len(ids) - reader.drawn - 1
        passages.append(TokenSequence(tuple(ids), start, ended=reader.drawn is not None))

    def law(engine: Engine, reader: ReaderAsked) -> "compare.ScalingLaw":
        def rows(ids: Sequence[int], start: int) -> Iterator[np.ndarray | None]:
            for logits in engine.logits_along(ids, start):
                if logits is not None and (recipe := reader.recipe) is not None:
                    transforms, greedy = recipe.transforms, recipe.greedy
                    logits = along(transforms, engine.tokenizer, logits, ids, start, reader.seed, greedy=greedy)
                yield None if logits is None else logprobs(logits, np)
                start += 0 if logits is None else len(logits)

        return rows

    laws = [law(*each) for each in zip(engines, readers, strict=True)]
    names = [reader.name for reader in readers]
    reading = compare.crossed(laws, passages, names, top=10, metrics=("reverse_kl", "tv"))
    total = sum(len(text.ids) - text.start - text.ended for text in passages) * (len(readers) - 1)
    while True:
        try:
            yield r.Progressed(engines[0].facts.name, "reading", next(reading), total)
        except StopIteration as end:
            yield r.Crossed(end.value)
            return


def widths(engine: Engine, control: RunControl) -> Iterator["r.Progressed | r.WidthsMeasured"]:
    """The model in every number of bits a weight, measured on a text and not written: `r.Progressed` after each layer,
    then `r.WidthsMeasured`, unless `control` breaks it off."""
    pieces = engine.widths()
    while not control.cancelled:
        try:
            yield r.Progressed(engine.facts.name, "quantising", *next(pieces))
        except StopIteration as end:
            yield r.WidthsMeasured(tuple(end.value))
            return


def price(engine: Engine, scaling: RopeScaling, whole: Prompt, short: Prompt, control: RunControl) -> Iterator[Any]:
    """The price of a longer RoPE: `r.Progressed` as texts are read, then it, unless `control` breaks it off."""
    ids, left = yield from HELPER.do(lambda: [prompt.ids(engine.tokenizer) for prompt in (whole, short)])
    total = min(len(ids), engine.facts.context) + len(ids) + len(left)
    pieces = engine.pricing(scaling, ids, left)
    while not control.cancelled:
        try:
            yield r.Progressed(engine.facts.name, "measuring", next(pieces), total)
        except StopIteration as end:
            yield end.value
            return


def tokens(engine: Engine, text: str) -> Iterator[Any]:
    """The tokens of a text, a tuple of ids."""
    yield tuple((yield from HELPER.do(lambda: engine.tokenizer.encode(text))))


def named(engine: Engine, word: str) -> Iterator[Any]:
    """The token that a word stands for, a `NamedToken`. ParameterError for none."""
    encode = partial(engine.tokenizer.encode, special=True)
    yield (yield from HELPER.do(lambda: named_token(word, encode, engine.facts.vocabulary.__getitem__)))


def adapt(engine: Engine, change: "AdapterChange", what: str, weight: float = 1.0) -> "tuple[Attached, ...]":
    """Change the adapters on a model, from its next token on; all that are there then.

    `change` is "add" (`what` is a directory), "weigh", "only" (the others get weight 0) or "remove" (`what` is a name).
    """
    return engine.adapt(change, what, weight)


def steer(
    engine: Engine, name: str, toward: Sequence[Prompt], away: Sequence[Prompt], layer: int | None = None
) -> Iterator[Any]:
    """Make a direction from texts to others, at a layer (the middle one if None), keep it under a name in likely's
    folder, and put it on the model: all adapters that are there then, a tuple."""
    to, off = yield from HELPER.do(
        lambda: [[prompt.ids(engine.tokenizer) for prompt in side] for side in (toward, away)]
    )
    yield engine.steer(name, to, off, layer)


def shift(engine: Engine, prompt: Prompt) -> Iterator[Any]:
    """How far the adapters on a model move what comes next, along the end of a prompt: nats a token."""
    yield engine.shift((yield from ids_of(engine, prompt)))


def look(engine: Engine, prompt: Prompt, look: "InsideQuestion[Any]", control: RunControl) -> Iterator[Any]:
    """Look into a model while it reads a prompt: what `app.looks` has for the look."""
    ids = yield from ids_of(engine, prompt)
    yield from engine.look_inside(ids, look, control)


def fill(
    engine: Engine,
    prompt: Prompt,
    control: RunControl,
    seed: int = 0,
    *,
    text: str = "",
    prefill: str = "",
    masks: int | None = None,
    ids: Sequence[int] = (),
    how: Unmasking | None = None,
) -> Iterator[Any]:
    """Have masks become tokens by a diffusion model: `CanvasLaid`, a `DenoisingStep` each pass, `FillEnded`. Steered
    and stopped through `control`.

    The canvas is `ids` as they are; else `text`, where it has gaps ([MASK:8]); else the prompt and an answer of so
    many tokens (`masks`) after it, those of `prefill`, with which it begins, among them; by default as many as usual.
    ContextOverflow where it has no room, ParameterError for an autoregressive model and a gap of no number of tokens.
    """
    how = how or Unmasking()
    special = frozenset(i for i in (engine.facts.mask, *engine.facts.eos) if i is not None)
    first, canvas = 0, list(ids) or (engine.canvas(text) if text else None)
    if canvas is None:
        before, begins = prompt.ids(engine.tokenizer), engine.tokenizer.encode(prefill)
        first, canvas = len(before), engine.answer_canvas(before, begins, masks or 0, how.block)
    yield r.CanvasLaid(tuple(canvas), first, special)
    passes, spent_s = engine.fill(canvas, first, how, control, seed=seed), 0.0
    while not control.cancelled:
        if control.paused:
            yield None
            continue
        began = perf_counter()
        step = next(passes, None)
        spent_s += perf_counter() - began
        if step is None:
            break
        pieces = engine.facts.vocabulary
        shown = tuple(
            replace(
                draw,
                token=replace(
                    draw.token,
                    piece=pieces[draw.token.token],
                    special=draw.token.token in special,
                    elapsed_s=spent_s,
                ),
            )
            for draw in step.unmasked
        )
        yield replace(step, unmasked=shown, elapsed_s=spent_s)
    yield r.FillEnded(control.cancelled)


def bound(
    engine: Engine, ids: Sequence[int], free: Sequence[int], control: RunControl
) -> Iterator[r.Bounding | r.Bounded]:
    """The bound on -log p of the `free` positions of a canvas by a diffusion model: `Bounding` after each pass, then
    `Bounded`, unless `control` breaks it off."""
    passes, read = engine.bounding(ids, free), 0
    while not control.cancelled:
        try:
            read += next(passes)
        except StopIteration as end:
            yield r.Bounded(end.value, len(free))
            return
        yield r.Bounding(read)
