"""The votes of answers that were drawn together: which are one vote, what each says, and how many say the same.

Plain data, from a conversation; how it looks is the panel's.
"""

from dataclasses import dataclass
from functools import lru_cache

from likely.app.tui.chat.live_run import PRUNED
from likely.engine.base.errors import ParameterError
from likely.engine.chat.conversation import ROOT, Conversation, Fork, Node
from likely.engine.decode.answers import vote
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.sampled.entropy_branching import EntropyBranching
from likely.engine.decode.sampled.several import Vote
from likely.engine.decode.strategy_table import parse
from likely.engine.measure.reason.paths import answer_in
from likely.engine.measure.reason.scorers import mean_logprob
from likely.engine.sampling.trace.step import TokenStep


@dataclass(frozen=True, slots=True)
class Share:
    """An answer, how many paths give it, and the 95 % interval of its share."""

    answer: str
    count: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class VoteCount:
    """A vote as far as it has come: `answers` is each ended path's answer, None for none."""

    paths: int  # in all, as far as they have begun
    sampled: bool  # each by itself: without that a share has no interval
    shares: tuple[Share, ...]  # the most frequent first
    answers: dict[str, str | None]  # by node

    @property
    def unanswered(self) -> int:
        return sum(answer is None for answer in self.answers.values())


def strategy_of(label: str) -> Strategy | None:
    """The strategy that a node's label names."""
    try:
        return parse(label.partition(" · ")[0])
    except ParameterError:
        return None


def tally(talk: Conversation) -> VoteCount | None:
    """The vote that the last message of the lineage is a path of; None where it is none."""
    leaf = talk.leaf
    how = strategy_of(leaf.label) if leaf is not None and leaf.label else None
    if leaf is None or not isinstance(how, Vote):
        return None
    together = paths(talk, leaf)
    ended = [node for node in together if node.finish and node.finish != "cancelled"]
    answers = {
        node.id: _answer(how.rule, "".join(step.text for step in steps(talk, node) if not step.special))
        for node in ended
    }
    votes = vote.tally(list(answers.values()))
    shares = (Share(answer, int(n), *vote.interval(n, len(answers))) for answer, n in votes.items())
    return VoteCount(len(together), not isinstance(how, EntropyBranching), tuple(shares), answers)


@lru_cache(maxsize=1024)
def _answer(rule: str, text: str) -> str | None:
    """The answer in a text, which is asked for each time that the panel is drawn."""
    return answer_in(text, Extraction(rule))[0]


def paths(talk: Conversation, leaf: Node) -> list[Node]:
    """The nodes that were drawn together with one, those that were given up or put away left out."""
    first = chain(talk, leaf)[0]
    alike = (node for node in talk.nodes.values() if (node.label, node.seed) == (leaf.label, leaf.seed))
    together = (node for node in alike if node.finish != PRUNED and not talk.hidden(node.id, len(node)))
    return [node for node in together if chain(talk, node)[0].fork == first.fork]


def chain(talk: Conversation, node: Node) -> list[Node]:
    """A node behind its ancestors within the run that drew it, the first of them first."""
    nodes = [node]
    while node.joins and (before := talk.nodes.get(node.fork.node)) is not None:
        if (before.label, before.seed) != (node.label, node.seed):
            break
        nodes.append(node := before)
    return nodes[::-1]


class AnswerSums:
    """Log-probabilities of a conversation's answers up to a place, in nats, and how many of their tokens were drawn."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        self._before: dict[str, tuple[float, int]] = {ROOT: (0.0, 0)}

    def before(self, id: str) -> tuple[float, int]:
        """Up to where a node begins."""
        missing, node = list[str](), id
        while node not in self._before:  # each step of a search may part from the last one
            missing.append(node)
            ancestor = self.talk.nodes[node]
            node = ancestor.fork.node if ancestor.joins else ROOT
        for id_ in reversed(missing):
            ancestor = self.talk.nodes[id_]
            self._before[id_] = self.of(ancestor.fork) if ancestor.joins and ancestor.fork.node != ROOT else (0.0, 0)
        return self._before[id]

    def of(self, end: Fork) -> tuple[float, int]:
        total, count = self.before(end.node)
        steps = self.talk.nodes[end.node].steps[: end.at]
        return total + sum(step.logprob or 0.0 for step in steps), count + len(steps)


def steps(talk: Conversation, node: Node) -> list[TokenStep]:
    """A whole path, from where its run began."""
    line = chain(talk, node)
    drawn: list[TokenStep] = []
    for one, after in zip(line, [*line[1:], None], strict=True):
        drawn += one.steps if after is None else one.steps[: after.fork.at]
    return drawn


def winning(talk: Conversation, seed: int) -> str | None:
    """The node of a path that says what most paths say, the likeliest of those by token; None where none says it."""
    count = tally(talk)
    if count is None:
        return None
    answer = vote.winner(vote.tally(list(count.answers.values())), seed)
    saying = [id for id, given_answer in count.answers.items() if given_answer == answer and given_answer is not None]
    return max(saying, key=lambda id: mean_logprob(steps(talk, talk.nodes[id])), default=None)
