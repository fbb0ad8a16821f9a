"""Which keys there are, in words for help, and what a person has put in their place in `keys.toml`."""

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from textual.binding import Binding, BindingType

from likely.engine.base.errors import DataError
from likely.engine.base.files.whole_file import refuse_pipe
from likely.engine.base.options import read_toml

PRETTY = {
    "up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "pgup", "pagedown": "pgdn", "escape": "esc",
    "left_square_bracket": "[", "right_square_bracket": "]", "left_curly_bracket": "{", "right_curly_bracket": "}",
    "comma": ",", "full_stop": ".", "ctrl+underscore": "^/", "ctrl+slash": "^/", "backspace": "⌫", "delete": "del",
    "less_than_sign": "<", "greater_than_sign": ">", "equals_sign": "=", "question_mark": "?", "space": "space",
}  # fmt: skip


MAC = sys.platform == "darwin"
FORMULA = "equals_sign"  # where text is written it is a letter: the palette has it there
HELP = "f1,ctrl+underscore,ctrl+slash"  # ctrl+/ comes as either; a Mac's F1 dims its screen
SWALLOWED = """on a Mac Terminal.app keeps some keys for itself, so each has another here:
  pgup pgdn        , .
  home end         0 >       and for ctrl+home <
  f1               ^/, or ? in the transcript
  f2 ...           the views: g and the digit in the transcript, or ^p
  del              the key labelled delete (⌫)
  option + letter  types a sign, unless "Use Option as Meta key" is set; no key here needs it"""


def help_key() -> str:
    """The key that opens the help, as a hint has it."""
    return "^/" if MAC else "f1"


def pretty(keys: str) -> str:
    """A binding's keys as a person reads them: `ctrl+r` is `^r`."""
    return " ".join(PRETTY.get(key, key.replace("ctrl+", "^")) for key in keys.split(",")[:2])


def load(path: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Keys by action from a TOML file: `"chat.redo" = "ctrl+y"`. No file, no changes.

    `known` is what there is: action id to its keys. Raises DataError for a file that is no TOML, an unknown action
    (with the nearest name) and a value that is no text.
    """
    if not path.exists():
        return {}
    refuse_pipe(path)
    flat = _flat(read_toml(path))
    for action, keys in flat.items():
        if action not in known:
            near = get_close_matches(action, known, 1)
            hint = f"did you mean {near[0]}?" if near else "F1 lists them"
            raise DataError(f"{path}: there is no action {action}: {hint}")
        if not isinstance(keys, str) or not keys:
            raise DataError(f'{path}: {action} wants keys as text, such as "ctrl+y", got {keys!r}')
    return {action: str(keys) for action, keys in flat.items()}


def _flat(data: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Tables as dotted names, so that `[chat]` / `redo = ...` is `chat.redo`."""
    flat: dict[str, object] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def actions(bindings: Sequence[BindingType]) -> dict[str, str]:
    """Action ids and their keys."""
    return {b.id: b.key for b in bindings if isinstance(b, Binding) and b.id is not None}
