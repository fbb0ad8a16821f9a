"""Thinking of a model: the marks between which it thinks before it answers, found in tokens and in texts as they come.

Marks are facts about published models: the first five are those that mlx-lm's `tokenizer_utils` knows, three stand in
published templates alone, the last are the channels of OpenAI's Harmony format. Plain Python; knows no template's text,
no protocol and no screen.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from likely.engine.sampling.trace.step import TokenStep

Kind = Literal["said", "thought", "call"]


@dataclass(frozen=True, slots=True)
class Thinking:
    """The marks of one family: a thought begins behind `begin` and ends before `end`.

    `ends` are all that may stand there, a longer one first; within a thought `again` begins it anew, "" where nothing
    does. `around` are marks of what is said, which are no part of it.
    """

    begin: str
    end: str
    longer: str = ""  # an end that holds more
    around: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()  # one stands in its templates: its marks are those of others, too

    @property
    def ends(self) -> tuple[str, ...]:
        return (self.longer, self.end) if self.longer else (self.end,)

    @property
    def again(self) -> str:
        return self.over + self.begin if self.longer else ""

    @property
    def over(self) -> str:
        """The mark that ends a channel and begins a message, which may have another; "" where there are none."""
        return self.longer.removesuffix(self.end)

    @property
    def apart(self) -> tuple[str, ...]:
        """All marks outside of thoughts and calls that are no part of what is said."""
        return (*self.around, self.over, *self.ends) if self.over else self.around

    @property
    def closing(self) -> tuple[str, ...]:
        """All that a thought ends before, a longer one first: words to a person in another channel, too."""
        if not self.over:
            return self.ends
        return (self.longer, *(self.over + mark for mark in self.around), self.end, *self.around)

    def may_be_of(self, template: str) -> bool:
        """Whether a chat template may be of this family."""
        return not self.signs or any(sign in template for sign in self.signs)

    def text(self, step: TokenStep) -> str:
        """The text that a token adds to one that is parted: a control token nothing, unless it is of a mark."""
        if not step.special:
            return step.text
        name = step.piece.decode(errors="replace")
        return name if any(name in mark for mark in (self.begin, *self.closing)) else ""


@dataclass(frozen=True, slots=True)
class CallMarks:
    """The marks of a call: it stands between `begin` and `end`, or behind `begin` where that is "". `inner` are control
    tokens that are part of what it says; `other` may stand in the place of `begin`."""

    begin: str
    end: str
    inner: tuple[str, ...] = ()
    other: str = ""

    @property
    def begins(self) -> tuple[str, ...]:
        return (self.begin, self.other) if self.other else (self.begin,)

    def find(self, text: str, start: int = 0) -> int:
        """Where the first call of a text begins, -1 for nowhere."""
        return min((at for mark in self.begins if (at := text.find(mark, start)) >= 0), default=-1)


THINK = Thinking("<think>", "</think>")  # Qwen3, DeepSeek R1, GLM, SmolLM3
FAMILIES = (
    Thinking(  # Hunyuan: what it says behind a thought stands between marks, too
        THINK.begin, THINK.end, around=("<answer>", "\n</answer>", "</answer>"), signs=("<answer>", "<|extra_0|>")
    ),
    THINK,
    Thinking("<longcat_think>", "</longcat_think>"),
    Thinking("<|think:start|>", "<|think:end|>"),
    Thinking("<|channel>thought", "<channel|>"),  # Gemma 4
    Thinking("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    Thinking("[THINK]", "[/THINK]"),  # Magistral, Ministral 3 Reasoning
    Thinking("<seed:think>", "</seed:think>"),  # Seed-OSS
    Thinking("<|START_THINKING|>", "<|END_THINKING|>"),  # Command R7B, Command A
    Thinking(  # gpt-oss
        "<|channel|>analysis<|message|>",
        "<|channel|>final<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        ("<|channel|>commentary<|message|>",),  # words to a person before a call
    ),
)
LONGEST = max(len(mark) for family in FAMILIES for mark in (family.begin, *family.closing))
_WHOLE = frozenset(mark for family in FAMILIES for mark in (family.begin, *family.ends))
SWITCHES = ("enable_thinking", "thinking")  # by which a template is told whether to think
EFFORT = "reasoning_effort"  # by which it is told how much


class MarkedVocabulary(Protocol):
    """The tokenizer as far as marks are looked for in it."""

    @property
    def chat_template(self) -> str | None: ...
    def encode(self, text: str, *, special: bool = False) -> list[int]: ...
    def piece(self, token: int, /) -> bytes: ...


def thinking_of(tokenizer: MarkedVocabulary) -> Thinking | None:
    """The marks of a model: those that are one token of its vocabulary or stand in its chat template. None for a model
    that has none."""
    template = tokenizer.chat_template or ""
    families = (family for family in FAMILIES if family.may_be_of(template))
    return next((f for f in families if f.end in template or len(tokenizer.encode(f.end, special=True)) == 1), None)


def switch(reads: Collection[str], on: bool) -> tuple[str, bool | str] | None:
    """The option that has a template think, or not, by the names that it reads; None where it reads none that does."""
    if found := next((name for name in SWITCHES if name in reads), None):
        return found, on
    return (EFFORT, "high") if on and EFFORT in reads else None


def of_mark(name: str) -> bool:
    """Whether a control token by its name is a mark, or a part of one."""
    return any(name in mark for mark in _WHOLE)


def is_mark(piece: bytes) -> bool:
    """Whether a control token is a mark by itself."""
    return piece.decode(errors="replace") in _WHOLE


def end_of(ids: Sequence[int], piece: Callable[[int], bytes]) -> str:
    """The end of a prompt, control tokens by their names: as much as `opens` looks at."""
    return b"".join(map(piece, ids[-LONGEST:])).decode(errors="replace")


def opens(text: str) -> bool:
    """Whether a prompt, its control tokens written out, ends within a thought: the template has opened one."""
    for family in FAMILIES:
        if (at := text.rfind(family.begin)) >= 0 and not text[at + len(family.begin) :].strip():
            return True
    return False


def without_thought(ids: Sequence[int], tokenizer: MarkedVocabulary) -> list[int]:
    """A prompt whose template opens a thought with that ended at once, others as they are: an answer that is bound to a
    form from its first token on would be written into it."""
    if not opens(written := end_of(ids, tokenizer.piece)):
        return list(ids)
    end = (thinking_of(tokenizer) or THINK).ends[0]
    lines = written.endswith("\n")  # the marks stand on lines of their own, as in the empty thoughts of Qwen3
    return [*ids, *tokenizer.encode(f"\n{end}\n\n" if lines else end, special=True)]


def with_thought(ids: Sequence[int], tokenizer: MarkedVocabulary) -> tuple[list[int], str]:
    """A prompt behind which the model thinks first, its thought opened where the template has not, and the mark that
    ends it; as it is, and "", for a model that does not think."""
    thinking = thinking_of(tokenizer)
    if thinking is None:
        return list(ids), ""
    begun = [] if opens(end_of(ids, tokenizer.piece)) else tokenizer.encode(thinking.begin, special=True)
    return [*ids, *begun], thinking.end


class ThoughtSpan:
    """The thought in an answer, found token by token: `span` is a half-open range of its tokens, marks included; None
    while there is none. A mark may be spread over several tokens. `inner` are those between the marks, once it has
    ended: none that has a part of one."""

    def __init__(self, opened: bool = False) -> None:
        """`opened`: the prompt ends within a thought."""
        self.span: tuple[int, int] | None = (0, 0) if opened else None
        self.inner = (0, 0)
        self.closed = False
        self._family: Thinking | None = None
        self._tail, self._owners, self._count = "", list[int](), 0

    def push(self, piece: str) -> None:
        """The next token's text, a control token's name included."""
        index, self._count = self._count, self._count + 1
        if self.closed:
            return
        self._tail += piece
        self._owners += [index] * len(piece)
        if self.span is None:
            begins = ((self._tail.find(family.begin), family) for family in FAMILIES)
            if found := min(((at, family) for at, family in begins if at >= 0), key=lambda pair: pair[0], default=None):
                at, self._family = found
                self.span, self.inner = (self._owners[at], index + 1), (index + 1, index + 1)
                self._cut(at + len(self._family.begin))
        for family in FAMILIES if self._family is None else (self._family,):
            # without a beginning: the template had opened it
            if (at := next((at for end in family.closing if (at := self._tail.find(end)) >= 0), -1)) >= 0:
                self.span, self.closed = self.span or (0, 0), True
                self.inner = (self.inner[0], max(self.inner[0], self._owners[at]))
        if self.span is not None:
            self.span = (self.span[0], index + 1)
        self._cut(max(len(self._tail) - LONGEST, 0))

    @property
    def here(self) -> bool:
        """Whether the last token is of the thought."""
        return self.span is not None and self.span[1] == self._count

    def _cut(self, count: int) -> None:
        self._tail, self._owners = self._tail[count:], self._owners[count:]


def answer_tokens(pieces: Sequence[str], opened: bool = False) -> range | None:
    """The tokens of an answer behind its thought, all where there is none; None for a thought without an end."""
    found = ThoughtSpan(opened)
    for piece in pieces:
        found.push(piece)
    if found.span is None:
        return range(len(pieces))
    return range(found.span[1], len(pieces)) if found.closed else None


def spoken(steps: Sequence[TokenStep], rest: str = "", opened: bool = False, thinking: Thinking | None = None) -> str:
    """The words of an answer behind its thought, all where there is none, and the `rest` that no token completed; none
    where the thought has no end. Those of a family whose `thinking` has marks around what is said have lost these."""
    if thinking is not None and thinking.around:
        parts = MarkSplitter("thought" if opened else "said", thinking=thinking)
        text = "".join(map(parts.text, steps)) + rest
        return "".join(words for kind, words in parts.push(text, last=True) if kind == "said")
    tokens = answer_tokens([step.written for step in steps], opened)
    return "" if tokens is None else "".join(steps[i].text for i in tokens) + rest


class ApartMarks:
    """The marks in an answer that are no part of what is said (`Thinking.apart`), found token by token: `tokens` are
    those that have a part of one."""

    def __init__(self, marks: Sequence[str] = ()) -> None:
        self.tokens = set[int]()
        self._marks, self._longest = marks, max(map(len, marks), default=0)
        self._tail, self._owners, self._count = "", list[int](), 0

    def push(self, piece: str) -> bool:
        """The next token's text, a control token's name included; whether it ends a mark."""
        index, self._count = self._count, self._count + 1
        if not self._marks:
            return False
        self._tail += piece
        self._owners += [index] * len(piece)
        found = False
        while at := min((place for mark in self._marks if (place := self._end(mark))), default=None):
            self.tokens.update(self._owners[at[0] : at[1]])
            self._cut(at[1])
            found = True
        self._cut(max(len(self._tail) - self._longest, 0))
        return found

    def _end(self, mark: str) -> tuple[int, int] | None:
        """Where a mark begins and ends, if it has come."""
        at = self._tail.find(mark)
        return (at, at + len(mark)) if at >= 0 else None

    def _cut(self, count: int) -> None:
        self._tail, self._owners = self._tail[count:], self._owners[count:]


class MarkSplitter:
    """A text that arrives in pieces, parted by its marks; what may be the beginning of one is held back."""

    def __init__(self, kind: Kind = "said", calls: CallMarks | None = None, thinking: Thinking = THINK) -> None:
        """`calls`: tools were offered, so that these marks mean something."""
        self.kind: Kind = kind
        self._calls, self.thinking = calls, thinking
        self._held = ""

    def _marks(self) -> dict[str, Kind]:
        """The marks that end a part of this kind, and what begins behind them."""
        match self.kind:
            case "said":
                tools: dict[str, Kind] = dict.fromkeys(self._calls.begins, "call") if self._calls else {}
                return {self.thinking.begin: "thought", **tools, **dict.fromkeys(self.thinking.apart, "said")}
            case "thought":
                again: dict[str, Kind] = {self.thinking.again: "thought"} if self.thinking.again else {}
                if self._calls and self.thinking.over:  # a thought that no answer ends but a call
                    again |= {self.thinking.over + begin: "call" for begin in self._calls.begins}
                return {**again, **dict.fromkeys(self.thinking.closing, "said")}
            case "call":
                return {self._calls.end: "said"} if self._calls and self._calls.end else {}

    def text(self, step: TokenStep) -> str:
        """The text that a token adds, as `Thinking.text` has it, the marks and the inside of calls too."""
        text = self.thinking.text(step)
        if text or not step.special or self._calls is None:
            return text
        name, calls = step.piece.decode(errors="replace"), self._calls
        return name if any(name in mark for mark in (*calls.begins, calls.end)) or name in calls.inner else ""

    def push(self, text: str, last: bool = False) -> Iterator[tuple[Kind, str]]:
        """The parts that are certain."""
        held, self._held = self._held + text, ""
        while held:
            marks = self._marks()
            first = min(((at, mark) for mark in marks if (at := held.find(mark)) >= 0), default=None)
            if first is not None:
                at, mark = first
                if at:
                    yield self.kind, held[:at]
                self.kind, held = marks[mark], held[at + len(mark) :]
                continue
            keep = 0 if last else max((_overlap(held, mark) for mark in marks), default=0)
            if held[: len(held) - keep]:
                yield self.kind, held[: len(held) - keep]
            self._held = held[len(held) - keep :]
            return

    def fork(self) -> "MarkSplitter":
        """A second one that holds back the same."""
        twin = MarkSplitter(self.kind, self._calls, self.thinking)
        twin._held = self._held
        return twin


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of a text may begin a mark."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)
