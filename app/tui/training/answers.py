"""Questions to a model in training and its answers, step after step: blocks of a token view, the token behind each.

Plain data; `Completion` events go in.
"""

from dataclasses import dataclass, field

from likely.app.tui.base.text.block import MessageBlock, ShownToken, words
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat import candidates
from likely.app.tui.chat.candidates import CandidateTable, Names
from likely.app.words.heat import heat_level
from likely.engine.base.statistics.scores import perplexity
from likely.engine.train.control import Complete, Completion

KEPT = 50  # answers that are looked back on


@dataclass
class Answers:
    """The answers, oldest first; `question` is the one that is asked again."""

    question: Complete | None = None
    drawn: list[Completion] = field(default_factory=list)

    def take(self, drawn: Completion) -> None:
        self.drawn = [*self.drawn[-(KEPT - 1) :], drawn]

    def blocks(self) -> list[MessageBlock]:
        """A question once, and below it the answers that it had one after another."""
        return [self._block(owner) for owner in self._owners()]

    def _owners(self) -> list[str | Completion]:
        """Questions and answers in the order of their blocks."""
        owners: list[str | Completion] = []
        prompt: str | None = None
        for drawn in self.drawn:
            if drawn.request.text != prompt:
                prompt = drawn.request.text
                owners.append(prompt)
            owners.append(drawn)
        return owners

    @staticmethod
    def _block(owner: str | Completion) -> MessageBlock:
        if isinstance(owner, str):
            block = MessageBlock(f"asked {owner}", "you")
            block.extend(words(owner))
            return block
        who = "base" if owner.request.base else "model"
        notes = [f"step {owner.step:,}"] if who == "model" else ["before training"]
        notes.append(f"{len(owner.steps)} tok")
        ppl = perplexity(step.logprob for step in owner.steps)
        if ppl is not None:
            notes.append(f"ppl {ppl:.1f}")
        if owner.reason == "length":
            notes.append("cut at the limit")
        block = MessageBlock(f"answer {owner.step} {who}", who, " · ".join(notes), scored=True)
        block.extend(ShownToken(step.text, heat_level(step, "surprisal"), step.special) for step in owner.steps)
        return block

    def view(self, place: TokenPlace, names: Names) -> CandidateTable | None:
        """The candidates of a token of an answer, as it was drawn."""
        owners = self._owners()
        owner = owners[place.block] if place.block < len(owners) else ""
        if isinstance(owner, str) or place.token >= len(owner.steps):
            return None
        step, before = owner.steps[place.token], owner.steps[: place.token]
        outcome = candidates.replayed(step, step.recipe, (), before, names, owner.request.seed)
        return candidates.view(step, outcome, step.recipe, names, title="TOKEN", live=False)
