"""A conversation under way: what a person does to it, what the engine reports, and the blocks that show it.

No widgets: the chat screen and the columns of a comparison are views of a `ChatSession`. Requests leave through
`send`, which gives the id of the job; time, ids and seeds come from outside, so that a test can fix them.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from app import requests as r
from app.tui.chat.context import before, turns
from app.tui.sampling import Sampling
from app.tui.sampling import words as recipe_words
from app.tui.tokens.block import ShownToken
from app.tui.tokens.layout import TokenPlace
from app.tui.tokens.transcript import Transcript
from engine.conversation import ROOT, Conversation, Fork, Node
from engine.decode.control import RunControl
from engine.decode.events import Done, Stats
from engine.decode.strategies import PLAIN
from engine.decode.strategy import Strategy
from engine.prompt import Prompt
from engine.trace.trace import TokenStep

TITLE = "Name this conversation in at most five words. Answer with the name alone."


@dataclass
class ActiveRun:
    """A generation under way."""

    job: int
    node: str
    control: RunControl
    began_s: float
    steps: list[TokenStep] = field(default_factory=list)  # drawn, the oldest of them in the conversation already
    kept: int = 0  # how many of `steps` the conversation has
    read: tuple[int, int] = (0, 0)
    picks: int = -1  # step mode: how many tokens are a person's; the next one is only looked at


class ChatSession(Transcript):
    """One conversation, its sampling, and at most one run."""

    def __init__(
        self,
        conversation: Conversation,
        send: Callable[[r.ModelRequest], int],
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str] = lambda: secrets.token_hex(6),
        new_seed: Callable[[], int] = lambda: secrets.randbits(31),
    ) -> None:
        self.send, self.clock = send, clock
        self.new_id, self.new_seed = new_id, new_seed
        super().__init__(conversation)
        self.sampling = Sampling.of(conversation.recipe, conversation.order)
        self.facts: r.ModelFacts | None = None
        self.run: ActiveRun | None = None
        self.waiting: Callable[[], None] | None = None  # to do as soon as a model is there
        self.max_tokens: int | None = None
        self.adapters = ""  # on the model, in words
        self.strategy: Strategy = PLAIN  # how tokens are found
        self.scoring: dict[int, list[str]] = {}
        self.stepping = False
        self.peek: TokenStep | None = None  # in step mode: what could come next
        self.stats: Stats | None = None
        self.cache_nbytes = 0

    @property
    def running(self) -> bool:
        return self.run is not None

    # -- what a person does ------------------------------------------------------------------------------------------

    def submit(self, text: str) -> None:
        """Say something at the end of the branch, and have it answered."""
        leaf = self.conversation.leaf
        self._say(Fork(leaf.id) if leaf is not None else Fork(), text)

    def edit(self, index: int, text: str, force: str = "") -> None:
        """Say a message in other words: a sibling, answered anew. Of the model's: it goes on from the new words."""
        node = self.shown[index].message.segments[0].node
        if node.role == "user":
            self._say(node.fork, text)
        else:
            self.answer(node.fork, force=text)

    def _say(self, fork: Fork, text: str) -> None:
        node = Node(self.new_id(), fork, "user", text=text)
        self._change(self.conversation.add(node))
        self.answer(Fork(node.id))

    def regenerate(self) -> bool:
        """Another answer beside the last one."""
        message = next((s.message for s in reversed(self.shown) if s.message.role == "assistant"), None)
        leaf = self.conversation.leaf
        if leaf is not None and leaf.role == "user":
            self.answer(Fork(leaf.id))
            return True
        if message is None:
            return False
        self.answer(message.segments[0].node.fork)
        return True

    def resume(self) -> bool:
        """Go on with the last answer."""
        leaf = self.conversation.leaf
        if leaf is None or leaf.role != "assistant":
            return False
        self.answer(Fork(leaf.id), joins=True)
        return True

    def branch(self, place: TokenPlace, token: int | None = None, force: str = "") -> bool:
        """Go on differently from a token of an answer: with another token, other words, or drawn again."""
        if not 0 <= place.block < len(self.shown) or self.shown[place.block].message.role != "assistant":
            return False
        tokens = [] if token is None else [token]
        fork = self.fork_at(place)
        self.answer(fork, joins=place.token > 0, tokens=tokens, force=force)
        return True

    def answer(
        self,
        fork: Fork,
        *,
        joins: bool = False,
        tokens: Sequence[int] = (),
        force: str = "",
        max_tokens: int | None = None,
        picks: int = -1,
    ) -> None:
        """Start a run that leaves at a fork. Before a model is there, the run waits for it."""
        self.stop()
        if self.facts is None:
            self.waiting = lambda: self.answer(
                fork, joins=joins, tokens=tokens, force=force, max_tokens=max_tokens, picks=picks
            )
            return
        seed = self.new_seed()
        how = f"{recipe_words(self.sampling.recipe)} · {self.adapters}" if self.adapters else ""
        node = Node(self.new_id(), fork, "assistant", joins=joins, seed=seed, label=how)
        context = before(self.conversation, fork)
        self._change(self.conversation.add(node))
        self._generate(node.id, context, seed, tokens, force, max_tokens or self.max_tokens, picks)

    def _generate(
        self,
        node: str,
        prompt: Prompt,
        seed: int,
        tokens: Sequence[int],
        force: str,
        max_tokens: int | None,
        picks: int,
    ) -> None:
        assert self.facts is not None
        control = RunControl(self.sampling.recipe)
        control.force(list(tokens))
        job = self.send(r.Generate(self.facts.name, prompt, control, seed, max_tokens, force, strategy=self.strategy))
        self.run = ActiveRun(job, node, control, self.clock(), picks=picks)

    def stop(self) -> bool:
        """Stop the run between two tokens; what was drawn stays."""
        self.waiting = None
        if self.run is None:
            return False
        self.run.control.cancel()
        self._close("cancelled")
        return True

    def force_next(self, token: int) -> bool:
        """Take a token next, in the run under way."""
        if self.run is None:
            return False
        self.run.control.force([token])
        return True

    def resample(self, sampling: Sampling) -> None:
        """Draw otherwise from the next token that is not queued yet."""
        self.sampling = sampling
        recipe = sampling.recipe
        self.conversation = replace(self.conversation, recipe=recipe, order=sampling.names)
        if self.run is not None:
            self.run.control.recipe = recipe

    def choose(self, fork: Fork, option: str | None) -> None:
        """Check out another branch."""
        self.become(self.conversation.choose(fork, option))

    def become(self, conversation: Conversation) -> None:
        """Go on with another state of the conversation."""
        self.stop()
        self._change(conversation)

    # -- step mode ---------------------------------------------------------------------------------------------------

    def step_on(self) -> bool:
        """Begin to choose token by token: at the end of the last answer, or of a new one."""
        self.stop()
        leaf = self.conversation.leaf
        if leaf is None or self.facts is None:
            return False
        self.stepping = True
        self.peek = None
        self.answer(Fork(leaf.id), joins=leaf.role == "assistant", max_tokens=1, picks=0)
        return True

    def pick(self, token: int | None) -> None:
        """Take a token, and look at what could follow; None takes the one that the model drew."""
        if self.peek is None or self.run is not None or self.facts is None:
            return
        token = self.peek.token if token is None else token
        node = self.conversation.leaf
        assert node is not None
        self.peek = None
        self._generate(node.id, before(self.conversation, Fork(node.id)), node.seed, [token], "", 2, 1)

    def step_off(self) -> None:
        """Leave step mode; the answer stays as it is."""
        self.stepping, self.peek = False, None
        if self.run is not None:
            self.stop()
        leaf = self.conversation.leaf
        if leaf is not None and leaf.role == "assistant" and not leaf.finish:
            self._change(self.conversation.extend(leaf.id, (), "cancelled"))

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self, index: int) -> bool:
        """Have words that were not drawn here measured, once; gives whether there is anything to wait for."""
        node = self.shown[index].message.last
        if node.drawn or node.id in self.scores or self.facts is None:
            return False
        if any(node.id in waiting for waiting in self.scoring.values()):
            return True
        said = turns(self.conversation, Fork(node.id))
        job = self.send(r.Score(self.facts.name, Prompt(said), tuple(text for _, text in said)))
        self.scoring[job] = [node.id]
        return True

    # -- what the engine reports -------------------------------------------------------------------------------------

    def ready(self, facts: r.ModelFacts) -> None:
        """A model is there: what waited for it begins."""
        if self.facts is not None and self.facts.name != facts.name:
            self.scores.clear()
            self.scored_ids.clear()
            self.began_ids.clear()
        self.facts = facts
        self.conversation = replace(self.conversation, model=facts.name)
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting()

    def mine(self, job: int) -> bool:
        """Whether a job is the run under way."""
        return self.run is not None and self.run.job == job

    def began(self, ids: tuple[int, ...]) -> None:
        """The run has begun, after these ids."""
        if self.run is not None:
            node = self.conversation.nodes[self.run.node]
            first = node
            while first.joins and first.fork.node != ROOT:
                first = self.conversation.nodes[first.fork.node]
            self.began_ids.setdefault(first.id, ids)

    def drew(self, steps: Iterable[TokenStep]) -> list[ShownToken]:
        """Tokens of the run, as they are to be shown; in step mode the last is only looked at."""
        run = self.run
        assert run is not None
        tokens = []
        for step in steps:
            if run.picks >= 0 and len(run.steps) >= run.picks:
                self.peek = step
                continue
            run.steps.append(step)
            if self.shown and self.shown[-1].message.last.id == run.node:
                self.shown[-1].steps.append(step)
            tokens.append(self.token(step))
        return tokens

    def keep(self) -> None:
        """Put what was drawn into the conversation, to be saved."""
        run = self.run
        if run is not None and run.kept < len(run.steps):
            self._put(self.conversation.extend(run.node, tuple(run.steps[run.kept :])))
            run.kept = len(run.steps)

    def ended(self, done: Done) -> None:
        """The run is over."""
        assert self.run is not None
        self.stats = done.stats
        if done.text and self.run.steps:  # the detokeniser's last words belong to the last token
            last = self.run.steps[-1]
            if self.run.kept < len(self.run.steps):
                self.run.steps[-1] = replace(last, text=last.text + done.text)
        stepping = self.run.picks >= 0 and self.peek is not None
        self._close("" if stepping else done.reason)
        if not stepping:
            self.stepping = False

    def failed(self) -> None:
        """The run ended in an error: what was drawn stays."""
        self._close("failed")
        self.stepping = False

    def scored(self, job: int, event: r.Scored) -> list[str]:
        """A person's words have been measured; gives the nodes that can be shown so."""
        nodes = self.scoring.pop(job, [])
        done = []
        for node in nodes:
            span = event.spans[-1] if event.spans else None
            if span is None:
                continue
            self.scores[node] = list(event.steps[span[0] : span[1]])
            self.scored_ids[node] = tuple(step.token for step in event.steps)
            done.append(node)
        return done

    def _close(self, finish: str) -> None:
        run = self.run
        assert run is not None
        self._put(self.conversation.extend(run.node, tuple(run.steps[run.kept :]), finish))
        self.run = None

    def _change(self, conversation: Conversation) -> None:
        self.conversation = replace(conversation, updated=self.clock())

    def _put(self, conversation: Conversation) -> None:
        """As `_change`, for a message that grows: its block stays the one on the screen."""
        self._change(conversation)
        if self.shown and self.run is not None and self.shown[-1].message.last.id == self.run.node:
            message = self.conversation.messages()[-1]
            if message.last.id == self.run.node:
                self._grew(message)
