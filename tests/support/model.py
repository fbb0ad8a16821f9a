"""A scripted engine: a tiny vocabulary, fixed texts, and real distributions over it. No mlx, no waiting.

Stated properties: the tokens of a run are the words of `script` in order (another seed begins with another script);
forced tokens come first; every step has a snapshot of the whole vocabulary, so a replay of it is exact.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.app.jobs.interpretability import InsideQuestion
from likely.app.jobs.requests import ModelFacts, ModelOffer
from likely.engine.base.errors import CheckpointError, ContextOverflow, ParameterError
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.chat.tools.call_format import JSON
from likely.engine.chat.tools.tool import Tool, ToolDistribution, ToolResult
from likely.engine.chat.tools.tool_prompt import HeardResults, ToolChoice, call_fields
from likely.engine.chat.tools.use import CallsRead, ResultsHeard, ToolUse
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Event, Forked, Prefilled, Pruned, Rated, Stats
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.measure.answer_form import Binding
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.transforms import run, start
from likely.engine.train.posterior.uncertainty import Uncertainty
from likely.engine.weights.adapters.attached import Attached
from likely.models.configuration.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from likely.engine.decode.context_extension_cost import ContextPrice

SKY = (
    " The sky looks blue because air molecules scatter short wavelengths of sunlight far more strongly than long ones."
    " This is called Rayleigh scattering, and its strength grows with the fourth power of frequency, so violet and blue"
    " dominate from every direction.\n\nViolet scatters even more, but the Sun emits less of it and our eyes are less"
    " sensitive there."
)
BLUE = " Blue light is scattered in all directions by the gases of the atmosphere."
THOUGHT = (
    "<think>\nThe person asks about light.\n</think>\n\n"
    "It is **Rayleigh** scattering:\n\n```python\nprint(1 / 400**4)\n```\n"
)
ANSWER = """## Why it is blue

Light **scatters** in air:

- *short* waves most
  - see [Rayleigh](http://a.b/c)
1. red

> a quote

```python
def f(x):
    return x + 1  # one
```

| colour | nm |
|---|--:|
| violet | 400 |
| red | 1700 |

Half **of it
"""
SCRIPTS = (SKY, BLUE)
PLANS: dict[str, Sequence[tuple[Any, ...]]] = {  # what a strategy does, turn by turn
    "search": (
        ("words", 0, " The sky looks"), ("fork", 0, 1), ("fork", 0, 2), ("words", 0, " blue"), ("words", 1, " red"),
        ("words", 2, " light"), ("fork", 1, 3), ("prune", 2), ("words", 1, " because air"), ("words", 3, " sunlight"),
        ("words", 0, " because"), ("done", 0, "eot"), ("done", 1, "eot"), ("done", 3, "length"),
    ),
    "lost": (
        ("words", 0, " The sky"), ("fork", 0, 1), ("words", 0, " glow"), ("words", 1, " looks"), ("prune", 0),
        ("words", 1, " blue"), ("done", 1, "eot"),
    ),
    "several": (
        ("words", 0, " The sky"), ("words", 1, " Blue light"), ("words", 0, " looks"), ("done", 1, "eot"),
        ("done", 0, "eot"),
    ),
    "beams": (
        ("words", 0, " The sky looks"), ("fork", 0, 1), ("fork", 0, 2), ("rate", 0, -0.9), ("words", 0, " blue"),
        ("rate", 1, -1.1), ("words", 1, " red"), ("rate", 2, -2.5), ("words", 2, " light"), ("fork", 1, 3),
        ("prune", 2), ("rate", 1, -0.7), ("words", 1, " because air"), ("rate", 3, -1.5), ("words", 3, " sunlight"),
        ("rate", 0, -1.2), ("words", 0, " because"), ("rate", 1, -0.5), ("done", 1, "eot"), ("rate", 0, -1.2),
        ("done", 0, "eot"), ("rate", 3, -1.4), ("done", 3, "length"),
    ),
    "votes": (
        ("fork", 0, 1), ("fork", 0, 2), ("fork", 0, 3), ("words", 0, " It is 4"), ("words", 1, " It is 5"),
        ("words", 2, " I think 4"), ("words", 3, " No idea"), ("done", 1, "eot"), ("done", 0, "eot"),
        ("done", 2, "eot"), ("done", 3, "length"),
    ),
    "worked": (
        ("fork", 0, 1), ("fork", 0, 2), ("words", 0, " 27 / 3 = 9 groups.\n9 * 4 = 36.\nShe gets 40 - 36 = 4."),
        ("words", 1, " 27 / 3 = 8 groups.\n8 * 4 = 32. So 40 - 32 = 8."), ("words", 2, " I think 4"),
        ("done", 0, "eot"), ("done", 1, "eot"), ("done", 2, "eot"),
    ),
    "early": (
        ("fork", 0, 1), ("words", 0, " The sky"), ("words", 1, " Blue light"), ("done", 1, "eot"),
        ("words", 0, " looks blue"), ("done", 0, "eot"),
    ),
    **{
        f"paths {n}": (
            *(("fork", 0, path) for path in range(1, n)), *(("words", path, f" It is {path % 3}") for path in range(n)),
            *(("done", path, "eot") for path in range(n)),
        )
        for n in (8, 16)
    },
    "walk": (("rate", 0, -9.0, -2.0), ("rate", 0, -7.5, -7.0), ("words", 0, " The sky looks blue"), ("done", 0, "eot")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned(Strategy):
    """Draws what a plan says."""

    NAME, TITLE, ABOUT = "planned", "planned", "draws what a plan says"
    plan: str


EXTRA = " reach come light appear are fill seem scatter shine glow turn stay go fall hue tint".replace(
    " ", "\n "
).split("\n")[1:]
USER = ["Why", "is", "the", "sky", "blue", "?", "Hello", ",", "what", "about", "sunsets", "and", "why", "red"]


def words(text: str) -> list[str]:
    """A text as tokens: words with the space before them, line breaks and punctuation apart."""
    import re

    return re.findall(r"<think>|</think>|<tool_call>|</tool_call>|\n\n|\n| ?[\w*]+| ?[^\w\s]|\s", text)


class ScriptedTokenizer:
    """Words as tokens, with bytes for everything else."""

    fingerprint = "words"
    END, USER_TURN, MODEL_TURN, STOP = 256, 257, 258, 259

    def __init__(self, texts: Sequence[str], chat: bool = True) -> None:
        known = [word for text in texts for word in words(text)] + EXTRA + USER + [" " + word for word in USER]
        self.pieces: list[bytes] = [bytes([i]) for i in range(256)]
        self.pieces += [b"<|im_end|>", b"<|user|>", b"<|model|>", b"<|endoftext|>"]
        self.pieces += [word.encode() for word in dict.fromkeys(known) if len(word.encode()) > 1]
        self.ids = {piece: token for token, piece in reversed(list(enumerate(self.pieces)))}
        self.eos = frozenset({self.END, self.STOP})
        self.chat_template = "a turn, a message" if chat else None

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]:
        ids: list[int] = []
        for word in words(text):
            token = self.ids.get(word.encode())
            ids += [token] if token is not None else list(word.encode())
        return ids

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def is_special(self, token: int) -> bool:
        return self.END <= token <= self.STOP

    def chat(
        self, messages: Sequence[dict[str, str]], *, generation_prompt: bool = True, tools: Any = None
    ) -> list[int]:
        ids: list[int] = []
        for message in messages:
            ids.append(self.MODEL_TURN if message["role"] == "assistant" else self.USER_TURN)
            ids += [*self.encode(message["content"]), self.END]
        return [*ids, self.MODEL_TURN] if generation_prompt else ids


class ScriptedEngine:
    """Draws the words of a script; `pace` is called before every token, to hold a run where a test wants it."""

    def __init__(
        self, name: str = "scripted", scripts: Sequence[str] = SCRIPTS, chat: bool = True, context: int = 8192
    ) -> None:
        self.scripts = scripts
        self.tokenizer = ScriptedTokenizer([*SCRIPTS, THOUGHT, *scripts], chat)
        self.cache_nbytes = 1_000_000
        self.pace: Callable[[int], None] = lambda _: None
        self.fail_at: int | None = None
        self.plans: dict[str, str] = {}  # what is drawn by a strategy
        self.plan = ""  # what is drawn whatever is asked for
        self.calls: list[tuple[str, list[int]]] = []
        self.strategies: list[Any] = []
        self.adapters: dict[str, Attached] = {}
        pieces = tuple(self.tokenizer.pieces)
        self.facts = ModelFacts(
            name, context, pieces, chat, 98_362_432, name, "llama", "Q4_1", "0" * 64, self.tokenizer.eos, calls=True
        )

    def raw(self, ids: Sequence[int], favourite: int) -> np.ndarray:
        """Logits [V] after a text: deterministic, with the favourite usually but not always on top."""
        rng = np.random.default_rng([len(ids), favourite])
        logits = rng.normal(0.0, 1.0, len(self.tokenizer.pieces)).astype(np.float32)
        logits[:260] -= 8
        extras = [self.tokenizer.ids[word.encode()] for word in EXTRA]
        logits[extras] += rng.uniform(1.0, 5.5, len(extras)).astype(np.float32)
        logits[favourite] = np.float32(9.6 - min(rng.exponential(2.0), 6.5))
        return logits

    def generate(
        self,
        ids: Sequence[int],
        control: RunControl,
        *,
        n: int = 1,
        seed: int = 0,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        strategy: Any = None,
    ) -> Iterator[Event]:
        self.calls.append(("generate", list(ids)))
        self.strategies.append("" if strategy == PLAIN else str(strategy))
        self._check(ids)
        yield Prefilled(len(ids), len(ids))
        plan = strategy.plan if isinstance(strategy, Planned) else self.plans.get(str(strategy), self.plan)
        if plan:
            yield from self._search(ids, control, PLANS[plan])
            return
        script = self._rest_of(ids, self.scripts[seed % len(self.scripts)])
        budget = 10**6 if max_tokens is None else max_tokens
        text, drawn, reason = list(ids), 0, "length"
        while drawn < budget:
            self.pace(drawn)
            if control.cancelled:
                reason = "cancelled"
                break
            if self.fail_at is not None and drawn == self.fail_at:
                raise RuntimeError("the scripted engine was told to fail")
            favourite = script[drawn] if drawn < len(script) else self.tokenizer.END
            forced = bool(control.forced)
            token = control.forced.popleft() if forced else favourite
            step = self.step(text, favourite, token, control, seed, "forced" if forced else "drawn", drawn)
            text.append(token)
            drawn += 1
            yield Emitted(0, step)
            if token in self.tokenizer.eos:
                reason = "eot"
                break
        yield Done(0, reason, Stats(len(ids), 0, drawn, 0.1, drawn / 100))

    def reading_calls(self, ids: Sequence[int], steps: Sequence[TokenStep], tools: Sequence[Tool]) -> Any:
        """Calls as JSON between `<tool_call>` marks; each tool has the same probability, and a call a half."""
        answer = ToolUse(tuple(tools), JSON).answer(ids, steps, "", self.tokenizer)
        law = ToolDistribution(tuple((tool.name, 0.5 / len(tools)) for tool in tools), 0.0, 0.5, 0.0, 1)
        yield None
        written, logprobs = [step.written for step in steps], [step.logprob for step in steps]
        called = [(call.name, call_fields(call, written, logprobs, answer.choice)) for call in answer.calls]
        return CallsRead(answer, ToolChoice(law, answer.choice, tuple(called)))

    def hearing_results(self, prompt: Prompt, tools: Any, answer: Any, results: Sequence[ToolResult]) -> Any:
        """The results are the tokens of their texts, behind the prompt."""
        yield 1
        turns = ToolUse(tuple(tools), JSON).turns(answer, results, self.tokenizer)
        before = self.tokenizer.chat([dict(said) for said in prompt.messages])
        own = self.tokenizer.encode("".join(result.text for result in results))
        return ResultsHeard(turns, HeardResults(tuple(before), tuple(self.score([*before, *own])[len(before) :])))

    def _search(self, ids: Sequence[int], control: RunControl, plan: Sequence[tuple[Any, ...]]) -> Iterator[Event]:
        """Branches as a plan says, a turn each: `pace` is called before every one of them."""
        texts: dict[int, list[int]] = defaultdict(lambda: list(ids))
        ended = set[int]()
        for turn, (verb, branch, *what) in enumerate(plan):
            self.pace(turn)
            if branch in control.given_up:
                if branch not in ended:
                    yield Done(branch, "cancelled", Stats(len(ids), 0, 1, 0.1, 0.1))
                ended.add(branch)
                continue
            match verb:
                case "words":
                    for token in self.tokenizer.encode(what[0]):
                        step = self.step(texts[branch], token, token, control, 0, "drawn", turn)
                        texts[branch].append(token)
                        yield Emitted(branch, step)
                case "fork":
                    texts[what[0]] = list(texts[branch])
                    yield Forked(branch, what[0])
                case "rate":
                    score, *bound = what
                    known = {"bound": bound[0], "proven": score >= bound[0]} if bound else {}
                    yield Rated(branch, {"score": score} | known)
                case "prune":
                    yield Pruned(branch)
                case "done":
                    drawn = len(texts[branch]) - len(ids)
                    yield Done(branch, what[0], Stats(len(ids), 0, drawn, 0.1, drawn / 100))

    def _rest_of(self, ids: Sequence[int], script: str) -> list[int]:
        """The script from where a text already tells it: a branch goes on with the words that follow."""
        own = list(ids)
        if self.tokenizer.MODEL_TURN in own:
            own = own[len(own) - own[::-1].index(self.tokenizer.MODEL_TURN) :]
        return self.tokenizer.encode(script)[len(own) :]

    def step(
        self, ids: Sequence[int], favourite: int, token: int, control: RunControl, seed: int, origin: str, drawn: int
    ) -> TokenStep:
        on = (adapter for adapter in self.adapters.values() if adapter.weight)
        named = tuple(f"{adapter.name}={adapter.weight:g} {'0' * 16}" for adapter in on)
        raw, recipe = self.raw(ids, favourite), replace(control.recipe, adapters=named)
        states = start(recipe.transforms, None, list(ids), np)
        after, removed_by = run(recipe.transforms, raw, states, (seed, len(ids)), np, greedy=recipe.greedy)
        if not math.isfinite(float(after[token])):  # the script's word is drawn whatever the transforms say
            after[token] = after.max() - 3
            removed_by[token] = -1
        observed = observe(
            raw, token, after=after, removed_by=removed_by, recipe=recipe, position=len(ids), origin=origin
        )
        return self._texted(observed, drawn / 100)

    def _texted(self, step: TokenStep, elapsed_s: float = 0.0) -> TokenStep:
        piece = self.tokenizer.pieces[step.token]
        special = 256 <= step.token < 260
        return replace(
            step,
            piece=piece,
            text="" if special else piece.decode(errors="replace"),
            special=special,
            elapsed_s=elapsed_s,
        )

    def _check(self, ids: Sequence[int]) -> None:
        if len(ids) > self.facts.context:
            raise ContextOverflow(f"the text has {len(ids)} tokens and this model reads at most {self.facts.context}")

    def score(self, ids: Sequence[int]) -> Sequence[TokenStep]:
        self.calls.append(("score", list(ids)))
        self._check(ids)
        steps = []
        for i, token in enumerate(ids):
            if i == 0:
                steps.append(
                    self._texted(
                        TokenStep(
                            token, b"", "", None, None, None, None, None, 0, RunControl().recipe, None, None, 0, "given"
                        )
                    )
                )
                continue
            raw = self.raw(ids[:i], token)
            steps.append(self._texted(observe(raw, token, recipe=RunControl().recipe, position=i, origin="given")))
        return steps

    def scoring(self, ids: Sequence[int], *, start: int = 0) -> Generator[int, None, Sequence[TokenStep]]:
        yield len(ids)
        return self.score(ids)[start:]

    def binding(self, *args: Any) -> Generator[None, None, Binding]:
        """A script says its words, whatever an answer is to be."""
        yield from ()
        return lambda recipe: recipe

    def read(self, ids: Sequence[int]) -> Generator[int]:
        yield len(ids)

    def logits_after(self, ids: Sequence[int]) -> np.ndarray:
        self.calls.append(("exact", list(ids)))
        script = self._rest_of(ids, self.scripts[0])
        return self.raw(ids, script[0] if script else self.tokenizer.END)

    def logits_along(self, ids: Sequence[int], start: int) -> Iterator[np.ndarray | None]:
        """At every place it would rather go on with its first script."""
        yield None
        texts = [ids[: at + 1] for at in range(start, len(ids))]
        ahead = [(*self._rest_of(text, self.scripts[0]), self.tokenizer.END)[0] for text in texts]
        yield np.stack([self.raw(text, word) for text, word in zip(texts, ahead, strict=True)])

    def adapt(self, change: str, what: str, weight: float) -> tuple[Attached, ...]:
        """Any directory whose name does not begin with "no" is an adapter, of "few..." with a posterior."""
        name = what.rstrip("/").rpartition("/")[2]
        if change == "add":
            if name.startswith("no"):
                raise CheckpointError(f"{what} is not an adapter's directory: it has no adapter_config.json")
            posterior = "laplace" if name.startswith("few") else ""
            shape: Any = ("lora", 8, 2.0, ("q_proj",), 38_912, "scripted", posterior)
            self.adapters[name] = Attached(name, Path(what), weight, *shape)
        elif change == "remove":
            del self.adapters[name]
        else:
            others = {} if change == "weigh" else dict.fromkeys(self.adapters, 0.0)
            for known, value in (others | {name: weight}).items():
                self.adapters[known] = replace(self.adapters[known], weight=value)
        return tuple(self.adapters.values())

    def steer(
        self, name: str, toward: Sequence[Sequence[int]], away: Sequence[Sequence[int]], layer: int | None
    ) -> tuple[Attached, ...]:
        """The direction of a script has the texts' lengths in its name."""
        words = f"{[len(ids) for ids in toward]} {[len(ids) for ids in away]} {layer}"
        self.adapters[name] = Attached(name, Path(words), 1.0, "steering", 1, 1.0, ("layers.0",), 64, "scripted")
        return tuple(self.adapters.values())

    def look_inside(self, ids: Sequence[int], look: InsideQuestion[Any], control: RunControl) -> Iterator[Any]:
        """There is nothing inside a script. Samples of an adapter differ the more the later a token is."""
        if look.method == "uncertainty":
            (tokens,) = look.args
            spread = np.array([0.04 + 0.01 * (token % 9) for token in tokens])
            bit = math.log(2)
            yield Uncertainty(8, 1.25 * bit, 0.01 * bit * len(ids), np.array(tokens), spread, spread, 0.4)
            return
        raise ParameterError(f"{self.facts.name} is a script: there is nothing inside")
        yield

    def shift(self, ids: Sequence[int]) -> float:
        """Each unit of an adapter's weight moves it by a bit."""
        return math.log(2) * sum(abs(adapter.weight) for adapter in self.adapters.values())

    def pricing(
        self, scaling: RopeScaling, whole: Sequence[int], short: Sequence[int]
    ) -> "Generator[int, None, ContextPrice]":
        """A bit a token of what fits, and half of one less at the end; a hundredth of a MB a token."""
        from likely.engine.decode.context_extension_cost import ContextPrice  # which imports mlx

        yield len(whole)
        bit, contexts = math.log(2), (self.facts.context, int(self.facts.context * scaling.factor))
        fits = Estimate(3 * bit, 0.0), Estimate(4 * bit, 0.0)
        end = Estimate(-bit / 2, 0.0, n=32)
        return ContextPrice(
            scaling, contexts, fits, Estimate(bit, 0.0), end, (contexts[0] * 10**4, contexts[1] * 10**4)
        )

    def widths(self) -> Generator[tuple[int, int], None, list[Any]]:
        """Three layers; a bit less costs four times the KL, from 2^-9 bits at 8."""
        from likely.engine.weights.quantize.measure import QuantizationReport  # which imports mlx

        yield from ((layer, 3) for layer in range(4))
        kls = {bits: math.log(2) * 2.0 ** (7 - 2 * bits) for bits in (2, 3, 4, 5, 6, 8)}
        return [
            QuantizationReport(
                None, b + 0.5, b * 10**6, 10**8, 200, 190, kl, (kl / 2, 2 * kl), 1 / b, 8.0, 7.0, Estimate(kl, kl), b
            )
            for b, kl in kls.items()
        ]  # fmt: skip

    def canvas(self, text: str) -> list[int] | None:
        """It fills no masks, whatever a text has."""
        return None

    def answer_canvas(self, *args: Any) -> Any:
        raise AssertionError("an autoregressive model was asked for a canvas")

    def fill(self, *args: Any, **options: Any) -> Iterator[Any]:
        raise AssertionError("an autoregressive model was asked to fill masks")
        yield

    def bounding(self, *args: Any) -> Any:
        raise AssertionError("an autoregressive model was asked for a bound")

    def close(self) -> None:
        self.calls.append(("close", []))


class ScriptedShop:
    """Opens scripted engines by name; `missing` cannot be found. With `empty` none is here until it is opened."""

    def __init__(self, *engines: ScriptedEngine, empty: bool = False) -> None:
        self.empty = empty
        self.downloading = False  # a model comes in small pieces, for ever
        self.asked: Callable[[str], None] = lambda _: None
        self.engines = {engine.facts.name: engine for engine in engines or (ScriptedEngine(),)}

    def choose(self, prefer: Sequence[str]) -> str:
        return "" if self.empty else next((n for n in (*prefer, *self.engines) if n in self.engines), "")

    def opening(self, model: str, progress: Callable[[str, int, int], None]) -> Generator[Any, None, ScriptedEngine]:
        yield from ()
        self.asked(model)
        while self.downloading:
            progress(f"downloading {model}", 1, 100)
            yield None
        progress("loading", 0, 0)
        name = model or next(iter(self.engines))
        if name not in self.engines:
            raise CheckpointError(f"there is no model {name}: `likely models` lists those there are")
        return self.engines[name]

    def offers(self) -> Sequence[ModelOffer]:
        here = [ModelOffer(name, 98_362_432, "apache-2.0", not self.empty, True, "llama Q4_1") for name in self.engines]
        return [*here, ModelOffer("big-model", 50_000_000_000, "mit", False, False, "too big for this machine")]
