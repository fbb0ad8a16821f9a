"""Mouse presses on a part of the screen that was removed, and is seen until the next paint.

Textual asks the part around it where it is, which there is none of any more: the program ended.
"""

from textual.app import App
from textual.errors import NoWidget
from textual.events import Event, MouseDown


def in_vain(event: Event, app: App[str]) -> bool:
    """Whether an event is a press on something that is gone."""
    if not isinstance(event, MouseDown):
        return False
    try:
        widget, _ = app.screen.get_widget_at(event.x, event.y)
    except NoWidget:
        return False
    return widget is not app.screen and not widget.is_attached
