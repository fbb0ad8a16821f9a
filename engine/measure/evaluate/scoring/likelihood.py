"""Log-probabilities of given texts, many at once: what they begin with alike is read once, the rest side by side.

A request is one or more texts over one beginning: the choices of a question, the two sentences of a pair, one window of
a document. Requests are read by hundreds: what all of them share (a few-shot prompt) stands in a frozen prefix, what
the texts of one request share is one row, and only where they part does each have its own. Logits are held for a few
positions at a time, so memory depends neither on how many requests there are nor on the vocabulary. Knows nothing of
tasks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from likely.engine.base.arrays import chosen, logsumexp
from likely.engine.base.errors import ContextOverflow, NotFinite, ParameterError
from likely.engine.base.numerics import damaged
from likely.engine.decode.loop.branches import Branches
from likely.metal import mx
from likely.models.model import LanguageModel

WINDOW = 256  # requests that are looked at together
TOKENS = 1024  # read at once, padding included
ROWS = 64  # texts side by side
HEADS = 64  # positions whose logits [V] are held at once
SHARED = 24  # tokens worth a prefix of their own


@dataclass(frozen=True, slots=True)
class Request:
    """Texts as ids, and from which token on each is scored: 1 or more, since the first has no distribution."""

    texts: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of the longest."""
        return max(len(text) for text in self.texts)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Log-probabilities of a text's scored tokens, in nats, and whether each was the most likely there."""

    tokens: np.ndarray  # float64 [n]
    greedy: bool

    @property
    def total(self) -> float:
        return float(self.tokens.sum())


class Reader:
    """A model that scores requests; what it read for all of some it keeps for those that come next.

    `rows`: texts side by side, at most. `root` has read something before, and is moved.
    """

    def __init__(
        self, model: LanguageModel, *, rows: int = ROWS, name: str = "the model", root: Branches | None = None
    ) -> None:
        self.model, self.rows, self.name = model, rows, name
        self._root = Branches(model, model.make_cache()) if root is None else root

    def read(self, requests: Iterable[Request]) -> Iterator[tuple[int, tuple[Likelihood, ...]]]:
        """The number of a request and its texts' likelihoods, as they come: in any order within `WINDOW` of them.

        ContextOverflow for a text that is longer than the model's context, ParameterError for one that is to be scored
        from its first token on, NotFinite where the model gives no numbers.
        """
        waiting, first = iter(requests), 0
        while window := list(islice(waiting, WINDOW)):
            for request in window:
                _check(request, int(self.model.config.context))
            shared = _shared(window)
            self._stand(shared)
            for group in _groups(window, len(shared), self.rows):
                batch = [window[i] for i in group]
                try:
                    results = _read(self._root, batch, self.rows)
                except NotFinite:
                    texts = (text[:-1] for request in batch for text in request.texts)
                    raise damaged(self.name, self.model, *texts) from None
                yield from ((first + index, likelihoods) for index, likelihoods in zip(group, results, strict=True))
            first += len(window)

    def _stand(self, ids: list[int]) -> None:
        """Have the root at these ids."""
        keep = _common([self._root.ids[0], ids])
        if not self._root.reaches(keep):
            self._root, keep = Branches(self.model, self.model.make_cache()), 0
        self._root.rewind(keep)
        for _ in self._root.read(ids[keep:]):
            pass


def loglikelihoods(
    model: LanguageModel, requests: Iterable[Request], *, rows: int = ROWS
) -> Iterator[tuple[Likelihood, ...]]:
    """For each request, in order, its texts' likelihoods (`Reader.read`)."""
    early: dict[int, tuple[Likelihood, ...]] = {}
    due = 0
    for index, scores in Reader(model, rows=rows).read(requests):
        early[index] = scores
        while due in early:
            yield early.pop(due)
            due += 1


def _check(request: Request, context: int) -> None:
    if request.length - 1 > context:  # the last is only scored
        raise ContextOverflow(f"a text has {request.length} tokens and this model reads at most {context}: shorten it")
    if min(request.starts) < 1:
        raise ParameterError("a text's first token has no distribution: score from its second on")


def _common(texts: Sequence[list[int]]) -> int:
    """Tokens with which all begin."""
    first, last = min(texts), max(texts)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _shared(window: Sequence[Request]) -> list[int]:
    """The beginning that all texts share and none is scored for, where it is worth reading by itself; else nothing."""
    texts = [list(text) for request in window for text in request.texts]
    length = min(_common(texts), min(start for request in window for start in request.starts) - 1)
    return texts[0][:length] if length >= SHARED and len(texts) > 1 else []


def _stem(request: Request) -> int:
    """Tokens that all texts of a request have in common and that are to be read: the last of a text never is."""
    return min(_common([list(text) for text in request.texts]), min(len(text) for text in request.texts) - 1)


def _groups(window: Sequence[Request], shared: int, rows: int) -> Iterator[list[int]]:
    """Requests that are read together, by their numbers: their stems are about as long, the longest window last."""
    sizes = [_stem(request) - shared for request in window]
    order = sorted(range(len(window)), key=lambda i: (sizes[i], window[i].length))
    group: list[int] = []
    texts, longest, again = 0, 0, 0
    for i in order:
        many, length = len(window[i].texts), window[i].length - shared
        least = sizes[group[0]] if group else sizes[i]
        again_then = again + (sizes[i] - least) * (many - 1)  # what is read once for each text instead of once
        wide = texts + many > rows or (texts + many) * (max(longest, length) - least) > TOKENS
        if group and (wide or (len(group) + 1) * least > TOKENS or again_then > TOKENS // 8):
            yield group
            group, texts, longest, again_then, least = [], 0, 0, 0, sizes[i]
        group.append(i)
        texts, longest, again = texts + many, max(longest, length), again_then
    if group:
        yield group


class Gather:
    """Positions whose next token is scored, over hidden states of several readings; logits of a few at a time."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.logprobs: list[np.ndarray] = []
        self.best: list[np.ndarray] = []
        self.count = 0

    def score(self, hidden: mx.array, places: list[int], tokens: list[int]) -> range:
        """Score tokens after places of hidden [N, C]: the numbers of the scores."""
        first = self.count
        for low in range(0, len(places), HEADS):
            at = mx.array(places[low : low + HEADS], dtype=mx.int32)
            targets = mx.array(tokens[low : low + HEADS], dtype=mx.int32)
            logits = self.model.head(hidden[at]).astype(mx.float32)
            value = chosen(logits, targets, mx)
            mass = logsumexp(logits, mx, exact=True)
            best = value >= mx.max(logits, axis=-1)
            mx.eval(value, mass, best)
            masses = np.asarray(mass, np.float64)
            if not np.isfinite(masses).all():
                raise NotFinite("the model's logits are not finite")
            self.logprobs.append(np.asarray(value, np.float64) - masses)
            self.best.append(np.asarray(best))
        self.count += len(places)
        return range(first, self.count)


def _read(root: Branches, requests: Sequence[Request], rows: int) -> list[tuple[Likelihood, ...]]:
    """The likelihoods of requests that stand after `root`: their stems, as far as the shortest reaches, then the rest.

    A text may end where a stem does: it has no row of its own then.
    """
    gather = Gather(root.model)
    start = root.length
    width = min(_stem(request) for request in requests) - start
    scored: list[list[tuple[list[int], list[int]]]] = []  # of each text: scores from the stem, and from its own row
    branches = root.fork()
    if width > 0:
        branches.select([0] * len(requests))
        branches.feed([list(request.texts[0][start : start + width]) for request in requests])
        hidden = branches.hidden(start, start + width)
        hidden = hidden.reshape(-1, hidden.shape[-1])
    places: list[int] = []
    tokens: list[int] = []
    known: dict[tuple[int, int], int] = {}
    for i, request in enumerate(requests):
        scored.append([])
        for text, begin in zip(request.texts, request.starts, strict=True):
            from_stem = []
            for t in range(begin, min(len(text), start + width + 1)):
                at = i * width + t - 1 - start
                key = at, text[t]
                if key not in known:
                    known[key] = len(places)
                    places.append(at)
                    tokens.append(text[t])
                from_stem.append(known[key])
            scored[-1].append((from_stem, []))
    if places:
        gather.score(hidden, places, tokens)
    depth = start + width
    own = [
        (i, j) for i, request in enumerate(requests) for j, text in enumerate(request.texts) if len(text) - 1 > depth
    ]
    for low in range(0, len(own), rows):
        _leaves(branches, requests, own[low : low + rows], depth, width > 0, gather, scored)
    logprobs = np.concatenate(gather.logprobs) if gather.logprobs else np.zeros(0)
    best = np.concatenate(gather.best) if gather.best else np.zeros(0, bool)
    by_request = []
    for texts in scored:
        numbers = [[*stem, *leaf] for stem, leaf in texts]
        by_request.append(
            tuple(Likelihood(logprobs[at], bool(best[at].all())) for at in (np.array(n, int) for n in numbers))
        )
    return by_request


def _leaves(
    branches: Branches,
    requests: Sequence[Request],
    own: Sequence[tuple[int, int]],
    depth: int,
    parted: bool,
    gather: Gather,
    scored: Sequence[Sequence[tuple[list[int], list[int]]]],
) -> None:
    """Read what texts have to themselves after `depth`, padded on the right, where it is seen by nothing scored."""
    texts = [requests[i].texts[j] for i, j in own]
    parts = [list(text[depth:-1]) for text in texts]
    longest = max(map(len, parts))
    leaves = branches.fork()
    leaves.select([i if parted else 0 for i, _ in own])
    leaves.feed([[*part, *[part[-1]] * (longest - len(part))] for part in parts])
    hidden = leaves.hidden(depth, depth + longest)
    places: list[int] = []
    tokens: list[int] = []
    ends = []
    for row, ((i, j), text) in enumerate(zip(own, texts, strict=True)):
        first = max(requests[i].starts[j], depth + 1)
        places += [row * longest + t - 1 - depth for t in range(first, len(text))]
        tokens += text[first:]
        ends.append(len(places))
    numbers = gather.score(hidden.reshape(-1, hidden.shape[-1]), places, tokens)
    for (i, j), low, high in zip(own, [0, *ends], ends, strict=False):
        scored[i][j][1].extend(numbers[low:high])


def windows(ids: Sequence[int], length: int, prefix: int | None, stride: int = 0) -> Iterator[Request]:
    """A document as lm-evaluation-harness reads it: each token is predicted once, from up to `length` before it.

    The first window is the prefix token and the first length - 1 tokens, and predicts `length`; the later ones predict
    the next `stride` each, from as far back as their length allows: rolling windows where that is `length` (0), else
    sliding ones, in which every token but the first has length - stride or more before it. Without a prefix token the
    first token is not scored.
    """
    if length < 2:
        raise ParameterError(f"a window must be 2 tokens or more, got {length}")
    if not 0 <= stride <= length:
        raise ParameterError(f"a window of {length} tokens moves on by 1 to {length} of them, got {stride}")
    ids = list(ids)
    if prefix is not None:
        yield Request(((prefix, *ids[:length]),), (1,))
        done = min(length, len(ids))
    else:
        if len(ids) > 1:
            yield Request((tuple(ids[: length + 1]),), (1,))
        done = min(length + 1, len(ids))
    while done < len(ids):
        end = min(done + (stride or length), len(ids))
        low = max(0, end - length - 1)
        yield Request((tuple(ids[low:end]),), (done - low,))
        done = end
