"""The look of a dark terminal of all colours, for tests that compare styles."""

from likely.app.tui.base.theme import DARK, look

NAMES = ("foreground", "background", "primary", "secondary", "accent", "error", "success", "panel")
LOOK = look({**DARK.variables, **{name: getattr(DARK, name) for name in NAMES}}, "true")
