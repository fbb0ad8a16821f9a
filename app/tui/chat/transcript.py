"""A conversation as it stands on the screen: its messages as blocks, and the step behind every token.

And the way between a token that is seen and the tree: which fork it leaves, what stands before it. No widgets, nothing
of what is under way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from likely.app.store import sampling_text
from likely.app.tui.base.context import before
from likely.app.tui.base.text.block import MessageBlock, ShownToken, words
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.denoising import DIFFUSION
from likely.app.tui.chat.tool_choice import law_words
from likely.app.words.heat import BITS, HEATS, heat_level
from likely.app.words.units import bits, proof
from likely.engine.base.statistics.scores import perplexity, total
from likely.engine.chat.conversation import Conversation, Fork, Message
from likely.engine.chat.tools.tool_prompt import ToolChoice
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.thinking import end_of, is_mark, opens
from likely.engine.sampling.thought_information import ThoughtInformation, part_figures
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep

WHO = {"user": "you", "tool": "tool"}  # of what the model did not write
EDITED = "edited"  # how an answer ends that a person wrote anew
ENDS = ("cancelled", "length", "interrupted", "pruned", EDITED)  # that are said


@dataclass
class ShownMessage:
    """A message on the screen: its block, and the step behind each of its tokens (none for words not looked at)."""

    message: Message
    block: MessageBlock
    steps: list[TokenStep]


class Transcript:
    """The lineage of a conversation, message by message."""

    def __init__(self, conversation: Conversation, keep: Callable[[], None]) -> None:
        """`keep` puts into the conversation what was drawn since, and is on the screen already."""
        self.conversation, self.keep = conversation, keep
        self.shown: list[ShownMessage] = []
        self.heat = HEATS[0]
        self.least = BITS[0]  # bits: below them nothing is tinted
        self.specials = False  # control tokens are shown
        self.markdown = True  # answers are rendered
        self.folds: dict[str, bool] = {}  # what a person folded or unfolded, by block
        self.scores: dict[str, list[TokenStep]] = {}  # of a person's nodes
        self.scored_ids: dict[str, tuple[int, ...]] = {}  # the whole context up to the end of such a node
        self.weighed: dict[str, ThoughtInformation | None] = {}  # by the node that its answer ends with
        self.pieces: Sequence[bytes] = ()  # of the model that there is
        self.apart: Sequence[str] = ()  # its marks around what it says
        self._known: dict[tuple[tuple[str, int], ...], ShownMessage] = {}

    def forget(self) -> None:
        """Another model: what the last one measured and read is not this one's."""
        self.scores.clear()
        self.scored_ids.clear()
        self.weighed.clear()

    # -- messages ----------------------------------------------------------------------------------------------------

    def blocks(self) -> list[MessageBlock]:
        """The blocks of the lineage; messages that did not change keep theirs."""
        self.shown = [self._show(message) for message in self.conversation.messages()]
        for index, shown in enumerate(self.shown):
            shown.block.note, *shorter = self.notes(index)
            shown.block.notes = tuple(shorter)
            shown.block.grow(not shown.message.last.finish)
        return [shown.block for shown in self.shown]

    def _show(self, message: Message) -> ShownMessage:
        key = _key(message)
        known = self._known.get(key)
        if known is not None and (message.last.drawn or (known.steps or None) is self.scores.get(message.last.id)):
            known.message = message
            if self.opens(message.segments[0].node.prompt):
                known.block.open_thought()
            return known
        yours = message.role in WHO
        who = WHO.get(message.role, "model")
        block = MessageBlock(message.segments[0].node.id, who, scored=message.last.drawn, specials=self.specials)
        block.apart = () if yours else self.apart
        block.edited = any(segment.node.finish == EDITED for segment in message.segments)
        steps = list(message.steps) or self.scores.get(message.last.id, [])
        block.scored = block.scored or bool(steps)
        block.render(self.markdown and not yours)
        shown = self._known[key] = ShownMessage(message, block, steps)
        block.folded, block.opened = self.folds.get(block.key, True), self.opens(message.segments[0].node.prompt)
        block.fill(self.tokens(shown) if steps else words(message.text))
        return shown

    def opens(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt ends within a thought: the template has opened one."""
        return opens(end_of(prompt, lambda i: self.pieces[i] if i < len(self.pieces) else b""))

    def grew(self, message: Message) -> None:
        """The last message has more of what is on the screen already: it keeps its block."""
        self.shown[-1].message = message
        self._known[_key(message)] = self.shown[-1]

    def tokens(self, shown: ShownMessage, first: int = 0) -> list[ShownToken]:
        """The steps of a message, from the `first` on, as the transcript shows them; one that was drawn by another
        recipe than the last says what changed. Those of a canvas come in no order that would tell."""
        steps, tokens = shown.steps, list[ShownToken]()
        ordered = DIFFUSION not in shown.message.last.label.split(" · ")
        last = next((steps[i] for i in range(first - 1, -1, -1) if steps[i].origin != "given"), None)
        for step in steps[first:]:
            moved = ""
            if step.origin != "given" and ordered:
                moved = sampling_text.change(last.recipe, step.recipe) if last is not None else ""
                last = step
            tokens.append(self.token(step, moved))
        return tokens

    def token(self, step: TokenStep, moved: str = "") -> ShownToken:
        """A step as the transcript shows it; `moved` is what changed of how it is drawn."""
        special = step.special and not is_mark(step.piece)
        text = step.written
        level = heat_level(step, self.heat, self.least)
        piece = b"" if special or text.encode(errors="replace") == step.piece else step.piece
        return ShownToken(text, level, special, step.origin == "given", piece, moved)

    def recolour(self, heat: str, least: float) -> None:
        """Tint by another number, or from other bits on."""
        self.heat, self.least = heat, least
        for shown in self._known.values():
            if shown.steps:
                shown.block.tokens[:] = self.tokens(shown)

    def show_specials(self, on: bool) -> None:
        self.specials = on
        for shown in self._known.values():
            shown.block.show_specials(on)

    def render(self, on: bool) -> None:
        """Show the Markdown of answers as what it means, or as it was written."""
        self.markdown = on
        for shown in self._known.values():
            shown.block.render(on and shown.message.role not in WHO)

    def note(self, index: int) -> str:
        """The words beside a message's name: branch, model, recipe, tokens, perplexity, proof, end."""
        return self.notes(index)[0]

    def notes(self, index: int) -> tuple[str, ...]:
        """The words beside a message's name in ever shorter forms, the longest first. Dropped in turn: the recipe's
        parameters beyond T and the first filter (then counted), the filter, T, ppl; a value is whole or absent."""
        shown = self.shown[index]
        fork = shown.message.segments[-1].node.fork
        options = self.conversation.options(fork)
        branch = f"branch {options.index(self.conversation.option(fork)) + 1}/{len(options)}" if options[1:] else ""
        if shown.message.role == "user":
            return (branch,)
        if shown.message.role == "tool":
            asked = self.conversation.nodes.get(fork.node)
            return _result_notes(asked.choice if asked is not None else None, shown.steps, branch)
        steps, span = shown.steps, shown.block.thinking
        if span is not None and span[0] < span[1] <= len(steps):
            shown.block.thought_s = steps[span[1] - 1].elapsed_s - (steps[span[0] - 1].elapsed_s if span[0] else 0.0)
        shown.block.thought_notes = () if shown.block.folded or span is None else self._weight(shown)
        parts = _how(shown.message.last.label, sampling_text.drawn_by(steps))
        count = f"{len(steps)} tok" if steps else ""
        value = perplexity(step.logprob for step in steps)
        ppl = f"ppl {value:.1f}" if value is not None else ""
        finish = shown.message.last.finish
        words_of = {"cancelled": "stopped", "length": "stopped at length"}
        end = words_of.get(finish, finish) if finish in ENDS else ""
        other = shown.message.last.model
        whose = "" if other in ("", self.conversation.model) else other.rpartition("/")[2]
        end = " · ".join(filter(None, (proof(shown.message.last.figures), end)))
        more = f" +{len(parts) - 2}" if parts[2:] else ""
        shorter = [parts, [*parts[:1], parts[1] + more] if parts[1:] else parts]
        shorter += [[parts[0] + f" +{len(parts) - 1}"] if parts[1:] else parts, []]
        lines = [(branch, whose, *note, count, ppl, end) for note in shorter]
        lines += [(count, ppl, end), (count, end), (end or count,)]
        return tuple(dict.fromkeys(" · ".join(filter(None, line)) for line in lines))

    def thought_at(self, index: int) -> tuple[tuple[int, ...], tuple[TokenStep, ...], bool] | None:
        """The prompt of an answer whose thought is open, its tokens, and whether the prompt opened the thought, for who
        weighs it; None where it has been weighed, is not over, or was not drawn by the model that there is."""
        shown = self.shown[index]
        node, prompt = shown.message.last, shown.message.segments[0].node.prompt
        seen = shown.block.thinking is not None and not shown.block.folded
        over = seen and node.drawn and node.finish and prompt and self.ids_before(TokenPlace(index, 0))[1]
        if not over or node.id in self.weighed or node.model not in ("", self.conversation.model):
            return None
        return prompt, tuple(shown.steps), shown.block.opened

    def weigh(self, node: str, information: ThoughtInformation | None) -> None:
        """Keep the information of an answer's thought; None: it is not known, and may be asked for again."""
        if information is not None:
            self.weighed[node] = information
        elif self.weighed.get(node) is None:
            self.weighed.pop(node, None)
        self.blocks()

    def _weight(self, shown: ShownMessage) -> tuple[str, ...]:
        """Figures of thought and answer, in ever shorter forms."""
        found = part_figures(shown.steps, shown.block.opened)
        thought, answer = (found[name].perplexity if name in found else None for name in ("thought", "answer"))
        apart = "" if thought is None else f"ppl {thought:.1f}" + ("" if answer is None else f", answer {answer:.1f}")
        weighed = self.weighed.get(shown.message.last.id)
        if weighed is None:
            return (apart,)
        given, without = (bits(-total(logprobs)) for logprobs in (weighed.given, weighed.without))
        told = f"answer {given:.1f} bits, without it {without:.1f}"
        return f"{apart} · {told}", told, f"{given:.0f} bits, without it {without:.0f}", apart

    # -- tokens ------------------------------------------------------------------------------------------------------

    def step_at(self, place: TokenPlace) -> TokenStep | None:
        """The step behind a token on the screen."""
        if not 0 <= place.block < len(self.shown):
            return None
        steps = self.shown[place.block].steps
        return steps[place.token] if place.token < len(steps) else None

    def model_at(self, place: TokenPlace | None) -> str:
        """The model whose a token is: that drew it, else the conversation's."""
        token, drawn = (0, ()) if place is None or place.block >= len(self.shown) else (
            place.token, self.shown[place.block].message.segments
        )  # fmt: skip
        for segment in drawn:
            if token < segment.length:
                return segment.node.model or self.conversation.model
            token -= segment.length
        return self.conversation.model

    def fork_at(self, place: TokenPlace) -> Fork:
        """The fork whose options are the alternatives to a token: just before it."""
        self.keep()  # it may be one that was drawn a moment ago
        token = place.token
        segments = self.shown[place.block].message.segments
        for segment in segments[:-1]:
            if token < segment.length:
                return self.conversation.canonical(Fork(segment.node.id, token))
            token -= segment.length
        node = segments[-1].node
        if node.role in WHO:
            return node.fork
        if not node.drawn:  # an answer that was written is left at a character
            tokens = self.shown[place.block].block.tokens
            token = min(sum(len(it.text) for it in tokens[: place.token]), len(node.text))
        return self.conversation.canonical(Fork(node.id, token))

    def place_of(self, fork: Fork) -> TokenPlace | None:
        """Where on the screen the first token after a fork stands."""
        for index, shown in enumerate(self.shown):
            token = 0
            for segment in shown.message.segments:
                if segment.node.fork == fork:
                    return TokenPlace(index, min(token, max(len(shown.block.tokens) - 1, 0)))
                if fork.node == segment.node.id and fork.at is not None and fork.at < segment.length:
                    return TokenPlace(index, token + fork.at)
                token += segment.length
        return None

    def ids_before(self, place: TokenPlace) -> tuple[tuple[int, ...], bool]:
        """The ids before a token, oldest first, and whether these are all of them, and mean the same to the model."""
        shown = self.shown[place.block]
        node, steps = shown.message.segments[0].node, shown.steps[: place.token]
        own = tuple(step.token for step in steps)
        if not node.drawn:
            step = self.step_at(place)
            ids = self.scored_ids.get(shown.message.last.id, ())
            return (ids[: step.position], True) if step is not None and ids else (own, False)
        known = all(step.token < len(self.pieces) and self.pieces[step.token] == step.piece for step in shown.steps)
        return ((*node.prompt, *own), True) if node.prompt and known else (own, False)

    def history(self, place: TokenPlace | None) -> tuple[tuple[int, ...], Sequence[TokenStep]]:
        """The history that transforms see at a token: the ids before its message, and the message's steps before it.

        Only the last are needed by most; where a message's beginning is not known, its own tokens are all there is.
        None stands for the end of the branch.
        """
        if not self.shown:
            return (), ()
        place = place or TokenPlace(len(self.shown) - 1, len(self.shown[-1].steps))
        shown = self.shown[place.block]
        if not shown.message.last.drawn:
            return self.ids_before(place)[0], ()
        return shown.message.segments[0].node.prompt, shown.steps[: place.token]

    def context_before(self, place: TokenPlace) -> Prompt:
        """The prompt that ends just before a token."""
        ids, whole = self.ids_before(place)
        if whole:
            return Prompt(parts=(ids,), whole=True)
        return before(self.conversation, self.fork_at(place), self.opens)

    def read_until(self, place: TokenPlace) -> tuple[Prompt, int]:
        """The prompt that ends with an answer, and how many tokens of it stand from a place on."""
        shown = self.shown[place.block]
        count = len(shown.steps)
        return self.context_before(TokenPlace(place.block, count)), count - min(place.token, count)


def _result_notes(choice: ToolChoice | None, steps: Sequence[TokenStep], branch: str) -> tuple[str, ...]:
    """Notes beside a tool's result, shorter and shorter: how likely it was to be called, and how surprising it was."""
    measured = [step.logprob for step in steps if step.logprob is not None]
    cut = f" of its first {len(measured)}" if len(measured) < len(steps) else ""
    heard = f"{len(steps)} tok {bits(-sum(measured)):.1f} bits{cut}" if steps else ""
    law = "" if choice is None or choice.law is None else law_words(choice.law)
    lines = ((branch, law, heard), (branch, law), (law,), (branch,))
    return tuple(dict.fromkeys(" · ".join(filter(None, line)) for line in lines))


def _key(message: Message) -> tuple[tuple[str, int], ...]:
    return tuple((segment.node.id, segment.length) for segment in message.segments)


def _how(label: str, by: Sequence[SamplingConfig]) -> list[str]:
    """By what an answer was drawn, part by part, temperature first: by its label, which says of the recipe what held
    in the beginning, and by the recipes of its tokens, each that followed another."""
    first, whole = (sampling_text.words(*setting) if setting else "" for setting in (by[:1], by))
    if label:
        added = f"{label} · {whole}" if first not in label else label.replace(first, whole)
        return (added if by[1:] else label).split(" · ")
    return sorted(whole.split(" · ") if whole else [], key=lambda part: not part.startswith("T "))


def common(steps: Sequence[TokenStep], text: str) -> tuple[int, int]:
    """The tokens of an answer that a text begins with, and the characters that these are. None ends in a character."""
    shared = characters = 0
    for index, step in enumerate(steps):
        if step.special or not step.text:
            continue
        if not text.startswith(step.text, characters):
            break
        shared, characters = index + 1, characters + len(step.text)
    return shared, characters
