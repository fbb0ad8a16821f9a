"""The immutable tree of what was said and drawn. A node is one segment; a text is the segments from the root to a leaf.

A child says where in its parent it leaves (`at`), so branching inside an answer copies nothing and changes nothing: the
old continuation stays where it was. What is checked out is remembered at every fork, as in a version control system:
coming back to a branch brings back everything below it. Every change gives a new `Conversation`; nothing is removed,
and a way that is put away can be brought back.

Plain data. Knows nothing of models, ids of chat templates, files or the screen.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType

from likely.engine.chat.tools.tool_prompt import ToolChoice
from likely.engine.decode.loop.events import Done, Emitted, Event, Forked, Pruned, Rated
from likely.engine.inside.why import Reason
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep

ROOT = ""
ROLES = ("user", "assistant", "text", "tool")  # tool: what calls came to


@dataclass(frozen=True, slots=True)
class Fork:
    """A place where the tree can part: after `at` units of `node` (None: after all of it).

    The unit is a token in a drawn segment and a character in a written one.
    """

    node: str = ROOT
    at: int | None = None


Way = tuple[Fork, str | None]  # out of a fork: a child, or (None) the segment's own continuation


@dataclass(frozen=True, slots=True)
class Node:
    """One segment: written by a person (`text`) or drawn from the model (`steps`).

    `joins` goes on with its parent's message instead of opening another. `finish` is empty while it is being drawn.
    """

    id: str
    fork: Fork
    role: str
    text: str = ""
    steps: tuple[TokenStep, ...] = ()
    joins: bool = False
    seed: int = 0
    finish: str = ""
    label: str = ""  # how it was drawn, in words, where the recipe does not say it (a column of a comparison)
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))  # a search's rating of it
    model: str = ""  # that drew or measured its tokens; "" of words, and where that is not known
    prompt: tuple[int, ...] = ()  # of the first node of a message: the ids that its run read before it, where known
    denoising: tuple[Trace, ...] = ()  # the runs that filled it by diffusion, one more for each change by a person
    choice: ToolChoice | None = None  # that it made where tools were offered

    @property
    def drawn(self) -> bool:
        return bool(self.steps) or not self.text

    def __len__(self) -> int:
        return len(self.steps) if self.drawn else len(self.text)


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a node that lies on a lineage: its first `length` units."""

    node: Node
    length: int

    @property
    def steps(self) -> tuple[TokenStep, ...]:
        steps = self.node.steps
        return steps if self.length == len(steps) else steps[: self.length]

    @property
    def text(self) -> str:
        """The text for a reader: control tokens left out."""
        if not self.node.drawn:
            return self.node.text[: self.length]
        return "".join(step.text for step in self.steps if not step.special)


@dataclass(frozen=True, slots=True)
class Message:
    """Segments that belong together: what one side said."""

    role: str
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)

    @property
    def steps(self) -> tuple[TokenStep, ...]:
        return tuple(step for segment in self.segments for step in segment.steps)

    @property
    def last(self) -> Node:
        return self.segments[-1].node


@dataclass(frozen=True)
class Conversation:
    """All that was said, the branch that is checked out, and how the next token is to be drawn."""

    id: str
    title: str = ""
    kind: str = "chat"  # chat | text
    model: str = ""
    system: str = ""
    recipe: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0
    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))
    chosen: Mapping[Fork, str | None] = field(default_factory=lambda: MappingProxyType({}))
    created: float = 0.0  # seconds since the epoch
    updated: float = 0.0
    order: tuple[str, ...] = ()  # of all transforms by name, those that are off too; () where the recipe says enough
    asked: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # besides, as it is typed
    marks: Mapping[tuple[str, int], str] = field(default_factory=lambda: MappingProxyType({}))  # (node, unit) -> words
    pruned: frozenset[Way] = frozenset()  # ways that are put away, with all that lies behind them
    reasons: Mapping[tuple[str, int], tuple[Reason, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def children(self) -> Mapping[Fork, tuple[str, ...]]:
        """The nodes that leave at each fork, oldest first."""
        children: dict[Fork, tuple[str, ...]] = {}
        for node in self.nodes.values():
            children[node.fork] = (*children.get(node.fork, ()), node.id)
        return MappingProxyType(children)

    @cached_property
    def _cuts(self) -> Mapping[str, tuple[int, ...]]:
        """Where children leave inside each node, ascending."""
        by_node: dict[str, list[int]] = {}
        for fork in self.children:
            if fork.at is not None:
                by_node.setdefault(fork.node, []).append(fork.at)
        return {node: tuple(sorted(cuts)) for node, cuts in by_node.items()}

    def options(self, fork: Fork) -> tuple[str | None, ...]:
        """Ways that can be checked out at a fork: None is the node's own continuation, which comes first."""
        own: tuple[str | None, ...] = (None,) if fork.at is not None and fork.node in self.nodes else ()
        options = own + self.children.get(fork, ())
        return tuple(way for way in options if (fork, way) not in self.pruned) if self.pruned else options

    def option(self, fork: Fork) -> str | None:
        """The way checked out at a fork: as remembered, else the node's own continuation, else the newest child."""
        options = self.options(fork)
        if fork in self.chosen and self.chosen[fork] in options:
            return self.chosen[fork]
        return None if not options or options[0] is None else options[-1]

    def lineage(self) -> tuple[Segment, ...]:
        """The checked-out segments from the root to the leaf."""
        segments: list[Segment] = []
        child = self.option(Fork())
        while child is not None:
            node, child = self.nodes[child], None
            length = len(node)
            for at in self._cuts.get(node.id, ()):
                child = self.option(Fork(node.id, at))
                if child is not None:
                    length = at
                    break
            else:
                child = self.option(Fork(node.id))
            segments.append(Segment(node, length))
        return tuple(segments)

    def messages(self) -> tuple[Message, ...]:
        """The lineage, with segments that join brought together."""
        grouped: list[list[Segment]] = []
        for segment in self.lineage():
            if segment.node.joins and grouped:
                grouped[-1].append(segment)
            else:
                grouped.append([segment])
        return tuple(Message(group[0].node.role, tuple(group)) for group in grouped)

    @property
    def leaf(self) -> Node | None:
        """The last node of the lineage."""
        lineage = self.lineage()
        return lineage[-1].node if lineage else None

    def forks(self) -> tuple[Fork, ...]:
        """The places on the lineage with more than one option, from the root down."""
        forks = [Fork()] if len(self.options(Fork())) > 1 else []
        for segment in self.lineage():
            inside = (Fork(segment.node.id, at) for at in self._cuts.get(segment.node.id, ()) if at <= segment.length)
            forks += [fork for fork in (*inside, Fork(segment.node.id)) if len(self.options(fork)) > 1]
        return tuple(forks)

    def leaves(self) -> int:
        """How many ends the tree has: the entries of `walk` that nothing deeper follows."""
        depths = [depth for *_, depth in self.walk()]
        return sum(after <= depth for depth, after in pairwise([*depths, 0]))

    def walk(self) -> Iterator[tuple[Fork, str | None, int]]:
        """Every way out of every real fork, depth first: (fork, option, depth). Runs without forks are one entry."""
        stack: list[tuple[Fork, str | None, int]] = [(Fork(), child, 0) for child in reversed(self.options(Fork()))]
        while stack:
            fork, option, depth = stack.pop()
            yield fork, option, depth
            here = self.next_fork(fork, option)
            stack.extend((here, way, depth + 1) for way in reversed(self.options(here)))

    def next_fork(self, fork: Fork, option: str | None) -> Fork:
        """Where a way out of a fork parts again, or ends."""
        node = option if option is not None else fork.node
        start = 0 if option is not None else (fork.at or 0) + 1
        while True:
            ahead = (Fork(node, at) for at in self._cuts.get(node, ()) if at >= start)
            here = next((cut for cut in ahead if self.options(cut) != (None,)), Fork(node))
            ways = self.options(here)
            if len(ways) != 1 or ways[0] is None:
                return here
            node, start = ways[0], 0

    # -- changes: each gives another conversation --------------------------------------------------------------------

    def add(self, node: Node) -> "Conversation":
        """With a node, checked out. Raises ValueError where it cannot hang."""
        if node.id in self.nodes or node.id == ROOT:
            raise ValueError(f"node ids must be new, got {node.id!r} again")
        if node.role not in ROLES:
            raise ValueError(f"a node's role must be one of {', '.join(ROLES)}, got {node.role!r}")
        fork = node.fork
        if fork.at == 0 and fork.node in self.nodes:  # instead of all of a segment: beside it, and joined as it is
            node = replace(node, joins=self.nodes[fork.node].joins)
        node = replace(node, fork=self.canonical(fork))
        return self._with({**self.nodes, node.id: node}).check_out(node.id)

    def canonical(self, fork: Fork) -> Fork:
        """A fork in its one spelling: before a node is its own, after it None, unless a branch of its run parted there.

        Raises ValueError if there is none.
        """
        if fork.node == ROOT:
            return Fork()
        if fork.node not in self.nodes:
            raise ValueError(f"no node {fork.node!r} to leave from")
        length = len(self.nodes[fork.node])
        if fork.at is not None and not 0 <= fork.at <= length:
            raise ValueError(f"a node of {length} cannot be left at {fork.at}")
        if fork.at == 0:
            return self.nodes[fork.node].fork
        return fork if fork.at != length or fork in self.children else Fork(fork.node)

    def extend(
        self, node: str, steps: tuple[TokenStep, ...], finish: str = "", *, denoising: tuple[Trace, ...] = ()
    ) -> "Conversation":
        """With more tokens at the end of a node that is being drawn; `finish` closes it. `denoising`: the runs that
        have filled it, where that is how they came."""
        old = self.nodes[node]
        if old.finish:
            raise ValueError(f"node {node!r} is closed ({old.finish}): leave from it instead")
        return self._with(
            {**self.nodes, node: replace(old, steps=old.steps + steps, finish=finish, denoising=denoising)}
        )

    def began(self, node: str, ids: tuple[int, ...]) -> "Conversation":
        """With what a run that draws a node has read: kept with the message's first node, without its own tokens."""
        found = self.beginning(node)
        if found is None or found[0].prompt:
            return self
        first, own = found
        return self._with({**self.nodes, first.id: replace(first, prompt=ids[: len(ids) - own])})

    def beginning(self, node: str) -> tuple[Node, int] | None:
        """The node that a message begins with, and how many of its tokens stand before another one of it; None where
        some of them are a person's words: nobody knows which tokens they were."""
        first, own = self.nodes[node], 0
        while first.joins and first.fork.node != ROOT:
            at, first = first.fork.at, self.nodes[first.fork.node]
            if not first.drawn:
                return None
            own += len(first) if at is None else at
        return first, own

    def withdraw(self, node: str) -> "Conversation":
        """Without a node of which nothing was drawn. Raises ValueError where there is something."""
        if len(self.nodes[node]) or any(other.fork.node == node for other in self.nodes.values()):
            raise ValueError(f"node {node!r} has tokens, or others leave from it: it stays")
        chosen = {fork: way for fork, way in self.chosen.items() if way != node}
        return replace(
            self._with({id: other for id, other in self.nodes.items() if id != node}), chosen=MappingProxyType(chosen)
        )

    def cut(self, start: int, end: int, id: str) -> "Conversation":
        """The messages `start` to `end` of the branch that is checked out, as another conversation with these alone."""
        nodes: dict[str, Node] = {}
        fork = Fork()
        for segment in (segment for message in self.messages()[start:end] for segment in message.segments):
            old = segment.node
            nodes[old.id] = replace(old, fork=fork, steps=segment.steps, text=old.text[: segment.length])
            fork = Fork(old.id)
        marks = {
            (node, at): words for (node, at), words in self.marks.items() if node in nodes and at < len(nodes[node])
        }
        empty: Mapping[Fork, str | None] = MappingProxyType({})
        return replace(
            self, id=id, nodes=MappingProxyType(nodes), chosen=empty, marks=MappingProxyType(marks), pruned=frozenset()
        )

    def rate(self, node: str, figures: Mapping[str, float]) -> "Conversation":
        """With a search's rating of the text that ends in a node."""
        return self._with({**self.nodes, node: replace(self.nodes[node], figures=MappingProxyType(dict(figures)))})

    def chose(self, node: str, choice: ToolChoice) -> "Conversation":
        """With the choice of a tool, or none, that an answer made."""
        return self._with({**self.nodes, node: replace(self.nodes[node], choice=choice)})

    # -- a run of several branches: each grows a node of its own; `nodes` says which, by number -----------------------

    def record(self, event: Event, nodes: dict[int, str], new: Callable[[], str]) -> "Conversation":
        """With what an event of a run says; `nodes` follows it, and `new` names a node that it adds.

        Begin with a node for each branch of the run: siblings at one fork. What is checked out stays so, but for a
        branch that is given up.
        """
        match event:
            case Emitted(branch, step):
                return self.extend(nodes[branch], (step,))
            case Forked(parent, child):
                nodes[child] = new()
                return self.part(nodes[parent], nodes[child])
            case Pruned(branch):
                talk = self.give_up(nodes.pop(branch))
                leaf, living = talk.leaf, list(nodes.values())
                if not living or (leaf is not None and leaf.id in living):
                    return talk
                return talk.reveal(living[0], len(talk.nodes[living[0]]))
            case Rated(branch, figures):
                return self.rate(nodes[branch], figures)
            case Done(branch, reason, _, text):
                node = self.nodes[nodes.pop(branch)]
                if text and node.steps:  # the detokeniser's last words belong to the last token
                    steps = (*node.steps[:-1], replace(node.steps[-1], text=node.steps[-1].text + text))
                    return self._with({**self.nodes, node.id: replace(node, steps=steps, finish=reason)})
                return self.extend(node.id, (), reason)
        return self

    def part(self, parent: str, child: str) -> "Conversation":
        """With a node `child` for a branch that parts from one that is being drawn where that is now."""
        old = self.nodes[parent]
        if old.finish:
            raise ValueError(f"node {parent!r} is closed ({old.finish}): no branch can part from it")
        fork, joins = (Fork(parent, len(old)), True) if old.steps else (old.fork, old.joins)
        twin = replace(old, id=child, fork=fork, steps=(), joins=joins, prompt=() if joins else old.prompt)
        # a node that stands beside another would be checked out, being the newest, where nothing says what is
        current = {} if fork.at is not None or fork in self.chosen else {fork: self.option(fork)}
        return replace(self._with({**self.nodes, child: twin}), chosen=MappingProxyType({**self.chosen, **current}))

    def give_up(self, node: str) -> "Conversation":
        """With a branch put away from where the last one that parted from it did, or from its beginning."""
        talk = self._with({**self.nodes, node: replace(self.nodes[node], finish=self.nodes[node].finish or "pruned")})
        end = len(self.nodes[node])
        while node != ROOT:  # of a way that all others have left, all is put away
            cuts = [at for at in talk._cuts.get(node, ()) if at <= end]
            fork, way = (Fork(node, cuts[-1]), None) if cuts else (talk.nodes[node].fork, node)
            options = talk.options(fork)
            if way not in options:
                break
            if fork.at is None or len(options) > 1:
                return replace(talk, pruned=talk.pruned | {(fork, way)})
            node, end = fork.node, fork.at - 1
        return talk

    def choose(self, fork: Fork, option: str | None) -> "Conversation":
        """With `option` checked out at one fork, and the way that leads there."""
        fork = self.canonical(fork)
        if option not in self.options(fork):
            raise ValueError(f"{option!r} does not leave at {fork}")
        chosen = {**self.chosen, fork: option}
        node = fork.node
        # the way to the fork: no earlier child of the same node may be in front of it
        while node != ROOT:
            for at in self._cuts.get(node, ()):
                if fork.at is None or at < fork.at:
                    chosen[Fork(node, at)] = None
            fork = self.nodes[node].fork
            chosen[fork] = node
            node = fork.node
        return replace(self, chosen=MappingProxyType(chosen))

    def check_out(self, node: str) -> "Conversation":
        """With the branch of a node checked out; below it, what was checked out there before."""
        return self.choose(self.nodes[node].fork, node)

    def reveal(self, node: str, unit: int) -> "Conversation":
        """With the branch checked out on which a unit of a node lies. Raises ValueError where that is put away."""
        if self.hidden(node, unit):
            raise ValueError(f"unit {unit} of {node!r} is put away")
        own = {Fork(node, at): None for at in self._cuts.get(node, ()) if at <= unit}
        return replace(self, chosen=MappingProxyType({**self.check_out(node).chosen, **own}))

    def hidden(self, node: str, unit: int) -> bool:
        """Whether a unit of a node lies behind a way that is put away."""
        while self.pruned and node != ROOT:
            fork = self.nodes[node].fork
            passed = [(Fork(node, at), None) for at in self._cuts.get(node, ()) if at <= unit]
            if not self.pruned.isdisjoint([(fork, node), *passed]):
                return True
            node, unit = fork.node, len(self.nodes.get(fork.node, ())) if fork.at is None else fork.at - 1
        return False

    def prune(self, fork: Fork, option: str | None) -> "Conversation":
        """With one way out of a fork put away. Raises ValueError for the last one inside of a segment."""
        fork = self.canonical(fork)
        options = self.options(fork)
        if option not in options:
            raise ValueError(f"{option!r} does not leave at {fork}")
        if fork.at is not None and len(options) == 1:
            raise ValueError("the last way of a fork stays")
        return replace(self, pruned=self.pruned | {(fork, option)})

    def restore(self, fork: Fork, option: str | None) -> "Conversation":
        """With a way back that was put away."""
        return replace(self, pruned=self.pruned - {(fork, option)})

    def recall(self, fork: Fork, option: str | None) -> "Conversation":
        """With a way checked out that may be put away, itself or what leads to it."""
        back, node, at = {(fork, option)}, fork.node, fork.at
        while node != ROOT:
            back |= {(Fork(node, cut), None) for cut in self._cuts.get(node, ()) if at is None or cut < at}
            leaves = self.nodes[node].fork
            back.add((leaves, node))
            node, at = leaves.node, leaves.at
        return replace(self, pruned=self.pruned - back).choose(fork, option)

    def mark(self, node: str, unit: int, words: str | None) -> "Conversation":
        """With a bookmark at a unit of a node; None takes it away."""
        marks = {place: text for place, text in self.marks.items() if place != (node, unit)}
        return replace(self, marks=MappingProxyType(marks if words is None else {**marks, (node, unit): words}))

    def explain(self, node: str, unit: int, found: Reason) -> "Conversation":
        """With what is known of why a node's token was said, in the place of what was for the same two tokens."""
        pair = found.why.target, found.why.foil
        others = [e for e in self.reasons.get((node, unit), ()) if (e.why.target, e.why.foil) != pair]
        return replace(self, reasons=MappingProxyType({**self.reasons, (node, unit): (*others, found)}))

    def _with(self, nodes: Mapping[str, Node]) -> "Conversation":
        return replace(self, nodes=MappingProxyType(nodes))
