"""A run under way, as its events tell it: what it has drawn, which branch is on the screen, and its state.

The events of one job go into a conversation (`Conversation.record`): what forks is a sibling there, what is given up is
put away. Steps are handed over in batches, since every change of a
conversation is another conversation. No widgets; which job a run is, is known elsewhere.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Failed
from likely.engine.chat.conversation import Conversation, Node
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Forked, Prefilled, Pruned, Rated, Reloaded, Stats
from likely.engine.decode.loop.texts import search_answers
from likely.engine.sampling.trace.step import TokenStep

PRUNED, CANCELLED, FAILED, ENDED = "pruned", "cancelled", "failed", "eot"  # how a node can finish


class LiveRun:
    """A run that began with one node."""

    GROWS = True  # tokens come at the end of what is on the screen

    def __init__(self, node: str, control: RunControl, new_id: Callable[[], str], *, stepping: bool = False) -> None:
        """`node` is in the conversation, and is drawn by branch 0. In step mode the forced tokens
        are a person's; the first that comes then is only looked at (`peek`), and ends the run."""
        self.control, self.stepping = control, stepping
        self.first = self.node = node  # where the run began; the one that ends the lineage on the screen
        self.nodes = {0: node}  # of the branches that go on
        self.steps: list[TokenStep] = []  # drawn on the screen, since the run began or the lineage turned
        self.turned = False  # whether the last events have made another lineage of what is on the screen
        self.branched = False  # whether there was ever more than one branch
        self.rated = False  # whether it is a search that says how good its branches are
        self.answers: list[str] = []  # nodes in which branches came to their ends
        self.ended = False
        self.ids: tuple[int, ...] | None = None  # that the first token follows
        self.read: tuple[int, int] | None = None  # tokens of the prompt, of so many, while they are read
        self.peek: TokenStep | None = None
        self.stats: Stats | None = None
        self.cache_nbytes = 0
        self.news = ""  # of the last events, in a line
        self.failure: Failed | None = None
        self._new_id = new_id
        self._unkept: dict[int, list[TokenStep]] = {}  # steps by branch that the conversation does not have yet
        self._ratings: dict[int, Mapping[str, float]] = {}  # by branch, likewise

    def take(self, talk: Conversation, events: Iterable[Any]) -> tuple[Conversation, list[TokenStep]]:
        """Take in events of the run's job; gives the conversation, and the steps that what is on the screen got at its
        end. Where that has turned, there are none, and all of it is to be shown anew."""
        fresh: list[TokenStep] = []
        self.turned, self.news = False, ""
        for event in events:
            if self.stepping and isinstance(event, Done):
                if self.ended:
                    break
                event = replace(event, branch=0)
            if isinstance(event, Done) and event.branch in self.control.given_up:
                self.stats, event = event.stats, Pruned(event.branch)  # dropped by a person
            match event:
                case Emitted(branch) | Forked(branch) | Pruned(branch) if self._passed(event, branch):
                    continue
                case Emitted(branch, step):
                    if branch not in self.nodes:
                        talk = self._beside(talk, branch)
                    if self.stepping and step.origin != "forced":
                        self.peek = self.peek or step
                        self.control.cancel()
                        continue
                    self._unkept.setdefault(branch, []).append(step)
                    if self.nodes[branch] == self.node:
                        fresh.append(step)
                        self.steps.append(step)
                case Rated(branch, figures):
                    self.rated, self._ratings[branch] = True, figures
                case Forked() | Pruned() | Done():
                    talk = self._record(self.keep(talk), event)
                case r.Began(ids):
                    self.ids = ids
                    for node in self.nodes.values():
                        talk = talk.began(node, ids)
                case r.Cached(nbytes):
                    self.cache_nbytes = nbytes
                case Reloaded(line):
                    self.news = line
                case Prefilled(done, total):
                    self.read = (done, total) if done < total else None
                case Failed():
                    self.failure, self.ended = event, True
        if self.rated:  # a search's tree is looked at as it grows
            talk = self.keep(talk)
        return talk, [] if self.turned else fresh

    def _passed(self, event: Emitted | Forked | Pruned, branch: int) -> bool:
        """Whether an event is ignored: in step mode a person picks the tokens of one branch."""
        return self.stepping and (branch != 0 or not isinstance(event, Emitted))

    def _beside(self, talk: Conversation, branch: int) -> Conversation:
        """With a node for a branch that is there from the beginning: a sibling of the first, by a seed of its own."""
        self.nodes[branch], self.branched = self._new_id(), True
        first = talk.nodes[self.first]
        twin = replace(first, id=self.nodes[branch], seed=first.seed + branch, steps=(), finish="")
        return replace(talk.add(twin), chosen=talk.chosen)

    def _record(self, talk: Conversation, event: Forked | Pruned | Done) -> Conversation:
        """With what is more than a token at the end of a branch; looks whether that is on the screen."""
        ended: str | None = None
        if not (isinstance(event, Done) and self.peek is not None):  # in step mode the answer stays open
            if isinstance(event, Done) and event.branch not in self.nodes:
                talk = self._beside(talk, event.branch)
            ended = self.nodes.get(event.branch) if isinstance(event, Done) else None
            talk = talk.record(event, self.nodes, self._new_id)
        if isinstance(event, Done):
            self.stats = event.stats
            self.nodes.pop(event.branch, None)
            if ended is not None:
                self.answers.append(ended)
        if not self.nodes:
            talk = self._best(talk)
        self.branched = self.branched or not isinstance(event, Done)
        self.ended = not self.nodes
        leaf = talk.leaf
        if leaf is not None and leaf.id != self.node:
            self.node, self.turned, self.steps = leaf.id, True, list(leaf.steps)
        return talk

    def _best(self, talk: Conversation) -> Conversation:
        """With the text of a search checked out that it says is the best, ended or stopped; not where something else is
        on the screen by now."""
        if not (self.branched and self.rated):
            return talk
        leaf, first = talk.leaf, talk.nodes[self.first]
        ends = [id for id in self.answers if not talk.hidden(id, len(talk.nodes[id]))]
        if not ends or leaf is None or (leaf.label, leaf.seed) != (first.label, first.seed):
            return talk
        (best,) = search_answers((talk.nodes[id] for id in ends), 1)
        return talk.reveal(best.id, len(best))

    def keep(self, talk: Conversation) -> Conversation:
        """The conversation with every step that was drawn."""
        unkept, self._unkept = self._unkept, {}
        ratings, self._ratings = self._ratings, {}
        for branch, figures in ratings.items():
            talk = talk.rate(self.nodes[branch], figures) if branch in self.nodes else talk
        for branch, steps in unkept.items():
            talk = talk.extend(self.nodes[branch], tuple(steps))
        return talk

    def drop(self, node: str) -> bool:
        """Give up the branch that draws a node, as a person wishes, at its next token; False where none does."""
        branches = [branch for branch, drawn in self.nodes.items() if drawn == node]
        self.control.given_up.update(branches)
        return bool(branches)

    def lose(self, talk: Conversation) -> None:
        """Forget steps that a conversation does not have: the events that told of them could not be applied."""
        growing = (node.id for node in talk.nodes.values() if node.drawn and not node.finish)
        self.nodes, self._unkept = dict(enumerate(growing)), {}

    def follow(self, talk: Conversation) -> None:
        """Another branch is on the screen, by a person's wish, be it one that has ended: what comes of others is not
        shown then. Every step that was drawn is kept."""
        leaf = talk.leaf
        if leaf is not None:
            self.node, self.steps = leaf.id, list(leaf.steps)

    def close(self, talk: Conversation, finish: str) -> Conversation:
        """The conversation at the run's end; `finish` is the finish of branches that have none yet."""
        talk = self.keep(talk)
        for node in self.nodes.values():
            talk = talk.extend(node, (), ENDED if waits(talk.nodes[node]) else finish) if finish else talk
            self.answers.append(node)
        self.nodes, self.ended = {}, True
        return self._best(talk)


def waits(node: Node) -> bool:
    """Whether a node is a text of a search that has ended, its last token not told yet."""
    return bool(node.figures.get("ended")) and not node.finish
