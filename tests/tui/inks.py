"""A letter for every ink of a look, as pictures have them below their characters."""

from rich.style import Style

from likely.app.tui.base.theme import Look

# of an ink, or of each of several steps; where a look has the same style for two, the first is meant
LETTERS = {
    "text": "t", "faint": "f", "heading": "H", "chosen": "C", "bar": "b", "bar_cut": "d", "accent": "a", "rule": "r",
    "track": "k", "cut": "c", "alarm": "!", "cursor": "X", "tick": "T", "chosen_bar": "B", "you": "y", "model": "m",
    "better": "+",
    "tints": "αβγδεζηθικλμνξοπρ", "text tints": "⓪①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯", "tick tints": "⓿❶❷❸❹❺❻❼❽❾❿⓫⓬⓭⓮⓯⓰",
    "tiles": "ADEFGIJKLMNOPQSUV", "tick tiles": "ⓐⓑⓒⓓⓔⓕⓖⓗⓘⓙⓚⓛⓜⓝⓞⓟⓠ",
    "row": "R", "tab": "W", "band": "_", "heat": ".1234", "shared": ".567",
}  # fmt: skip


def letters(look: Look) -> dict[Style, str]:
    """The letter of each ink of a look, also of a word or a tick on a tint."""
    found: dict[Style, str] = {}
    for name, row in LETTERS.items():
        word, _, ground = name.rpartition(" ")
        ink, steps = getattr(look, word) if word else Style(), getattr(look, ground)
        for step, letter in zip(steps if isinstance(steps, tuple) else (steps,), row, strict=False):
            found.setdefault(ink + step, letter)
            found.setdefault(step + ink, letter)
    return found
