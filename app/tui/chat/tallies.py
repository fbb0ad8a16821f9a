"""The votes of answers that were drawn together: which are one vote, what each says, and how many say the same.

Plain data, from a conversation; how it looks is the panel's.
"""

from dataclasses import dataclass

from engine.conversation import Conversation, Fork, Node
from engine.decode.several import Vote
from engine.decode.strategies import parse
from engine.errors import ParameterError
from engine.evaluate.extraction import Extraction
from engine.reason import vote


@dataclass(frozen=True, slots=True)
class Share:
    """An answer, how many paths give it, and the 95 % interval of its share."""

    answer: str
    count: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class VoteCount:
    """A vote as far as it has come: `said` is each ended path's answer, None for none."""

    paths: int  # in all
    shares: tuple[Share, ...]  # the most frequent first
    said: dict[str, str | None]  # by node

    @property
    def unanswered(self) -> int:
        return sum(answer is None for answer in self.said.values())


def taken(label: str) -> Vote | None:
    """The vote that a node's label names."""
    try:
        strategy = parse(label.partition(" · ")[0])
    except ParameterError:
        return None
    return strategy if isinstance(strategy, Vote) else None


def tally(talk: Conversation) -> VoteCount | None:
    """The vote that the last message of the lineage is a path of; None where it is none."""
    leaf = talk.leaf
    how = taken(leaf.label) if leaf is not None and leaf.label else None
    if leaf is None or how is None:
        return None
    extract = Extraction(how.rule)
    together = paths(talk, leaf)
    ended = [node for node in together if node.finish and node.finish != "cancelled"]
    said = {node.id: extract("".join(step.text for step in node.steps if not step.special)) for node in ended}
    votes = vote.tally(list(said.values()))
    shares = (Share(answer, int(n), *vote.interval(n, len(said))) for answer, n in votes.items())
    return VoteCount(how.paths, tuple(shares), said)


def paths(talk: Conversation, leaf: Node) -> list[Node]:
    """The nodes that were drawn together with one."""
    fork = Fork(leaf.fork.node, leaf.fork.at)
    there = (talk.nodes[id] for id in talk.children.get(fork, ()))
    return [node for node in there if (node.label, node.seed) == (leaf.label, leaf.seed)]


def winning(talk: Conversation, seed: int) -> str | None:
    """The node of a path that says what most paths say, the likeliest of those by token; None where none says it."""
    found = tally(talk)
    if found is None:
        return None
    answer = vote.winner(vote.tally(list(found.said.values())), seed)
    saying = [talk.nodes[id] for id, said in found.said.items() if said == answer and said is not None]
    return max(saying, key=_mean).id if saying else None


def _mean(node: Node) -> float:
    return sum(step.logprob or 0.0 for step in node.steps) / max(len(node.steps), 1)
