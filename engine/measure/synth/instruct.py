"""Instructions with their answers, or texts, from a model: after examples, from nothing, about a document, by a grid.

Self-instruct (Wang et al. 2023), Magpie (Xu et al. 2024). Small models give instructions of low quality: what is kept
of them says the yield, not this.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product

from likely.engine.base.errors import ParameterError
from likely.engine.decode.prompt import Prompt
from likely.engine.measure.evaluate.figures.contamination import words
from likely.engine.measure.synth import inputs
from likely.engine.measure.synth.method import RowMethod
from likely.engine.measure.synth.row import SynthRow
from likely.engine.text.rows.training_row import TrainingRow, sides

ASKS, SAYS = "Instruction:", "Answer:"
DOCUMENT = "{document}\n\nWrite one question that this text answers, and the answer.\nQuestion:"


class SelfInstruct(RowMethod):
    """One more row after examples, some of the data and some of what was made. With classes, the answer comes first
    and the instruction for it second."""

    @cached_property
    def rows(self) -> tuple[TrainingRow, ...]:
        return inputs.rows(self.options.data, self.options.limit, self.config.names)

    @cached_property
    def seeds(self) -> list[tuple[str, str]]:
        return [sides(row) for row in self.rows]

    @property
    def identity(self) -> str:
        return inputs.identity(self.rows)

    @property
    def jobs(self) -> int:
        return math.ceil(self.options.rows / self.options.answers)

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        options, chance = self.options, random.Random(f"{self.config.seed} {job}")
        rows = [row for row in before if not row.dropped]
        shown = chance.sample(self.seeds, min(options.demos, len(self.seeds)))
        shown += [row.sides for row in chance.sample(rows, min(options.own_demos, len(rows)))]
        chance.shuffle(shown)
        answer = options.classes[job % len(options.classes)] if options.classes else ""
        texts = not any(asks for asks, _ in shown)
        n = min(options.answers, options.rows - job * options.answers)
        stop = options.stop or (("\n\n",) if texts else (f"\n{SAYS}",) if answer else (f"\n{ASKS}",))
        known = [asks or says for asks, says in (*self.seeds, *(row.sides for row in rows))]
        for path in self.draws.draw(self._prompt(shown, answer, texts), n, self.seed(job), stop):
            text, parent = path.text, f"demos:{job}"
            if texts:
                row = self.row({"text": text.strip()}, job, path.branch, parent, path=path)
                asks = says = text.strip()
            else:
                asks, says = (text, answer) if answer else (text.removeprefix(ASKS).partition(f"\n{SAYS}")[::2])
                content = {"prompt": asks.strip(), "completion": f" {says.strip()}"}
                attributes = {"class": answer} if answer else {}
                row = self.row(content, job, path.branch, parent, path=path, attributes=attributes)
            if not asks.strip() or not says.strip():
                yield row.out("generate: no instruction with an answer in it")
                continue
            like = nearest_rouge(asks, known)
            row = row.scored(rouge_l=like)
            if not row.dropped:
                known.append(asks)
            yield row.out("generate: too like another row") if like >= options.rouge and not row.dropped else row

    def _prompt(self, shown: Sequence[tuple[str, str]], answer: str, texts: bool) -> Prompt:
        first = f"{SAYS} {answer}\n{ASKS}" if answer else "" if texts else ASKS
        parts = []
        for asks, says in shown:
            one = [f"{ASKS} {asks.strip()}", f"{SAYS} {says.strip()}"]
            parts.append(says.strip() if texts else "\n".join(reversed(one) if answer else one))
        text = "".join(f"{part}\n\n" for part in parts)
        if self.draws.chat:
            begins = f", and begin with {first}" if first else ""
            return self.draws.prompt(f"{text}Write one more of these in the same form{begins}")
        return self.draws.prompt(text + first)


class Magpie(RowMethod):
    """An instruction after the template's opening of a user's turn, and the model's most likely answer to it."""

    @property
    def jobs(self) -> int:
        return math.ceil(self.options.rows / self.options.answers)

    @cached_property
    def opening(self) -> Prompt:
        """The template before the user's text."""
        tokenizer = self.draws.session.tokenizer
        if tokenizer.chat_template is None:
            raise ParameterError("magpie draws a user's turn by the chat template, and this model has none")
        mark = "\ue0f1"
        text = tokenizer.render([{"role": "user", "content": mark}], generation_prompt=False)
        return Prompt(parts=(tuple(tokenizer.encode(text.partition(mark)[0], special=True)),), whole=True)

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        n = min(self.options.answers, self.options.rows - job * self.options.answers)
        for path in self.draws.draw(self.opening, n, self.seed(job), self.options.stop):
            asks = path.text.strip()
            turn = {"role": "user", "content": asks}
            if not asks or path.finish == "length":
                content = {"messages": [turn, {"role": "assistant", "content": ""}]}
                row = self.row(content, job, path.branch, f"template:{job}-{path.branch}", path=path)
                yield row if row.dropped else row.out("generate: an empty instruction")
                continue
            answer = self.draws.once(Prompt((("user", asks),)), self.seed(job, 1), self.options.stop)
            content = {"messages": [turn, {"role": "assistant", "content": answer.text.strip()}]}
            parent, seed = f"template:{job}-{path.branch}", self.seed(job) + path.branch
            row = self.row(content, job, path.branch, parent, path=answer, seed=seed)
            yield row.out("generate: an empty answer") if not answer.text.strip() and not row.dropped else row


class DocumentQuestions(RowMethod):
    """A question that a document answers, with its answer."""

    @cached_property
    def rows(self) -> tuple[TrainingRow, ...]:
        return inputs.rows(self.options.data, self.options.limit, self.config.names)

    @property
    def identity(self) -> str:
        return inputs.identity(self.rows)

    @property
    def jobs(self) -> int:
        return len(self.rows)

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        where, document = self.rows[job].where, "\n".join(side for side in sides(self.rows[job]) if side)
        template = self.options.template or DOCUMENT
        prompt = self.draws.prompt(filled(template, {"document": document}))
        for path in self.draws.draw(prompt, self.options.answers, self.seed(job), self.options.stop or ("\n\n",)):
            asks, _, says = path.text.strip().removeprefix("Question:").partition(SAYS)
            content = {"prompt": f"{document}\n\n{asks.strip()}", "completion": f" {says.strip()}"}
            row = self.row(content, job, path.branch, where, path=path)
            lacks = not asks.strip() or not says.strip()
            yield row.out("generate: no question with an answer in it") if lacks and not row.dropped else row


class AttributeGrid(RowMethod):
    """Texts for every cell of a grid of attributes, as many of each."""

    @cached_property
    def cells(self) -> list[dict[str, str]]:
        return cells(self.options.grid)

    @property
    def jobs(self) -> int:
        return len(self.cells)

    def make(self, job: int, before: Sequence[SynthRow]) -> Iterator[SynthRow]:
        cell = self.cells[job]
        listed = ", ".join(f"{name}: {value}" for name, value in cell.items())
        asks = filled(self.options.template, cell) if self.options.template else f"Write a text ({listed})."
        for path in self.draws.draw(self.draws.prompt(asks), self.options.answers, self.seed(job), self.options.stop):
            content, parent = {"prompt": asks, "completion": path.text}, f"{listed}:{path.branch}"
            row = self.row(content, job, path.branch, parent, path=path, attributes=cell)
            yield row.out("generate: an empty text") if not path.text.strip() and not row.dropped else row


def cells(grid: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of a grid's values."""
    return [dict(zip(grid, point, strict=True)) for point in product(*grid.values())]


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A template with its parts in the place of their names in braces. ParameterError for a name that there is not."""
    for name in parts:
        if f"{{{name}}}" not in template:
            raise ParameterError(f"the template must have {{{name}}} in it, got {template!r}")
    for name, value in parts.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def nearest_rouge(text: str, known: Sequence[str]) -> float:
    """The largest ROUGE-L F of a text to known ones, 0 of none."""
    own_words = words(text)
    own, best = Counter(own_words), 0.0
    for other in known:
        theirs = words(other)
        if not own_words or not theirs:
            continue
        bound = 2 * (own & Counter(theirs)).total() / (len(own_words) + len(theirs))  # no common subsequence is longer
        if bound > best:
            best = max(best, rouge_l(own_words, theirs))
    return best


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """F of the longest common subsequence (Lin 2004, with beta 1)."""
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(a) + len(b))
