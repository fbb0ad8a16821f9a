"""Steering: branches, sliders, forced and banned tokens, the tree, and step mode."""

from functools import partial
from typing import TYPE_CHECKING, cast

from app.tui import presets
from app.tui.sampling import Sampling
from app.tui.tokens.layout import TokenPlace
from app.tui.views.writing import Writing
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.inspector import Inspector
from app.tui.widgets.sampler import Sampler
from app.tui.widgets.token_view import TokenView
from app.tui.widgets.tree import TreePane
from engine.conversation import Fork

if TYPE_CHECKING:
    from app.tui.views.chat import ChatScreen

STEP_NEWS = "step: enter takes the picked candidate · space the model's own · esc ends"


class Steering(Writing):
    """The part of the chat screen for how the text goes on."""

    _going = False  # g was pressed: a digit names a screen

    @property
    def chat(self) -> "ChatScreen":
        return cast("ChatScreen", self)

    def end_steps(self) -> None:
        """Leave step mode; what was chosen stays."""
        self.talk.step_off()
        self.hints.say("")
        self.reshow()
        self.save()
        self.prompt.focus()

    def on_token_view_chosen(self, event: TokenView.Chosen) -> None:
        shown = self.talk.shown[event.place.block]
        if shown.message.role == "user":
            self.action_edit()
            return
        if self.transcript.cursor != event.place:
            self.transcript.move_to(event.place)
        view = self.view()
        if view is None:
            return
        from app.tui.dialogs.overlays import Alternatives

        x, y = self.transcript.layout_.cell_of(event.place)
        region = self.transcript.region
        at = (region.x + x + 1, region.y + y - self.transcript.scroll_offset.y)
        self.app.push_screen(Alternatives(view, at), partial(self._alternative, event.place))

    def _alternative(self, place: TokenPlace, choice: tuple[str, int | str] | None) -> None:
        if choice is None:
            return
        verb, what = choice
        if verb == "token":
            self.take(place, int(what))
        elif verb == "text":
            self._branch(place, force=str(what))
        elif verb == "ban":
            self.ban(int(what))

    def take(self, place: TokenPlace, token: int) -> None:
        """Go on from a token as if `token` had been drawn; where that is on a branch already, check it out."""
        step = self.talk.step_at(place)
        if step is not None and step.token == token:
            self.hints.say("that is the token that stands there")
            return
        fork = self.talk.fork_at(place)
        for option in self.talk.conversation.options(fork):
            if option is not None and (steps := self.talk.conversation.nodes[option].steps) and steps[0].token == token:
                self._go(fork, option)
                return
        self._branch(place, token)

    def _branch(self, place: TokenPlace, token: int | None = None, force: str = "") -> None:
        if not self.talk.branch(place, token, force):
            self.hints.say("branches leave from answers: e edits a message of yours")
            return
        self.transcript.cursor = None
        self.save()
        self.reshow(follow=True)

    def on_candidates_picked(self, event: Candidates.Picked) -> None:
        if event.verb == "ban":
            self.ban(event.token)
        elif self.talk.stepping and self.talk.peek is not None and event.verb == "branch":
            self._step(event.token)
        elif event.verb == "force":
            if self.talk.force_next(event.token):
                self.hints.say(f"{self.names().name(event.token)} comes next")
            else:
                self.hints.say("nothing is being drawn: enter branches with it")
        else:
            place = self.place()
            if place is not None:
                self.take(place, event.token)

    def ban(self, token: int) -> None:
        """Never draw a token from now on; again allows it."""
        sampling = self.talk.sampling.banned(token)
        self._sample(sampling)
        self.sampler.show(sampling)
        verb = "is banned from now on" if token in sampling.bias else "is allowed again"
        self.hints.say(f"{self.names().name(token)} {verb}")

    def on_sampler_changed(self, event: Sampler.Changed) -> None:
        self._sample(event.sampling)

    def _sample(self, sampling: Sampling) -> None:
        self.talk.resample(sampling)
        self.inspect()
        self._rest()
        if not self.talk.running:
            self.save()

    def choose(self, choice: str) -> None:
        """Take over a preset or an order."""
        self.set_sampling(presets.chosen(self.likely.home, choice, self.talk.sampling))

    def set_sampling(self, sampling: Sampling) -> None:
        """Other settings, from wherever they come."""
        self.sampler.show(sampling)
        self._sample(sampling)

    def on_tree_pane_chosen(self, event: TreePane.Chosen) -> None:
        self._go(event.fork, event.option)

    def _go(self, fork: Fork, option: str | None) -> None:
        """Check out a way, the cursor where it parts."""
        self.talk.choose(fork, option)
        self.save()
        self.reshow()
        place = self.talk.place_of(fork)
        if place is not None and self.transcript.has_focus:
            self.transcript.move_to(place)

    def action_redo(self) -> None:
        if not self.talk.regenerate():
            self.hints.say("there is no answer to draw again")
            return
        self.transcript.cursor = None
        self.save()
        self.reshow(follow=True)

    def action_resume(self) -> None:
        """Go on with the last answer."""
        if not self.talk.resume():
            self.hints.say("there is no answer to go on with")
            return
        self.reshow(follow=True)

    def action_resample(self) -> None:
        """Draw again from the token under the cursor on."""
        place = self.place()
        if place is not None:
            self._branch(place)

    def action_sibling(self, by: int) -> None:
        """The next or previous way at the fork under the cursor, or the last one before it."""
        fork = self._fork_here()
        if fork is None:
            self.hints.say("there is no other branch here")
            return
        options = self.talk.conversation.options(fork)
        here = options.index(self.talk.conversation.option(fork))
        self._go(fork, options[(here + by) % len(options)])

    def _fork_here(self) -> Fork | None:
        forks = [(self.talk.place_of(fork), fork) for fork in self.talk.conversation.forks()]
        known = [(place, fork) for place, fork in forks if place is not None]
        cursor = self.transcript.cursor
        before = [fork for place, fork in known if cursor is None or place <= cursor]
        return before[-1] if before else known[0][1] if known else None

    def action_fork(self, by: int) -> None:
        """The cursor to the next or previous fork."""
        places = sorted(
            place for fork in self.talk.conversation.forks() if (place := self.talk.place_of(fork)) is not None
        )
        here = self.transcript.cursor or self.transcript.newest()
        if here is None or not places:
            self.hints.say("there are no forks on this branch")
            return
        ahead = [place for place in places if (place > here if by > 0 else place < here)]
        if ahead:
            self.transcript.move_to(ahead[0] if by > 0 else ahead[-1])

    def action_take(self, number: int) -> None:
        """Branch with candidate `number`; after g, go to a screen."""
        if self._going:
            self._going = False
            names = {1: "chat", 2: "compare", 3: "text", 4: "tune"}
            if number in names:
                self.likely.action_go(names[number])
            return
        view, place = self.view(), self.place()
        if view is not None and place is not None and number <= len(view.rows):
            self.take(place, view.rows[number - 1].token)

    def action_goto(self) -> None:
        self._going = True
        self.hints.say("go to: 1 chat · 2 compare · 3 text · 4 tune")

    def action_step(self) -> None:
        """Step mode: the person chooses, token by token."""
        if self.talk.stepping:
            self.end_steps()
        elif not self.talk.step_on():
            self.hints.say("step mode needs a message to answer, and a model")
        else:
            self.transcript.cursor = None
            self.reshow(follow=True)
            self.hints.say(STEP_NEWS)
            if self.has_class("-narrow") or self.has_class("-tiny"):
                self.query_one(Inspector).add_class("-open")

    def _step(self, token: int | None) -> None:
        self.talk.pick(token)

    def key_space(self) -> None:
        if self.talk.stepping and not self.prompt.has_focus:
            self._step(None)
