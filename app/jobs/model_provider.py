"""Provider of this machine's models. It imports mlx: imported in a worker's thread and nowhere else."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from likely.app.jobs.requests import ModelFacts, ModelOffer
from likely.engine.base.concurrency.background_thread import awaited, begun
from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.base.machine import hardware
from likely.engine.chat.tools.call_format import call_format
from likely.engine.decode import memory_limits
from likely.engine.decode.session import Session
from likely.engine.measure.answer_form import binding
from likely.engine.sampling.thinking import switch, thinking_of
from likely.engine.text.tokenizer import Tokenizer, from_folder, from_gguf
from likely.engine.weights.adapters.attached import AdapterChange, Attached
from likely.engine.weights.recommended import recommended, recommended_in
from likely.engine.weights.sources import store
from likely.engine.weights.sources.checkpoint import Checkpoint, loading
from likely.engine.weights.sources.fetch import catalogue
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.engine.weights.sources.gguf.header import read_header
from likely.engine.weights.sources.model_info import ModelInfo, modified
from likely.models import Transformer
from likely.models.configuration.rope_scaling import RopeScaling, apart
from likely.models.native_path.native import NativeModel

if TYPE_CHECKING:
    from likely.app.jobs.interpretability import InsideQuestion
    from likely.app.jobs.session_inside import SessionInside
    from likely.engine.base.statistics.estimates import Estimate
    from likely.engine.chat.tools.tool import Tool, ToolResult
    from likely.engine.chat.tools.use import CallsRead, ResultsHeard, ToolAnswer
    from likely.engine.decode.context_extension_cost import ContextPrice
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.decode.prompt import Prompt
    from likely.engine.measure.answer_form import AnswerForm, Binding
    from likely.engine.sampling.trace.step import TokenStep
    from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasking
    from likely.engine.train.attach.stack import Stack
    from likely.engine.weights.quantize.measure import QuantizationReport


DRAWS = 64  # canvases from which a bound is drawn
READ = 256  # tokens at a text's end along which it is measured how far adapters move it
_loaded: WeakValueDictionary[tuple[Path, str], Checkpoint] = WeakValueDictionary()  # by file and content


def loaded(name: str) -> Checkpoint | None:
    """A model of the caller's own over the weights of the one of that name that is loaded; None where none is.

    For any thread. Adapters of the loaded one are not on it, nor the other way round; activations are exact, however
    the loaded one rounds them.
    """
    info = _here(name)
    session = _loaded.get((info.path, info.weights)) if info is not None else None
    return session.twin().with_activations(None) if session is not None else None


class LoadedModel(Session):
    """A loaded model as `app.jobs` wants it: a session with facts and adapters."""

    inside: "SessionInside | None" = None  # once somebody has looked

    def __init__(self, name: str, checkpoint: Checkpoint, vocabulary: tuple[bytes, ...] = (), **options: Any) -> None:
        """`vocabulary`, if it is known, has the piece of each id; `options` are the session's."""
        super().__init__(checkpoint, paced=True, **options)
        tokenizer, info = checkpoint.tokenizer, checkpoint.info
        diffusion = getattr(checkpoint.model.config, "diffusion", None)
        self.facts = replace(
            _facts(name, info, tokenizer, checkpoint.general),
            context=self.context,
            bounded=self.bounded,
            vocabulary=vocabulary or pieces(tokenizer),
            title=" · ".join(filter(None, (_title(info), checkpoint.precision.rounding))),
            mask=diffusion.mask if diffusion is not None else None,
            warning=memory_limits.warning(self),
            activation_bits=checkpoint.precision.activation_bits if checkpoint.precision.rounding else None,
        )

    def adopt(self, checkpoint: Checkpoint) -> None:
        super().adopt(checkpoint)
        self.inside = None
        if isinstance(checkpoint.model, Transformer | NativeModel):
            self.pristine = checkpoint.twin()  # before there is an adapter
            _loaded[checkpoint.info.path, checkpoint.info.weights] = self.pristine

    def adapt(self, change: AdapterChange, what: str, weight: float) -> tuple[Attached, ...]:
        """Put an adapter on the model, weigh it, or take it off; what is there then."""
        stack = self._stacked()
        stack.change(change, what, weight)
        return self._attached(stack)

    def steer(
        self, name: str, toward: Sequence[Sequence[int]], away: Sequence[Sequence[int]], layer: int | None
    ) -> tuple[Attached, ...]:
        """Make a direction between texts, keep it in likely's folder, and put it on the model."""
        from likely.engine.inside import steering
        from likely.engine.inside.subject import transformer

        model, stack = transformer(self), self._stacked()
        layer = len(model.blocks) // 2 if layer is None else layer
        stack.check_name(name)
        folder = steering.folder_of(name)
        if folder.exists():
            raise ParameterError(f"a direction called {name} is kept already: /adapter {folder} puts it on the model")
        steering.save(folder, steering.direction(self.model, toward, away, layer, self.info.name))
        stack.add(folder, name=name)
        return self._attached(stack)

    def _stacked(self) -> "Stack":
        from likely.engine.train.attach.stack import stack_of  # training's imports are not for every start

        return stack_of(self)

    def _attached(self, stack: "Stack") -> tuple[Attached, ...]:
        """The adapters on the model, after a change: nothing that was seen inside it holds."""
        if self.inside is not None:
            self.inside.forget()
        return stack.attached

    def look_inside(self, ids: Sequence[int], look: "InsideQuestion[Any]", control: "RunControl") -> Iterator[Any]:
        """Look into the model as it is now, adapters and all. ParameterError for a diffusion model."""
        self._check_goes_on()
        if self.inside is None:
            from likely.app.jobs.session_inside import SessionInside  # a chat in which nobody looks does not pay for it

            self.inside = SessionInside(self)
        yield from self.inside.answer(ids, look, control)

    def binding(
        self, ids: Sequence[int], form: "AnswerForm", strategy: "Strategy", own: int, after: str
    ) -> "Generator[int | None, None, Binding]":
        """The binding of recipes to the form of an answer, as `engine.answer_form` has it."""
        return binding(self, ids, form, strategy, own, after)

    def reading_calls(
        self, ids: Sequence[int], steps: "Sequence[TokenStep]", tools: "Sequence[Tool]"
    ) -> "Generator[None, None, CallsRead]":
        """The calls of an answer, as `engine.tools.use` reads them."""
        from likely.engine.chat.tools import use

        return use.reading(self, ids, steps, tools)

    def hearing_results(
        self, prompt: "Prompt", tools: "Sequence[Tool]", answer: "ToolAnswer", results: "Sequence[ToolResult]"
    ) -> "Generator[int, None, ResultsHeard]":
        """The results of calls, as `engine.tools.use` has them in the next prompt."""
        from likely.engine.chat.tools import use

        return use.hearing_results(self, prompt, tools, answer, results)

    def widths(self) -> "Generator[tuple[int, int], None, list[QuantizationReport]]":
        """Reports of the model in every number of bits a weight: of its weights as they are on the disk."""
        from likely.engine.weights.quantize.plan import Settings
        from likely.engine.weights.quantize.run import measuring

        return measuring(self.info, Settings())

    def shift(self, ids: Sequence[int]) -> float:
        """How far the adapters move what comes next, along the end of a text. ParameterError for a diffusion model."""
        self._check_goes_on()
        return self._stacked().shift(ids[-READ:])

    def _check_goes_on(self) -> None:
        """ParameterError for a diffusion model."""
        if self.facts.mask is not None:
            raise ParameterError(
                f"the inside is shown of models that go from left to right, and {self.facts.title} fills masks: its "
                "canvas in the chat shows what it thinks at each step"
            )

    def canvas(self, text: str) -> list[int] | None:
        """The ids of a text with gaps; None for one without."""
        from likely.engine.diffusion import infilling
        from likely.engine.diffusion.denoiser import of_model

        if all(isinstance(piece, str) for piece in infilling.pieces(text)):
            return None
        return infilling.canvas(text, self.tokenizer, of_model(self.model, self.info.name).mask, self.context)

    def answer_canvas(self, prompt: Sequence[int], prefill: Sequence[int], masks: int, block: int) -> list[int]:
        """A prompt with what an answer begins with, and masks for the rest of it."""
        from likely.engine.diffusion.answering import answer_canvas

        return [*answer_canvas(self, prompt, prefill=prefill, max_tokens=masks, block=block).ids]

    def fill(
        self, ids: Sequence[int], first: int, how: "Unmasking", control: "RunControl", *, seed: int
    ) -> "Iterator[DenoisingStep]":
        """Tokens for the masks of a canvas, pass by pass; of an answer until its end of text is known."""
        from likely.engine.diffusion.answering import AnswerCanvas, answer
        from likely.engine.diffusion.denoiser import of_model
        from likely.engine.diffusion.infilling import infill

        if not first:
            return infill(self, ids, how, lambda: control.recipe, seed=seed)
        canvas = AnswerCanvas(tuple(ids), first, of_model(self.model, self.info.name).mask)
        return answer(self, canvas, how, lambda: control.recipe, seed=seed)

    def pricing(
        self, scaling: RopeScaling, whole: Sequence[int], short: Sequence[int]
    ) -> "Generator[int, None, ContextPrice]":
        """The price of a longer RoPE, of the model without its adapters."""
        from likely.engine.decode.context_extension_cost import pricing

        longer = Session(self.checkpoint.with_rope(scaling), paced=True)
        plain = Session(self.pristine, paced=True) if self.adapted else self
        return pricing(plain, longer, scaling, whole, short)

    def bounding(self, ids: Sequence[int], free: Sequence[int]) -> "Generator[int, None, Estimate]":
        """The bound on -log p of the free positions of a canvas, in nats, a pass at a time."""
        from likely.engine.diffusion.bound import bounding
        from likely.engine.diffusion.denoiser import ModelDenoiser

        denoiser, places = ModelDenoiser(self.model, self.info.name), set(free)
        facts, may = denoiser.diffusion, [i in places for i in range(len(ids))]
        return bounding(denoiser.log_probabilities, ids, facts.mask, may, block=facts.block, draws=DRAWS)

    def close(self) -> None:
        """Let the caches go."""
        self.inside = None
        self.forget()


def opening(
    name: str, path: str, progress: Report = silent, *, activation_bits: int | None = None, **options: Any
) -> Generator[bool | None, None, LoadedModel]:
    """The model of a path under a name, in pieces as `engine.sources.checkpoint.loading` has them."""
    if (of := _of_same_weights(path)) is not None:  # no second copy of them
        checkpoint = of.with_rope(apart(path)[1]).with_activations(activation_bits)
    else:
        checkpoint = yield from loading(path, progress, activation_bits=activation_bits)
    vocabulary = yield from awaited(begun(lambda: pieces(checkpoint.tokenizer)))
    return LoadedModel(name, checkpoint, vocabulary, **options)


def unloaded(name: str, path: str, context: int | None = None) -> ModelFacts:
    """Facts of a model by its files alone, but for its vocabulary; CheckpointError where they are not here."""
    if (info := _here(path)) is None:
        raise CheckpointError(f"the files of {name} are not on this machine")
    if info.path.is_dir():
        facts = _facts(name, info, from_folder(info.path), {})
    else:
        metadata = read_header(info.path).metadata
        facts = _facts(name, info, from_gguf(metadata), metadata)
    return facts if context is None else replace(facts, context=min(context, info.context or context))


def _facts(name: str, info: ModelInfo, tokenizer: Tokenizer, general: Mapping[str, Any]) -> ModelFacts:
    """Facts that are told by files; `general` are the keys of a GGUF file."""
    thinking = thinking_of(tokenizer)
    return ModelFacts(
        name=name,
        context=info.context,
        vocabulary=(),
        chat=tokenizer.chat_template is not None,
        nbytes=info.nbytes,
        family=info.family,
        quantization=info.quantization,
        digest=info.weights,
        eos=frozenset(tokenizer.eos),
        calls=call_format(tokenizer) is not None,
        sampling=recommended_in(general) if general else recommended(info.path),
        thinks=frozenset(on for on in (True, False) if switch(tokenizer.template_reads, on) is not None),
        apart=thinking.apart if thinking is not None else (),
    )


def _of_same_weights(path: str) -> Checkpoint | None:
    """A model that is loaded with another RoPE than the one of this name has; None where none is."""
    info = _here(path)
    others = [each for each in list(_loaded.values()) if info is not None and each.info.path == info.path]
    return next((each for each in others if info is not None and each.info.rope != info.rope), None)


def _title(info: ModelInfo) -> str:
    """A model's name for a person, short where that is a path: `smollm2 · yarn x2`."""
    base, scaling = apart(info.name)
    short = base.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    return short if scaling is None else f"{short} · {scaling.words}"


def pieces(tokenizer: Tokenizer) -> tuple[bytes, ...]:
    """The piece of each id."""
    return tuple(tokenizer.piece(token) for token in range(tokenizer.vocab_size))


class LocalModelProvider:
    """The models of this machine's store, and those of the catalogue that it has the memory for."""

    def __init__(self, activation_bits: int | None = None, context: int | None = None) -> None:
        """`activation_bits` are of all models that are opened, as `engine.sources.checkpoint.load` has them; `context`
        bounds the positions of their texts."""
        self.activation_bits, self.context = activation_bits, context

    def choose(self, prefer: Sequence[str]) -> str:
        """The first of `prefer` that is on this machine, else the default one; "" where the person has to choose."""
        if name := next((name for name in prefer if name and _here(name) is not None), ""):
            return name
        default = store.default()
        return default.name if default is not None else ""

    def opening(self, model: str, progress: Report) -> Generator[bool | None, None, LoadedModel]:
        return opening(model, model, progress, activation_bits=self.activation_bits, context=self.context)

    def offers(self) -> Sequence[ModelOffer]:
        """Models to choose from: what is here first, then what could be fetched; what fits before what does not."""
        here = {info.name: info for info in store.list()}
        most = memory_limits.of_weights()
        choices = [
            ModelOffer(
                *(name, info.nbytes, info.license, True, info.nbytes <= most, f"{info.family} {info.quantization}"),
                date=modified(info.path),
            )
            for name, info in here.items()
        ]
        offered = {known.name: known for known in catalogue.offers(hardware.memory())}
        offered |= catalogue.KNOWN  # what suits this machine first, in its order; then the rest
        choices += [
            ModelOffer(
                known.name,
                known.nbytes,
                known.license,
                False,
                known.nbytes <= most,
                f"{known.title}: {known.good_for}",
            )
            for known in offered.values()
            if known.name not in here
        ]
        return choices


def _here(name: str) -> ModelInfo | None:
    """The model of that name on this machine; None also where the name has stood for something that is gone."""
    try:
        return store.resolve(name)
    except CheckpointError:
        return None
