"""`PatchCompositor`: a compositor that asks the widgets that have changed for what they show, and writes only that.

Textual's asks every widget within the rectangle around all changes for all of its rows, and cuts them at every edge: a
token that changes one row costs as much as the parts that stand beside it. Here it is found once for a layout which
piece of which row is whose. It knows no widget of ours.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from rich.console import Console
from textual._compositor import Compositor, CompositorUpdate
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

Patch = tuple[int, int, Strip]  # row, column, what is there from then on


class PatchUpdate(CompositorUpdate):
    """Pieces of rows, each written at its place."""

    def __init__(self, patches: Iterable[Patch]) -> None:
        self.patches = sorted(patches, key=lambda patch: patch[:2])

    def render_segments(self, console: Console) -> str:
        return "".join([f"\x1b[{y + 1};{x + 1}H{strip.render(console)}" for y, x, strip in self.patches])


class Row(NamedTuple):
    """A row of a widget: its cuts, and of the pieces between them those with nothing in front: (index, begin, end)."""

    cuts: tuple[int, ...]
    pieces: list[tuple[int, int, int]]


class Seen(NamedTuple):
    """Place of a widget: its region, the part of that which is seen, and its rows by those of the screen."""

    region: Region
    seen: Region
    rows: dict[int, Row]


class PatchCompositor(Compositor):
    """Composes as Textual's does, but for a part of the screen."""

    def __init__(self) -> None:
        super().__init__()
        self._changed: tuple[object, set[Widget]] | None = None  # whose all dirty regions are, in which layout
        self._laid: tuple[object, Mapping[Widget, Seen]] = (None, {})

    def update_widgets(self, widgets: set[Widget]) -> None:
        alone = not self._dirty_regions
        super().update_widgets(widgets)
        self._changed = (self.visible_widgets, set(widgets)) if alone else None

    def render_partial_update(self) -> PatchUpdate | None:  # type: ignore[override]
        """Patches of where something has changed; None where nothing has. What lies in front of a change and
        has not changed itself stays as it was written."""
        regions, changed = self._dirty_regions.copy(), None
        if self._changed is not None and self._changed[0] is self.visible_widgets:  # nothing was moved meanwhile
            changed = self._changed[1]
        self._dirty_regions.clear()
        self._changed = None
        if not regions:
            return None
        spans: dict[int, list[tuple[int, int]]] = {}
        for y, first, last in self._regions_to_spans(regions):
            spans.setdefault(y, []).append((first, last))
        patches: list[Patch] = []
        for widget, (region, seen, rows) in self._seen().items():
            if changed is not None and widget not in changed:
                continue
            wanted: list[tuple[int, Row, list[tuple[int, int, int]]]] = []
            for y in spans.keys() & rows.keys():
                dirty, row = spans[y], rows[y]
                pieces = [p for p in row.pieces if any(p[1] < last and p[2] > first for first, last in dirty)]
                if pieces:
                    wanted.append((y, row, pieces))
            if wanted:
                top, bottom = min(wanted)[0], max(wanted)[0] + 1
                crop = Region(seen.x - region.x, top - region.y, seen.width, bottom - top)
                strips = widget.render_lines(crop)
                for y, row, pieces in wanted:  # what has not heard of its new size yet has fewer rows, or narrow
                    parts = strips[y - top].divide(row.cuts) if y - top < len(strips) else ()
                    patches += [(y, x, parts[index]) for index, x, _ in pieces if index < len(parts)]
        return PatchUpdate(patches)

    def _seen(self) -> Mapping[Widget, Seen]:
        """The widgets that are seen, each with what nothing covers of it."""
        visible = self.visible_widgets
        if self._laid[0] is visible:
            return self._laid[1]
        bare = [set(cuts[:-1]) for cuts in self.cuts]  # by row: where pieces begin that nothing covers yet
        laid: dict[Widget, Seen] = {}
        for widget, (region, clip) in visible.items():  # from the front to the back
            seen = region.intersection(clip)
            left, right = seen.column_span
            rows: dict[int, Row] = {}
            for y in seen.line_range if seen else ():
                edges = [x for x in self.cuts[y] if left <= x <= right]
                pieces = [(i, x, end) for i, (x, end) in enumerate(pairwise(edges)) if x in bare[y]]
                if pieces:
                    bare[y].difference_update(edges[:-1])
                    rows[y] = Row(tuple(x - left for x in edges[1:]), pieces)
            if rows:
                laid[widget] = Seen(region, seen, rows)
        self._laid = visible, laid
        return laid
