"""`Constraint`: only what a regular expression or a JSON schema allows next is left.

**Which law.** A text x is its tokens up to an end of text, that included, or up to the limit where that cuts it;
p(x) is the product of the model's p(x_i | x_<i) over them, the end's factor among them. x matches where every token of
it was allowed, and an end is allowed only where the grammar is satisfied. The law that is meant is p(x | x matches):
p(x) over the sum of p over all that match. What is drawn token by token from masked rows has another: every row is
normalised again, so that q(x) = prod p(x_i | x_<i) / A_i, with A_i the mass that the row gives to all allowed tokens,
and a likely beginning is taken however unlikely its rest (Park et al., arXiv:2405.21047). p(x) / q(x) = prod A_i is the
importance weight of a text drawn so: a step keeps log A_i (`TokenStep.logprob_allowed`), and one of several answers can
be drawn by it (`engine.decode.resampling`). Choices are few, and drawn by the law itself (`engine.choices`); searches
rank by log p(x) (`NextTokens.law`).

The grammars are llguidance's: which tokens may follow is found while the text grows, from their bytes, not worked out
for a whole vocabulary before. Its wheel is an extra, imported where a constraint is made.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from likely.engine.base.arrays import Array, Namespace
from likely.engine.base.errors import ParameterError
from likely.engine.base.files.foreign_json import parse
from likely.engine.sampling.transforms.arrays import Key
from likely.engine.sampling.transforms.intervals import Decision, Intervals
from likely.engine.sampling.transforms.transform import Truncation, Vocabulary

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

LIMITS = {"step_lexer_fuel": 100_000, "max_lexer_states": 50_000}  # work for a token: some 50 ms of it; 200,000 and
# 250,000 are llguidance's own
COMPACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ",[ ]?", "key_separator": ":[ ]?"}}
KINDS = {"regex": "regular expression", "json": "JSON schema"}


@dataclass(frozen=True, slots=True)
class AllowedTokens:
    """Where a text stands in a grammar: which tokens may come next, bool [n], and which are known at all; None where it
    has left the grammar, and nothing is ruled out any more."""

    matcher: "LLMatcher | None"
    ends: tuple[int, ...]
    known: np.ndarray

    def next(self) -> np.ndarray | None:
        """bool [n]; ParameterError where the grammar takes more work than it may."""
        if self.matcher is None:
            return None
        if self.matcher.is_stopped():
            mask = np.zeros(len(self.known), bool)
            mask[list(self.ends)] = True
            return mask
        bits = self.matcher.compute_bitmask()
        _check(self.matcher)
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[: len(self.known)] > 0
        mask[list(self.ends)] = self.matcher.is_accepting()
        if not mask.any():
            raise ParameterError("the constraint leaves no token: nothing satisfies it, or this model cannot spell it")
        allowed: np.ndarray = mask & self.known
        return allowed

    def after(self, token: int) -> "AllowedTokens":
        """Where it stands behind one token more."""
        if self.matcher is None or (self.matcher.is_stopped() and token in self.ends):
            return self
        if token in self.ends:
            return self if self.matcher.is_accepting() else self._ended()
        matcher = self.matcher.deep_copy()
        if not matcher.validate_tokens([token]) or not matcher.consume_token(token):
            return self._ended()
        return AllowedTokens(matcher, self.ends, self.known)

    def _ended(self) -> "AllowedTokens":
        return AllowedTokens(None, self.ends, self.known)


@dataclass(frozen=True, slots=True)
class FreeTokens:
    """Before the `mark` behind which the grammar `begins`: any token may come but one that ends the text."""

    mark: bytes
    begins: AllowedTokens
    vocabulary: Vocabulary
    tail: bytes = b""  # of the text, as much as may begin the mark

    @property
    def matcher(self) -> "LLMatcher | None":
        return self.begins.matcher

    @property
    def known(self) -> np.ndarray:
        return self.begins.known

    def next(self) -> np.ndarray:
        """bool [n]."""
        mask = self.known.copy()
        mask[list(self.begins.ends)] = False
        return mask

    def after(self, token: int) -> "FreeTokens | AllowedTokens":
        """Where it stands behind one token more."""
        tail = self.tail + self.vocabulary.piece(token)
        return self.begins if self.mark in tail else replace(self, tail=tail[-(len(self.mark) - 1) :])


Progress = AllowedTokens | FreeTokens


@dataclass(frozen=True, slots=True)
class Constraint(Truncation):
    """Leave what `grammar` allows: a regular expression for the whole answer, or a JSON schema, whose text is on one
    line, with a blank after a comma or a colon at most, unless its `x-guidance` says otherwise.

    The answer begins behind `start` tokens of the text, or, where a thought comes `after` them, behind the mark that
    ends it: the thought is free, but no end of the text. An end of text is allowed where the grammar is satisfied.
    """

    sync: ClassVar[bool] = True
    hard: ClassVar[bool] = True

    kind: str
    grammar: str
    start: int = 0
    after: str = ""

    def __post_init__(self) -> None:
        """ParameterError for what is no grammar, for one that nothing satisfies, and for one that is too much work."""
        if self.kind not in KINDS:
            raise ParameterError(f"a constraint must be one of {', '.join(KINDS)}, got {self.kind}")
        if error := _llguidance().LLMatcher.validate_grammar(self._source(), None):
            raise ParameterError(f"this {KINDS[self.kind]} cannot be followed: {_line(error)}")

    def init(self, vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> Progress:
        if vocabulary is None:
            return AllowedTokens(None, (), np.zeros(0, bool))
        state: Progress = self.compiled(vocabulary)
        if self.after:
            state = FreeTokens(self.after.encode(), self.compiled(vocabulary), vocabulary)
        for token in ids[self.start :]:
            state = state.after(int(token))
        return state

    def compiled(self, vocabulary: Vocabulary) -> AllowedTokens:
        """Where an answer begins. The last few are remembered, so that whoever has others wait while it is found out
        can do that elsewhere before: in any thread."""
        for of, kind, grammar, state in [*_compiled]:  # another thread may add to it
            if of is vocabulary and (kind, grammar) == (self.kind, self.grammar):
                return state
        tokenizer, known = _tokenizer(vocabulary)
        guidance = _llguidance()
        matcher = guidance.LLMatcher(tokenizer, self._source(), limits=guidance.LLParserLimits(**LIMITS))
        _check(matcher)
        state = AllowedTokens(matcher, _ends(vocabulary, known), known)
        state.next()  # the first is the dearest
        del _compiled[:-7]
        _compiled.append((vocabulary, self.kind, self.grammar, state))
        return state

    def update(self, state: Progress, token: Any, surprisal: Any, xp: Namespace) -> Progress:
        return state.after(int(token))

    def keep(self, logits: Array, state: Progress, key: Key, xp: Namespace) -> Array | None:
        mask = state.next()
        if mask is None:
            return None
        whole = np.zeros(logits.shape[-1], bool)
        whole[: len(mask)] = mask[: len(whole)]
        return whole if xp is np else xp.array(whole)

    def decide(self, known: Intervals, state: Progress, key: Key) -> Decision:
        """Tokens that surely stay and go; nothing is sure of those that the vocabulary of a trace does not know."""
        stays, goes = known.all()
        mask = state.next()
        if mask is None:
            return stays, goes
        size = len(mask)
        ids = np.minimum(known.ids, size - 1)
        certain = np.zeros(len(stays), bool)
        certain[: known.points] = (known.ids < size) & state.known[ids]
        allowed = np.zeros(len(stays), bool)
        allowed[: known.points] = mask[ids]
        return certain & allowed, certain & ~allowed

    def _source(self) -> str:
        """The grammar in llguidance's language; where only one text can follow, every way to spell it is left."""
        try:
            if self.kind == "json":
                rule = "%json " + json.dumps(_compact(parse(self.grammar)))
            else:  # its own rule for the slash that would end it
                written: str = _llguidance().LLMatcher.grammar_from_regex(self.grammar)
                rule = json.loads(written)["grammars"][0]["lark_grammar"].removeprefix("start: ")
        except ValueError as error:
            if isinstance(error, ParameterError):
                raise
            raise ParameterError(f"this is no {KINDS[self.kind]}: {_line(str(error))}") from None
        return f'%llguidance {{"no_forcing": true}}\nstart: {rule}'


def _compact(schema: object) -> object:
    """A schema whose texts have no blank but one after a separator: a model that likes blanks would go on for ever."""
    if schema is True:  # allows everything
        schema = {}
    return COMPACT | schema if isinstance(schema, dict) else schema


def _llguidance() -> Any:
    """The package, which takes its time: whoever follows no constraint does not wait for it."""
    import llguidance

    return llguidance


def _check(matcher: "LLMatcher") -> None:
    """ParameterError for a grammar that takes more work, or more room, than it may."""
    if matcher.is_error():
        error = matcher.get_error()
        reason = "no text satisfies it" if error.startswith("NoExtension") else _line(error)
        raise ParameterError(f"the constraint cannot be followed: {reason}")


def _line(error: str) -> str:
    """One line of what is wrong with a grammar: the reason alone, without where that stands in what is made of it."""
    lines = error.strip().splitlines() or ["it says nothing"]
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    found = reasons[0] if reasons else re.sub(r"^at \d+\(\d+\): ", "", lines[0])
    if reasons and len(lines) > 2 and not lines[2].strip(" ^"):  # the sign below the pattern, which is indented by 4
        found += f", at character {lines[2].index('^') - 3}"
    return found[:200]


def _ends(vocabulary: Vocabulary, known: np.ndarray) -> tuple[int, ...]:
    return tuple(token for token in vocabulary.eos if token < len(known))


class _Pieces:
    """A vocabulary as llguidance asks for it: bytes by id, control tokens apart."""

    bos_token_id = None

    def __init__(self, pieces: list[bytes], special: Collection[int], end: int) -> None:
        self.tokens = pieces
        self.special_token_ids = sorted(special)
        self.eos_token_id = end

    def __call__(self, text: bytes | str) -> list[int]:
        raise NotImplementedError("nothing is spelled, only checked")


# what was compiled last, by vocabulary, kind and grammar; nobody changes the state
_compiled: list[tuple[Vocabulary, str, str, AllowedTokens]] = []
_tokenizers: list[tuple[Vocabulary, "LLTokenizer", np.ndarray]] = []  # of the last vocabularies: each takes a second


def _tokenizer(vocabulary: Vocabulary) -> "tuple[LLTokenizer, np.ndarray]":
    """llguidance's tokenizer, and which ids the vocabulary knows, bool [n]."""
    for of, tokenizer, known in _tokenizers:
        if of is vocabulary:
            return tokenizer, known
    pieces_known = getattr(vocabulary, "pieces", None)
    size: int = getattr(vocabulary, "vocab_size", 0) or max([*(pieces_known or ()), *vocabulary.eos]) + 1
    pieces = [vocabulary.piece(token) for token in range(size)]
    is_special = getattr(vocabulary, "is_special", lambda token: False)
    special = {token for token in range(size) if is_special(token)} | {t for t in vocabulary.eos if t < size}
    known = np.array([bool(piece) or token in special for token, piece in enumerate(pieces)])
    end = min(special, default=0) if not vocabulary.eos else min(vocabulary.eos)
    guidance = _llguidance()
    wrapped = guidance.TokenizerWrapper(_Pieces(pieces, special, end))
    tokenizer = guidance.LLTokenizer(wrapped)
    del _tokenizers[:-3]
    _tokenizers.append((vocabulary, tokenizer, known))
    return tokenizer, known
