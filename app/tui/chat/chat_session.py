"""A conversation under way: what a person does to it, and what the engine's events make of it.

No widgets: the chat screen and the columns of a comparison are views of a `ChatSession`. Requests leave through
`send`, which gives the id of the job; time, ids and seeds come from outside, so that a test can fix them.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.store.sampling_text import words as recipe_words
from likely.app.store.store import Store
from likely.app.tui.base.answer_settings import AnswerSettings
from likely.app.tui.base.context import before, turns
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.text.block import ShownToken
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat import tallies
from likely.app.tui.chat.denoising import Denoising
from likely.app.tui.chat.denoising import words as unmasking_words
from likely.app.tui.chat.denoising_run import DenoisingRun
from likely.app.tui.chat.live_run import CANCELLED, FAILED, LiveRun
from likely.app.tui.chat.rewriting import Rewriting
from likely.app.tui.chat.settings_history import SettingsHistory
from likely.app.tui.chat.tool_bench import offering
from likely.app.tui.chat.transcript import EDITED, WHO, Transcript, common
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.chat.tools.tool import Tool
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Stats
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.trace.unmasking import Unmasking


@dataclass
class SessionUpdate:
    """The outcome of a batch of events, for whoever shows the session."""

    tokens: list[ShownToken] = field(default_factory=list)  # to be appended to what is shown
    reshow: bool = False  # the lineage is another one
    branched: bool = False  # there are several branches: the tree has changed
    denoised: bool = False  # a canvas has changed
    ended: bool = False  # the run is over
    scored: bool | None = None  # whether words that were measured can be shown so
    failure: Failed | None = None
    news: str = ""  # a line to say


class ChatSession:
    """One conversation, its transcript, its sampling, and at most one run."""

    def __init__(
        self,
        conversation: Conversation,
        send: Callable[[r.ModelRequest], int],
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str] = lambda: secrets.token_hex(6),
        new_seed: Callable[[], int] = lambda: secrets.randbits(31),
        store: Store | None = None,
    ) -> None:
        """`store` has the steps of the answers that were filled by diffusion before."""
        self.send, self.clock = send, clock
        self.new_id, self.new_seed, self.store = new_id, new_seed, store
        self.transcript = Transcript(conversation, self.keep)
        sampling = Sampling.of(conversation.recipe, conversation.order)
        self.history = SettingsHistory(AnswerSettings.of(sampling, conversation.asked))
        self.facts: r.ModelFacts | None = None
        self.run: LiveRun | None = None
        self.job = -1  # of the run
        self.waiting: Callable[[], None] | None = None  # to do as soon as a model is there
        self.adapters = ""  # on the model, in words
        self.tools: tuple[Tool, ...] = ()  # that the model is told of
        self.unmasking = Unmasking()  # how they are by a diffusion model
        self.denoisings: dict[str, Denoising | None] = {}  # canvases by node; None of one without its steps
        self.scoring: dict[int, str] = {}  # nodes by job
        self.rewriting: dict[int, Rewriting] = {}  # by job
        self.stepping = False
        self.peek: TokenStep | None = None  # in step mode: what could come next
        self.stats: Stats | None = None
        self.cache_nbytes = 0

    @property
    def conversation(self) -> Conversation:
        return self.transcript.conversation

    @conversation.setter
    def conversation(self, conversation: Conversation) -> None:
        self.transcript.conversation = conversation

    @property
    def settings(self) -> AnswerSettings:
        """Settings of the next answer."""
        return self.history.now

    @property
    def sampling(self) -> Sampling:
        return self.settings.sampling

    @property
    def running(self) -> bool:
        return self.run is not None

    @property
    def model(self) -> str:
        """The name of the model that there is; "" for none."""
        return self.facts.name if self.facts is not None else ""

    @property
    def diffuses(self) -> bool:
        """Whether the model fills canvases, rather than writing from left to right."""
        return self.facts is not None and self.facts.mask is not None

    # -- what a person does ------------------------------------------------------------------------------------------

    def submit(self, text: str) -> None:
        """Say something at the end of the branch, and have it answered."""
        leaf = self._end()
        self._say(Fork(leaf.id) if leaf is not None else Fork(), text)

    def edit(self, index: int, text: str, *, go_on: bool = False) -> None:
        """Say a message in other words: a sibling, answered anew. Of the model's: another branch from the first token
        on that differs, whose tokens are given and measured by the model; with `go_on` it goes on from there."""
        self.stop()
        message = self.transcript.shown[index].message
        if message.role == "user":
            self._say(message.segments[0].node.fork, text)
            return
        shared, characters = common(message.steps, text)
        fork = self.transcript.fork_at(TokenPlace(index, shared)) if shared else message.segments[0].node.fork
        job = Rewriting(fork, shared > 0, text, message.segments[0].node.fork, go_on)
        rest = text[characters:]
        if self.facts is None:
            self._rewritten(job, None)
        elif not rest:
            self._rewritten(job, ())
        else:
            prompt = before(self.conversation, fork, self.transcript.opens)
            prompt = replace(prompt, parts=(*prompt.parts, rest))
            self.rewriting[self.send(call(calls.score, self.facts.name, prompt))] = job

    def _rewritten(self, job: Rewriting, steps: tuple[TokenStep, ...] | None) -> None:
        """Put the branch in. Without steps, since nothing could be measured, it is all of the words, as written."""
        if steps is None:
            node = Node(self.new_id(), job.whole, "assistant", text=job.text, finish=EDITED)
        else:
            node = Node(
                self.new_id(), job.fork, "assistant", steps=steps, joins=job.joins, finish=EDITED, model=self.model
            )
        self.change(lambda talk: talk.add(node))
        if job.go_on:
            self.answer(Fork(node.id), joins=True)

    def settle(self) -> None:
        """Put in as words what was not measured in time: another conversation is opened."""
        for job in [*self.rewriting]:
            self._rewritten(replace(self.rewriting.pop(job), go_on=False), None)

    def instruct(self, system: str) -> None:
        """Another system prompt, from the next run on: what was measured under the old one was measured under that."""
        self.conversation = replace(self.conversation, system=system.strip(), updated=self.clock())
        self.transcript.forget()

    def _say(self, fork: Fork, text: str) -> None:
        node = Node(self.new_id(), fork, "user", text=text)
        self._change(self.conversation.add(node))
        self.answer(Fork(node.id))

    def _end(self) -> Node | None:
        """The leaf, but for what goes on with an answer and came to nothing (step mode before a pick)."""
        self.stop()
        leaf = self.conversation.leaf
        if leaf is not None and leaf.role == "assistant" and leaf.joins and not leaf.steps and not leaf.finish:
            self._change(self.conversation.withdraw(leaf.id))
        return self.conversation.leaf

    def regenerate(self, settings: AnswerSettings | None = None, seed: int | None = None) -> bool:
        """Another answer beside the last one; with other settings or a seed for this one alone."""
        leaf = self.conversation.leaf
        if leaf is None:
            return False
        answers = (s.message for s in reversed(self.transcript.shown) if s.message.role == "assistant")
        answer = next(answers, None) if leaf.role not in WHO else None
        if leaf.role not in WHO and answer is None:
            return False
        self.answer(Fork(leaf.id) if answer is None else answer.segments[0].node.fork, settings=settings, seed=seed)
        return True

    def resume(self) -> bool:
        """Go on with the last answer."""
        leaf = self._end()
        if leaf is None or leaf.role != "assistant" or self.diffuses:
            return False
        self.answer(Fork(leaf.id), joins=True)
        return True

    def branch(self, place: TokenPlace, token: int | None = None, force: str = "") -> bool:
        """Go on differently from a token of an answer: with another token, other words, or drawn again."""
        shown = self.transcript.shown
        if not 0 <= place.block < len(shown) or shown[place.block].message.role != "assistant" or self.diffuses:
            return False
        tokens = [] if token is None else [token]
        self.answer(self.transcript.fork_at(place), joins=place.token > 0, tokens=tokens, force=force)
        return True

    def answer(
        self,
        fork: Fork,
        *,
        joins: bool = False,
        tokens: Sequence[int] = (),
        force: str = "",
        settings: AnswerSettings | None = None,
        seed: int | None = None,
    ) -> None:
        """Start a run that leaves at a fork. Before a model is there, the run waits for it. In step mode it ends with
        the first token that is not given here."""
        self.stop()
        self.peek = None
        if self.facts is None:
            options: dict[str, Any] = {"joins": joins, "tokens": tokens, "force": force}
            self.waiting = partial(self.answer, fork, settings=settings, seed=seed, **options)
            return
        asked = (settings or self.settings).picked(self.stepping)
        seed = self.history.seed(asked, self.new_seed) if seed is None else seed
        self._keep_settings()
        if self.diffuses:
            self._denoise(fork, asked.recipe, seed, force)
            return
        how = asked.label(self.adapters)
        node = Node(self.new_id(), fork, "assistant", joins=joins, seed=seed, label=how, model=self.model)
        prompt = replace(before(self.conversation, fork, self.transcript.opens), thinking=asked.thinking)
        if self.tools:
            prompt, asked = offering(self.tools, self.facts.calls, prompt, asked)
        self._change(self.conversation.add(node))
        self._generate(node, prompt, asked, tokens, force)

    @property
    def recipe(self) -> SamplingConfig:
        """By which tokens would be drawn now."""
        return self.settings.picked(self.stepping).recipe

    def _generate(self, node: Node, prompt: Prompt, asked: AnswerSettings, tokens: Sequence[int], force: str) -> None:
        assert self.facts is not None
        max_tokens = len(tokens) + len(force.encode()) + 1 if self.stepping else asked.max_tokens
        control = RunControl(asked.recipe)
        control.force(list(tokens))
        first = self.conversation.beginning(node.id)
        own = first[1] + len(node.steps) if first is not None else 0
        self.run = LiveRun(node.id, control, self.new_id, stepping=self.stepping)
        asks: dict[str, Any] = {"strategy": asked.found_by, "n": asked.side_by_side, "form": asked.form, "own": own}
        self.job = self.send(r.Generate(self.facts.name, prompt, control, node.seed, max_tokens, force, **asks))

    def _denoise(
        self,
        fork: Fork,
        recipe: SamplingConfig,
        seed: int,
        force: str = "",
        goes_on: tuple[Denoising, str] | None = None,
    ) -> None:
        """Fill a canvas: of an answer that may begin with given words, of the last message where that has gaps, or
        (`goes_on`, and how it was drawn) one that a person has changed."""
        assert self.facts is not None
        prompt, control = before(self.conversation, fork, self.transcript.opens), RunControl(recipe)
        how = self.unmasking
        if goes_on:  # few masks are left by then
            how = replace(goes_on[0].how, steps=0, block=0, cache="none", check=False)
        parts = unmasking_words(how), recipe_words(recipe), self.adapters
        label = goes_on[1] if goes_on else " · ".join(filter(None, parts))
        node = Node(self.new_id(), fork, "assistant", seed=seed, label=label, model=self.model)
        self._change(self.conversation.add(node))
        text = self.conversation.nodes[fork.node].text if fork.node and not force else ""
        run = DenoisingRun(node.id, control, self.new_id, self.facts, how, seed, goes_on[0] if goes_on else None)
        self.run = run
        ids = goes_on[0].ids(goes_on[0].steps) if goes_on else ()
        fill = call(calls.fill, self.facts.name, prompt, control, seed,
                    text=text, prefill=force, masks=self.settings.max_tokens, ids=ids, how=how)  # fmt: skip
        self.job = self.send(fill)

    def canvas(self, node: str) -> Denoising | None:
        """The canvas of an answer by the model that there is now: of this session, or as it was kept."""
        if node not in self.denoisings and self.run is None:
            runs = self.conversation.nodes[node].denoising
            if not runs and self.store is not None:
                runs = self.store.denoising(self.conversation.id, node)
            self.denoisings[node] = Denoising.of_traces(runs) if runs else None
        canvas = self.denoisings.get(node)
        return canvas if canvas is not None and self.facts is not None and canvas.model == self.facts.name else None

    def place(self, node: str, step: int, position: int, token: int | None) -> bool:
        """Put a token at a position of a canvas as it was after a step, None for a mask, and have the masks filled:
        another answer beside that one. False where the model is not one for it, or nothing would be changed."""
        canvas = self.canvas(node)
        if canvas is None or canvas.cell(position, step).token == token:
            return False
        self.stop()
        old = self.conversation.nodes[node]
        canvas = canvas.parted(step, position, token)
        seed = self.history.seed(self.settings, self.new_seed)
        self._denoise(old.fork, self.recipe, seed, goes_on=(canvas, old.label))
        return True

    def stop(self, *, hear: bool = False) -> bool:
        """Stop the run between two tokens; what was drawn stays. `hear`: a search may first tell what it has found."""
        self.waiting = None
        if self.run is None:
            return False
        first = not self.run.control.cancelled
        self.run.control.cancel()
        if hear and first and self.run.rated:
            return True
        self._close(CANCELLED)
        return True

    def force_next(self, token: int) -> bool:
        """Take a token next, in the run under way."""
        if self.run is None:
            return False
        self.run.control.force([token])
        return True

    def adjust(self, settings: AnswerSettings, *, walked: bool = False) -> None:
        """Ask for answers otherwise; of one under way, draw otherwise from the next token that is not queued yet."""
        self.history.change(settings, walked=walked)
        self._keep_settings()
        if self.run is not None:
            self.run.control.recipe = self.recipe

    def _keep_settings(self) -> None:
        """The conversation knows how its next answer is asked for."""
        sampling, asked = self.sampling, self.settings.asked
        self.conversation = replace(self.conversation, recipe=sampling.recipe, order=sampling.names, asked=asked)

    def change(self, change: Callable[[Conversation], Conversation], *, keeps_run: bool = False) -> bool:
        """Go on with another state of the conversation; a run is over then, unless what it draws is not concerned, or
        only another branch of it is looked at. Gives whether what is on the screen is another one."""
        before = self.conversation.leaf
        if not keeps_run and self.stepping:  # what could come next there says nothing of here
            self.step_off()
        elif not keeps_run:
            self.stop()
        self.keep()
        self._change(change(self.conversation))
        after = self.conversation.leaf
        if (before and before.id) == (after and after.id):
            return not keeps_run
        if self.run is not None:
            self.run.follow(self.conversation)
        return True

    # -- step mode ---------------------------------------------------------------------------------------------------

    def step_on(self) -> bool:
        """Begin to choose token by token: at the end of the last answer, or of a new one."""
        self.stop()
        leaf = self.conversation.leaf
        if leaf is None or self.facts is None or self.diffuses:
            return False
        self.stepping = True
        self.answer(Fork(leaf.id), joins=leaf.role == "assistant")
        return True

    def pick(self, token: int | None) -> None:
        """Take a token, and look at what could follow; None takes the one that the model drew."""
        if self.peek is None or self.run is not None or self.facts is None:
            return
        token = self.peek.token if token is None else token
        node = self.conversation.leaf
        assert node is not None
        self.peek = None
        prompt = before(self.conversation, Fork(node.id), self.transcript.opens)
        self._generate(node, prompt, self.settings.picked(), [token], "")

    def step_off(self) -> None:
        """Leave step mode; the answer stays as it is."""
        self.stepping, self.peek = False, None
        if self.run is not None:
            self.run.control.cancel()
            self._close("")
        leaf = self._end()  # where nothing was picked the answer ends as it did
        if leaf is not None and leaf.role == "assistant" and not leaf.finish:
            self._change(self.conversation.extend(leaf.id, (), CANCELLED))

    # -- looking -----------------------------------------------------------------------------------------------------

    def measure(self, place: TokenPlace | None) -> None:
        """Have the words of the message at a place measured, once, where they were not drawn here."""
        if place is None or place.block >= len(self.transcript.shown):
            return
        node = self.transcript.shown[place.block].message.last
        if node.drawn or node.id in self.transcript.scores or self.facts is None or node.id in self.scoring.values():
            return
        if node.role == "tool":  # whose surprise was measured when it came
            return
        if self.diffuses:  # no p(x_i | x_<i) of words is to be had
            return
        messages = turns(self.conversation, Fork(node.id), self.transcript.opens)
        contents = tuple(str(said["content"]) for said in Prompt(messages).messages)
        request = call(calls.score, self.facts.name, Prompt(messages), contents)
        self.scoring[self.send(request)] = node.id

    def context_tokens(self) -> int:
        """How many of the context's positions are taken, as far as is known."""
        shown = self.transcript.shown
        newest = shown[-1].steps if shown else ()
        if self.run is not None and not newest and self.run.ids is not None:
            return len(self.run.ids)
        return next((message.steps[-1].position + 1 for message in reversed(shown) if message.steps), 0)

    def room(self) -> int:
        """Tokens left of the context after what is shown."""
        return (self.facts.context if self.facts is not None else 0) - self.context_tokens()

    def tokens_per_s(self) -> float:
        """The speed of the run, in its own time; of the last one where none is under way."""
        steps = self.run.steps if self.run is not None else []
        if len(steps) > 1:
            spent = steps[-1].elapsed_s - steps[0].elapsed_s
            return (len(steps) - 1) / spent if spent > 0 else 0.0
        return self.stats.tokens_per_s if self.run is None and self.stats is not None else 0.0

    # -- what the engine reports -------------------------------------------------------------------------------------

    def ready(self, facts: r.ModelFacts) -> None:
        """A model is there: what waited for it begins."""
        if self.facts is not None and self.facts.name != facts.name:
            self.transcript.forget()
        self.facts, self.transcript.pieces, self.transcript.apart = facts, facts.vocabulary, facts.apart
        self.conversation = replace(self.conversation, model=facts.name)
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting()

    def take(self, job: int, events: Iterable[Any]) -> SessionUpdate:
        """Take in a batch of events of one of the session's jobs."""
        heard = SessionUpdate()
        events = list(events)
        for event in events:
            if isinstance(event, Failed):
                heard.failure = event
                self.scoring.pop(job, None)  # to be asked for again
                if job in self.rewriting:
                    self._rewritten(self.rewriting.pop(job), None)
                    heard.reshow = True
            elif isinstance(event, r.Scored) and job in self.rewriting:
                self._rewritten(self.rewriting.pop(job), event.steps[len(event.steps) - event.last :])
                heard.reshow = True
            elif isinstance(event, r.Scored) and job in self.scoring:
                heard.scored = self._scored(job, event)
        run = self.run
        if run is None or job != self.job:
            return heard
        begun = run.ids is not None
        talk, fresh = run.take(self.conversation, events)
        if isinstance(run, DenoisingRun) and run.denoising is not None:
            self.denoisings[run.node], heard.denoised = run.denoising, True
        if talk is not self.conversation:
            self._put(run, talk)
        shown = self.transcript.shown
        if fresh and shown and shown[-1].message.last.id == run.node:
            shown[-1].steps.extend(fresh)
            heard.tokens = self.transcript.tokens(shown[-1], len(shown[-1].steps) - len(fresh))
        else:
            heard.tokens = [self.transcript.token(step) for step in fresh]
        heard.reshow = run.turned or (not begun and self.transcript.opens(run.ids or ()))
        heard.branched, heard.news = run.branched, run.news
        self.peek, self.stats = run.peek, run.stats or self.stats
        self.cache_nbytes = run.cache_nbytes or self.cache_nbytes
        if run.ended:
            heard.ended = True
            picking = run.failure is None and run.peek is not None  # the answer stays open for the next pick
            self._close("" if picking else FAILED)
            won = tallies.winning(self.conversation, 0) if run.branched and not run.rated else None
            if won is not None:
                self._change(self.conversation.check_out(won))
            self.stepping = self.stepping and picking
        elif run.branched or run.rated:
            self.keep()
        return heard

    def _scored(self, job: int, event: r.Scored) -> bool:
        """A person's words have been measured; gives whether they can be shown so."""
        node, span = self.scoring.pop(job, None), event.spans[-1] if event.spans else None
        if node is None or span is None:
            return False
        self.transcript.scores[node] = list(event.steps[span[0] : span[1]])
        self.transcript.scored_ids[node] = tuple(step.token for step in event.steps)
        return True

    # -- the conversation --------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Put what was drawn into the conversation, to be saved."""
        if self.run is not None:
            self._put(self.run, self.run.keep(self.conversation))

    def _close(self, finish: str) -> None:
        run = self.run
        assert run is not None
        self._put(run, run.close(self.conversation, finish))
        self.run = None

    def _change(self, conversation: Conversation) -> None:
        self.conversation = replace(conversation, updated=self.clock())

    def _put(self, run: LiveRun, conversation: Conversation) -> None:
        """Set the conversation after a run's step; the block of the message that grows stays the one on the screen."""
        self._change(conversation)
        shown = self.transcript.shown
        if run.GROWS and shown and shown[-1].message.last.id == run.node:
            message = self.conversation.messages()[-1]
            if message.last.id == run.node:
                self.transcript.grew(message)
