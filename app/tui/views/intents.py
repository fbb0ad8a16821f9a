"""Intents: words by which a person who knows none of our names may look for a command, and the key that does it.

A command is found by its name, by these words and by the line that says what it does, in this order. Knows no widget.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from likely.app.tui.views.view import Command


@dataclass(frozen=True, slots=True)
class Intent:
    """Words for a command beside its name, and the id of the binding that does the same."""

    words: str
    binding: str = ""


FILLERS = {  # words of a query that say nothing of what is wanted
    "a", "an", "and", "did", "do", "does", "how", "i", "in", "is", "it", "make", "me", "my", "of", "on", "or", "please",
    "say", "so", "that", "the", "this", "to", "want", "what",
}  # fmt: skip
SEVERAL = "several answers samples n best"
INTENTS: Mapping[str, Intent] = {  # by how the name of a command begins
    "model: Switch": Intent("change another llm load download diffusion"),
    "model: Adapters": Intent("lora fine-tuned weights"),
    "session: New": Intent("clear reset start over", "chat.new"),
    "session: Open": Intent("history past conversations load", "chat.sessions"),
    "session: Find": Intent("search text", "chat.find"),
    "session: Rename": Intent("title name"),
    "session: System": Intent("instructions persona role prompt"),
    "session: Export": Intent("save download share file"),
    "branch: Put": Intent("undo delete remove back", "token.prune"),
    "branch: Bring back": Intent("undo restore revert", "token.restore"),
    "branch: Previous": Intent("undo other answer version", "token.previous_sibling"),
    "branch: Next sibling": Intent("other answer version", "token.next_sibling"),
    "branch: Re-sample": Intent("again retry regenerate", "token.resample"),
    "branch: Edit": Intent("change fix rewrite undo", "token.edit"),
    "answer: Stop": Intent("cancel interrupt break", "chat.stop"),
    "answer: Regenerate": Intent("again retry redo", "chat.redo"),
    "answer: Continue": Intent("go on more longer"),
    "answer: Follow": Intent("constrain constraint regular expression pattern grammar structure format"),
    "answer: JSON": Intent("constrain constraint structured output grammar format"),
    "answer: One of": Intent("constrain constraint choices choose between yes no classify"),
    "answer: Several": Intent(f"{SEVERAL} parallel"),
    "answer: Seed": Intent("reproduce same random"),
    "answer: Copy": Intent("clipboard", "token.copy"),
    "answer: Step": Intent("choose pick one by one token by token", "token.step"),
    "answer: Look inside": Intent("layers attention heads lens activations interpret", "token.inside"),
    "token: Why": Intent("explain reason cause because attribution saliency interpret", "token.why"),
    "token: Nearest": Intent("embedding similar neighbours", "token.near"),
    "token: Bookmark": Intent("mark remember", "token.mark"),
    "strategy: vote": Intent(f"majority self-consistency best of {SEVERAL}"),
    "strategy: beam": Intent(f"search likeliest top {SEVERAL}"),
    "strategy: diverse": Intent(f"beam search different {SEVERAL}"),
    "strategy: stochastic": Intent(f"beam without replacement different gumbel {SEVERAL}"),
    "strategy: exact": Intent("most likely text mode proven best"),
    "strategy: power": Intent("sharpen reasoning mcmc"),
    "strategy: entropy": Intent("branch unsure fork"),
    "strategy: budget": Intent("thinking think longer reasoning tokens"),
    "strategy: ngram": Intent("faster speed speculative lookup"),
    "strategy: draft": Intent("faster speed speculative draft"),
    "strategy: contrast": Intent("compare weaker model contrastive"),
    "strategy: dola": Intent("layers contrastive factual"),
    "strategy: guidance": Intent("classifier-free cfg prompt"),
    "strategy: plain": Intent("sample one by one reset off undo"),
    "sample: Undo": Intent("back revert setting slider", "sampler.undo"),
    "sample: Preset": Intent("creative precise settings"),
    "sample: Order": Intent("transforms chain llama"),
    "heat:": Intent("colour surprise perplexity entropy rank tint", "chat.heat"),
    "view: Compare": Intent("compare models side by side diff two settings"),
    "view: Text": Intent("completion notebook base raw perplexity"),
    "view: Tune": Intent("train fine-tune finetune lora learn teach"),
    "view: Inside": Intent("layers attention heads lens embeddings interpret"),
    "view: Runs": Intent("benchmark evaluate measure score compare models"),
    "view: Ladders": Intent("scaling laws chinchilla"),
    "view: Proofs": Intent("test verify correct sampler distribution chi-square law"),
    "view: Learn": Intent("course tutorial lesson chapters teach exercise explain how it works", "app.learn"),
    "learn:": Intent("course lesson chapter exercise check"),
    "view: Watch": Intent("server requests api openai log"),
    "server: Start": Intent("api openai ollama http serve"),
    "theme:": Intent("dark light colours"),
    "keys:": Intent("help shortcuts"),
    "app: Quit": Intent("exit close leave"),
    "compare:": Intent("models side by side settings which is better kl divergence given text adopt"),
    "/ban": Intent("never forbid block word"),
    "/seed": Intent("reproduce same random"),
    "/max": Intent("length limit shorter longer tokens"),
    "/set": Intent("temperature top-p top-k min-p penalty sliders"),
    "/think": Intent("thinking reasoning thought budget"),
    "/unmask": Intent("diffusion masked denoise order masks steps"),
    "/prefill": Intent("begin start answer with words"),
    "/steer": Intent("direction tone activation"),
}


def intent(name: str) -> Intent:
    """The intent of a command by its name; an empty one where nothing was written."""
    starts = [start for start in INTENTS if name.lower().startswith(start.lower())]
    return INTENTS[max(starts, key=len)] if starts else Intent("")


def matching(commands: Sequence[Command], query: str, fuzzy: Callable[[str, str], float]) -> list[Command]:
    """The commands that a query may mean, the likeliest first: every word of it in the name, then in name and words,
    then in what it says too; at last those of whose names it has letters."""
    said = query.lower().split()
    words = [word for word in said if word not in FILLERS] or said
    scores = []
    for command in commands:
        name, about, _ = command
        named, known = name.lower(), f"{name} {intent(name).words}".lower()
        texts = (named, known, f"{known} {about.lower()}")
        level = next((4 - i for i, text in enumerate(texts) if _has(text, words)), 0)
        near = fuzzy(query, name)
        scores.append((level or int(near > 0), near, command))
    return [command for level, _, command in sorted(scores, key=lambda it: (-it[0], -it[1])) if level]


def _has(text: str, words: Sequence[str]) -> bool:
    """Whether each of the words begins one of the text's."""
    parts = (*text.split(), *text.replace(":", " ").split())
    return all(any(part.startswith(word) for part in parts) for word in words)
