"""The table of what a chapter can be seen on: a full-screen view, or a picture of the course; a line each.

A chapter's `view = "orders"` is a name of this table. Each says which numbers it measures, by the names under which a
chapter's formulas, answers and conditions use them, and which keys of a chapter's `[state]` it takes.

To add a picture: one file in `app/tui/views/learn/` with a widget that is a `Picture` (its docstring says what that
is), and a line here with its path. To have a full-screen view taught in: `numbers` and `set_state` of its `View`, and a
line here without a path. Plain data: knows no widget.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class LessonView:
    """A view or a picture beside a lesson: its `numbers` by name, and the keys of `state` that it takes, in words.

    `path` is "module:Class" of a picture; "" for the full-screen view of that name. `files` are keys of `state` that
    name a file beside the chapter.
    """

    numbers: Mapping[str, str]
    state: Mapping[str, str]
    path: str = ""
    files: tuple[str, ...] = ()

    def load(self) -> Any:
        """The class of a picture, imported now."""
        module, _, name = self.path.partition(":")
        return vars(import_module(module))[name]


TEXT = {"text": "the text that it begins with"}
OF_TEXT = {
    "text": "all that is written", "tokens": "how many tokens it has", "characters": "how many characters",
    "bits": "surprisal of all that was predicted", "predicted": "how many tokens were predicted",
    "perplexity": "2 to the mean surprisal", "dearest": "the dearest token", "dearest_bits": "what it costs",
}  # fmt: skip
LESSON_VIEWS: Mapping[str, LessonView] = {
    "text": LessonView(OF_TEXT, TEXT),
    "waterfall": LessonView(
        OF_TEXT
        | {
            "guesses": "words that were guessed", "word": "the last of them", "your_bits": "what it cost a person",
            "its_bits": "and the model", "your_mean": "the mean of all guesses", "its_mean": "the model's of the same",
        },
        TEXT | {"guess": "another text, whose words are hidden until they are guessed"},
        "likely.app.tui.views.learn.waterfall:WaterfallPicture",
    ),
    "inside": LessonView(
        {
            "text": "all that is read", "tokens": "how many tokens it has", "characters": "how many characters",
            "token": "the token at the cursor", "layers": "how many layers the model has",
            "page": "the page that is shown",
            "settled": "layer from which the favourite after the last token stays, 0 the embedding",
        },
        TEXT | {"page": "lens, attention, map, causes or tokens"},
    ),
    "runs": LessonView(
        {
            "items": "items that were answered", "mean": "the chosen model's mean", "half": "half of its interval",
            "delta": "the second model's mean less the first's", "delta_half": "half of that interval",
            "part": "scores, differ or reliability", "ways": "in how many ways the chosen task was asked",
            "spread": "standard deviation of its scores over them", "least": "the least", "most": "and the most",
        },
        {},
    ),
    "ladders": LessonView(
        {
            "compute": "operations of the chosen budget", "loss": "the loss that it buys", "size": "its parameters",
            "data": "its tokens", "e": "E of the law", "a": "A", "alpha": "α", "b": "B", "beta": "β",
        },
        {"table": "a table of runs (CSV), where none is open"},
        files=("table",),
    ),
    "chat": LessonView(
        {
            "answers": "answers in the conversation", "answer_tokens": "tokens of the last one",
            "answer_bits": "their surprisal",
        },
        {"prompt": "what stands in the prompt, to be sent"},
    ),
    "orders": LessonView(
        {
            "first": "the likeliest word", "second": "the next one", "p_first": "its share of 1",
            "p_second": "that of the next one", "cold_first": "share of the likeliest at T 0.5",
            "entropy": "H(p) in bits", "cold_entropy": "H at T 0.5", "min_p": "the slider of min-p",
            "order": "which of T and top-p runs first",
            "kept_top_p_first": "words kept with top-p before T",
            "kept_temperature_first": "words kept with T before top-p",
        },
        TEXT,
        "likely.app.tui.views.learn.orders:OrdersPicture",
    ),
    "layer": LessonView(
        {
            "layers": "how many layers the model has", "layer": "the one that is shown", "head": "the head of it",
            "d": "numbers of a head", "tokens": "how many tokens are read", "silent": "1 without the head, else 0",
            "read": "the word that the head reads most", "read_score": "its q·k/√d", "read_share": "its softmax",
            "start": "the first word", "start_score": "its q·k/√d", "start_share": "its softmax",
            "target": "what the model says next", "p": "its probability", "p_without": "the same without the head",
            "x_in": "length of x in", "attn": "of what attention adds", "mlp": "of what the MLP adds",
            "x_out": "of x out",
        },
        TEXT,
        "likely.app.tui.views.learn.layer:LayerPicture",
    ),
    "alignment": LessonView(
        {
            "price": "β, of a nat of KL", "reward": "the mean reward there", "kl": "its KL from the base, bits",
            "base_reward": "the mean reward of the base", "q_best": "share of the answer of most reward",
            "kl_one": "the KL at β 1, bits", "kl_half": "the KL at β ½, bits",
        },
        {},
        "likely.app.tui.views.learn.alignment:AlignmentPicture",
    ),
    "widths": LessonView(
        {
            "measured": "1 once the copies are measured, 0 before", "growth": "KL at 3 bits a weight over that at 4",
            "saved": "share of the bytes of 4 bits that 3 save",
            **{f"kl_{bits}": f"KL at {bits} bits a weight, bits a token" for bits in (2, 3, 4, 5, 6, 8)},
        },
        {},
        "likely.app.tui.views.learn.widths:WidthsPicture",
    ),
    "tree": LessonView(
        {
            "width": "of the beam", "greedy": "the text of the likeliest letters", "p_greedy": "its probability",
            "best": "the likeliest text", "p_best": "its probability", "beam": "the text of the beam",
            "p_beam": "its probability", "beam_rank": "its place among all", "draws": "texts that were drawn",
            "answer": "what most of the texts say", "p_answer": "their mass",
        },
        {},
        "likely.app.tui.views.learn.tree:TreePicture",
    ),
    "readings": LessonView(
        {
            "text": "the text that is read", "texts": "that the model has counted", "orders": "how many there are",
            "drawn": "orders that were drawn", "left_to_right": "bits of the text in this order",
            "right_to_left": "and in this one", "rank": "of left to right, 1 the cheapest", "least": "the cheapest",
            "most": "the dearest", "bound": "the mean over all orders, bits", "mixture": "-log2 of their mean p",
        },
        {"text": "four of the letters a e n s t"},
        "likely.app.tui.views.learn.readings:ReadingsPicture",
    ),
    "training": LessonView(
        {
            "step": "of the checkpoint that is shown", "steps": "that were made", "rate": "the learning rate",
            "loss": "its cross-entropy, bits a letter", "language": "its entropy, bits a letter",
            "kl": "the one less the other", "last_loss": "after the last step",
        },
        {},
        "likely.app.tui.views.learn.training:TrainingPicture",
    ),
    "compare": LessonView(
        {"columns": "columns of it", "tokens": "tokens of all their answers"},
        {"prompt": "what stands in the prompt, to be sent"},
    ),
    "proofs": LessonView(
        {
            "law": "the law that is drawn for", "draws": "how many draws", "chi2": "its chi-square",
            "df": "degrees of freedom", "p": "the probability of one as large",
        },
        {"law": "a law by its name, or a page of them, as `likely prove` has them"},
    ),
    "tune": LessonView({"step": "steps that were made", "loss": "the last loss, in bits"}, {}),
}  # fmt: skip
