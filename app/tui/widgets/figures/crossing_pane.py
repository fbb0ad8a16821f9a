"""Columns of a comparison read by each other: KL along a text, both laws at a token, what each pays for each text.

Everything is drawn from a `CrossPerplexity`; knows nothing of the engine.
"""

import math
from collections.abc import Sequence

from textual import events
from textual.message import Message

from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import bar, column
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.inspecting.crossing import LETTERS, CrossPerplexity, interval, number
from likely.engine.base.statistics.difference import Pair

BESIDE, BROAD = 100, 150  # cells from which on means stand beside the KL, and a third panel below it
AXIS, MEANS = 4, 40  # cells
NAME = 12  # cells of a token's name
HIGH = 16  # rows from which on nothing is squeezed
SEEN = 0.0005  # the least probability that a row has
LEAST_KL = 0.005  # bits below which nothing is drawn


class CrossPerplexityPane(LineWidget):
    """`way` is whose text is looked along, and who reads it; `token` is looked at in the text of the column `place`."""

    crossing: CrossPerplexity | None = None
    way: Pair = (0, 1)
    place = 0
    token = 0
    names = Names()
    waits = ""  # in the place of what is not there

    class CrossingChanged(Message):
        """There is something else to be seen."""

    class TokenPointed(Message):
        """A person wants to see a token of a column's text."""

        def __init__(self, place: int, token: int) -> None:
            super().__init__()
            self.place, self.token = place, token

    def show(self, crossing: CrossPerplexity | None, names: Names, waits: str = "") -> None:
        self.crossing, self.names, self.waits = crossing, names, waits
        self.redraw()

    def look_at(self, way: Pair, place: int, token: int) -> None:
        if (way, place, token) != (self.way, self.place, self.token):
            self.way, self.place, self.token = way, place, token
            self.redraw()

    # -- drawing -----------------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> Sequence[Line]:
        sheet, crossing = Canvas(width, height, self.look, self.glyphs), self.crossing
        if crossing is None or not crossing.differences:
            for y, line in enumerate(fold(self.waits, width - 2)):
                sheet.put(1, y, line, self.look.faint)
            return sheet.lines()
        strips = self._along(crossing, width, height)
        strip = 4 if height >= HIGH else 3 if height >= 9 else 2
        beside = MEANS if width >= BESIDE else 0
        y = 0
        for way in strips:
            self._strip(crossing, way, sheet.part(1, y, _strip_width(width), strip), bool(beside))
            y += strip + (height >= HIGH)
        if beside:
            self._means(crossing, sheet.part(width - beside + 1, 0, beside - 2, y))
        if height >= HIGH:
            sheet.put(0, y - 1, self.glyphs.line * width, self.look.rule)
        last = height - 1 if height >= HIGH else height
        self._below(crossing, sheet.part(1, y, width - 2, last - y), width)
        if height >= HIGH:
            sheet.words(1, last, (self._formula(crossing), self.look.faint))
        return sheet.lines()

    def _along(self, crossing: CrossPerplexity, width: int, height: int) -> list[Pair]:
        """The KLs that are drawn: the one that is chosen, and where there is room each of the same text."""
        author, reader = self.way
        if width < BROAD or height < HIGH + 4 or (crossing.given and author != self.place):
            return [self.way]
        return [self.way, *((author, other) for other in crossing.others(author) if other != reader)][:2]

    def _strip(self, crossing: CrossPerplexity, way: Pair, sheet: Canvas, means: bool) -> None:
        """One KL along a text: a column a token, or the mean of several."""
        look, kls = sheet.look, crossing.kls(way)
        a, b = (LETTERS[place] for place in way)
        taken, size = _scale(len(kls), sheet.width)
        parts = [[kl for kl in kls[i : i + taken] if kl is not None] for i in range(0, len(kls), taken)]
        values = [sum(part) / len(part) if part else None for part in parts]
        known = [value for value in values if value is not None and math.isfinite(value)]
        top = max(*known, 1.0) if known else 1.0
        rows = sheet.height - 1
        here = self.token // taken if way[0] == self.place or crossing.given else None
        worst = max((kl for kl in kls if kl is not None), default=0.0)
        about = f"bits, at each token of {a}" if taken == 1 else f"bits, the mean of {taken} tokens of {a} a column"
        mean = crossing.means[way]
        number_ = "" if means else f"mean {number(mean.mean)}  {interval(mean)}".rstrip()
        sheet.heading(0, f"KL({a}‖{b})", cells.fit(about, max(sheet.width - 12 - cells.width(number_), 0)), number_)
        if means and known:
            sheet.right(0, f"most {number(worst)} at {kls.index(worst) + 1}", look.faint)
        for row in range(rows):
            y = rows - row
            label = f"{top:.0f}" if row == rows - 1 else "0" if row == 0 else ""
            sheet.put(0, y, label.rjust(AXIS - 2), look.faint)
            sheet.put(AXIS - 1, y, "┤" if label else self.glyphs.tick, look.rule)
            for i, value in enumerate(values):
                if value is None or value < LEAST_KL:
                    continue
                glyph = column(min(value / top, 1.0), row, rows, self.glyphs)
                ink = look.chosen_bar if i == here else look.alarm if math.isinf(value) else look.bar
                sheet.put(AXIS + i * size, y, glyph * size, ink)

    def _means(self, crossing: CrossPerplexity, sheet: Canvas) -> None:
        """Each mean with its interval, as far as there is room; the way that is chosen first."""
        look = sheet.look
        sheet.heading(0, "MEAN KL", "bits a token, 95 %")
        ways = sorted(crossing.differences, key=lambda pair: (pair != self.way, pair != self.way[::-1]))
        ends = [end for way in ways for end in (crossing.means[way].mean, crossing.means[way].interval[1])]
        top = max((end for end in ends if math.isfinite(end)), default=1.0) or 1.0
        room = sheet.width - 27
        for y, way in enumerate(ways[: sheet.height - 1], 1):
            mean, (a, b) = crossing.means[way], way
            ink = look.text if way == self.way else look.faint
            sheet.put(0, y, f"{LETTERS[a]}‖{LETTERS[b]}", ink)
            if room > 4 and math.isfinite(mean.mean):
                low, high = mean.interval
                if math.isfinite(high):
                    start, end = (round(max(x, 0.0) / top * (room - 1)) for x in (low, high))
                    sheet.put(5 + start, y, self.glyphs.line * (end - start + 1), look.faint)
                sheet.put(5 + round(mean.mean / top * (room - 1)), y, self.glyphs.knob, look.bar)
            sheet.right(y, f"{number(mean.mean)}  {interval(mean) or self._ruled_out(crossing, way)}", ink)

    @staticmethod
    def _ruled_out(crossing: CrossPerplexity, way: Pair) -> str:
        kls = [kl for kl in crossing.kls(way) if kl is not None]
        return f"at {sum(map(math.isinf, kls))} of {len(kls)}" if any(map(math.isinf, kls)) else "too few to tell"

    def _below(self, crossing: CrossPerplexity, sheet: Canvas, width: int) -> None:
        """Both laws at a token, what each pays, and where there is room another pair of laws or the widest gaps."""
        others = crossing.others(self.place)
        first = self.way[1] if self.way[0] == self.place else self.way[0]
        pairs = [(self.place, other) for other in sorted(others, key=lambda other: other != first)]
        parts = 3 if width >= BROAD else 2
        size = sheet.width // parts if width >= BESIDE else sheet.width - 36 if width >= 76 else sheet.width - 27
        self._fork(crossing, pairs[0], sheet.part(0, 0, size - 2))
        x = size
        if parts == 3:
            sheet.part(x - 1, 0).rule(0)
            if pairs[1:]:
                self._fork(crossing, pairs[1], sheet.part(x + 1, 0, size - 3))
            else:
                self._widest(crossing, pairs[0], sheet.part(x + 1, 0, size - 3))
            x += size
        sheet.part(x - 1, 0).rule(0)
        costs = sheet.part(x + 1, 0)
        y = self._text_costs(crossing, costs) if crossing.given else self._costs(crossing, costs)
        if (parts == 2 or pairs[1:]) and costs.height - y > 3:
            self._widest(crossing, pairs[0], costs.part(0, y + 1))

    def _fork(self, crossing: CrossPerplexity, pair: Pair, sheet: Canvas) -> None:
        """Both laws at the token that is looked at, bars from the middle, each favourite lit."""
        look, names = sheet.look, self.names
        position, following = crossing.position(pair, self.token), crossing.position(pair, self.token + 1)
        said = following.token if following is not None else None
        a, b = (LETTERS[place] for place in pair)
        word = "FORK" if self.token in crossing.forks(pair) else "TOKEN"
        if position is None:
            sheet.heading(0, "TOKEN", "1 follows nothing")
            return
        sheet.heading(0, word, cells.fit(f"{self.token + 1}, after {names.name(position.token)} · %", sheet.width - 12))
        sheet.right(0, f"{a} {b}", look.accent)
        side = max((sheet.width - NAME - 14) // 2, 0)
        shares = [(s.token, math.exp(s.before), math.exp(s.now)) for s in position.likely]
        shares = [share for share in shares if max(share[1:]) >= SEEN]
        shares.sort(key=lambda share: -max(share[1:]))
        del shares[max(sheet.height - 2, 1) :]
        if said is not None and position.next is not None and said not in [token for token, _, _ in shares]:
            shares[-1:] = [(said, math.exp(position.next[0]), math.exp(position.next[1]))]
        top = max((max(p, q) for _, p, q in shares), default=1.0) or 1.0
        for y, (token, p, q) in enumerate(shares, 1):
            blocks = round(p / top * side)
            inks = [look.chosen if token == best else look.text for best in position.top]
            sheet.right(y, f"{100 * p:.1f}", inks[0], end=5)
            full = self.glyphs.blocks[-1]
            sheet.right(y, full * blocks, look.chosen_bar if token == position.top[0] else look.bar, end=6 + side)
            if token == said:
                sheet.put(6 + side, y, self.glyphs.chosen, look.chosen)
            sheet.put(7 + side, y, cells.fit(names.name(token), NAME), look.text)
            right = 7 + side + NAME
            sheet.put(
                right, y, bar(q / top, side, self.glyphs), look.chosen_bar if token == position.top[1] else look.bar
            )
            sheet.right(y, f"{100 * q:.1f}", inks[1])
        if sheet.height > 3:
            kl, tv = number(position.metrics["reverse_kl"] / math.log(2)), position.metrics["tv"]
            says = " · ".join(f"{x} {names.name(best)}" for x, best in zip((a, b), position.top, strict=True))
            sheet.words(0, sheet.height - 1, (f"KL({a}‖{b}) {kl}  TV {tv:.2f}  {says}", look.faint))

    def _costs(self, crossing: CrossPerplexity, sheet: Canvas) -> int:
        """Costs of a token of each column's answer to each; gives the rows taken."""
        look, places = sheet.look, crossing.places
        sheet.heading(0, "CROSS-SURPRISAL", cells.fit("bits a token to write …", max(sheet.width - 17, 0)))
        left = 4 if sheet.width < 48 else min(max(sheet.width - 13 * len(places), 8), 20)
        size = max((sheet.width - left - 1) // len(places), 5)
        ends = [left + size * (i + 1) for i in range(len(places))]
        for place, end in zip(places, ends, strict=True):
            own = f"{LETTERS[place]}'s answer"
            sheet.right(1, own if cells.width(own) < size else f"{LETTERS[place]}'s", look.faint, end=end)
        for y, reader in enumerate(places, 2):
            name = f"{LETTERS[reader]} {crossing.labels[reader]}" if left > 4 else LETTERS[reader]
            sheet.put(0, y, cells.fit(name, left - 1), look.text)
            for author, end in zip(places, ends, strict=True):
                ink = look.chosen if author == reader else look.text
                sheet.right(y, self._cost(crossing, (author, reader), size), ink, end=end)
        y = len(places) + 2
        sheet.put(0, y, cells.fit("excess", left - 1) if left > 6 else "+", look.faint)
        for author, end in zip(places, ends, strict=True):
            least = min((crossing.excess[author, other] for other in crossing.others(author)), key=lambda e: e.mean)
            text, spread = f"{'+' * (least.mean >= 0)}{number(least.mean)}", interval(least)
            text = f"{text}  {spread}" if spread and cells.width(text + spread) + 3 < size else text
            sheet.right(y, text.replace("-", "−"), look.faint, end=end)
        return y + 1

    @staticmethod
    def _cost(crossing: CrossPerplexity, pair: Pair, size: int) -> str:
        """Cost of a text to a reader, or how many of its tokens are ruled out."""
        cost, never = crossing.costs[pair].mean, crossing.ruled_out(pair)
        text = f"∞ at {never} of {crossing.costs[pair].n}"
        return number(cost) if not never else text if cells.width(text) < size else f"∞ {never}"

    def _text_costs(self, crossing: CrossPerplexity, sheet: Canvas) -> int:
        """Costs of a token of the text that was given to each, and which is better; gives the rows taken."""
        look, first = sheet.look, crossing.places[0]
        sheet.heading(0, "THE TEXT COSTS", cells.fit("bits a token", max(sheet.width - 16, 0)))
        costs = {place: crossing.costs[place, place].mean for place in crossing.places}
        top = max((cost for cost in costs.values() if math.isfinite(cost)), default=1.0) or 1.0
        left = 4 if sheet.width < 48 else 18
        for y, (place, cost) in enumerate(costs.items(), 1):
            name = f"{LETTERS[place]} {crossing.labels[place]}" if left > 4 else LETTERS[place]
            total = cost * crossing.costs[place, place].n
            figures = f"{number(cost)}  {total:.0f} bits"
            if not math.isfinite(total):
                figures = self._cost(crossing, (place, place), 20)
            share = 0.0 if math.isnan(cost) else min(cost / top, 1.0)
            sheet.row(y, name, share, figures, ink=look.text, fill=look.bar, left=left)
        y = len(costs) + 1
        for other in crossing.others(first):
            for line in fold(crossing.verdict(other, sheet.width < 32), sheet.width):
                sheet.put(0, y, line, look.chosen)
                y += 1
        return y

    def _widest(self, crossing: CrossPerplexity, pair: Pair, sheet: Canvas) -> None:
        """The tokens at which two laws are farthest apart, and what each would say."""
        look, names = sheet.look, self.names
        a, b = (LETTERS[place] for place in pair)
        sheet.heading(0, "WIDEST", f"KL({a}‖{b}), bits")
        sheet.right(0, f"{a} and {b} would say", look.faint)
        kls = [(kl, token) for token, kl in enumerate(crossing.kls(pair)) if kl is not None and kl >= LEAST_KL]
        kls.sort(key=lambda entry: (-entry[0], entry[1]))
        top = next((kl for kl, _ in kls if math.isfinite(kl)), 1.0)
        for y, (kl, token) in enumerate(kls[: sheet.height - 1], 1):
            position = crossing.position(pair, token)
            if position is None:
                continue
            room = max(sheet.width - 47, 0)
            sheet.put(0, y, f"{token + 1}".rjust(4), look.faint)
            said = f"after {names.name(position.token)}"
            sheet.put(5, y, cells.fit(said, 17), look.chosen if token == self.token else look.text)
            sheet.put(23, y, bar(min(kl / top, 1.0), room, self.glyphs), look.bar)
            sheet.right(y, number(kl), look.text, end=23 + room + 6)
            sheet.put(23 + room + 7, y, cells.fit(names.name(position.top[0]), 8), look.text)
            sheet.put(23 + room + 16, y, cells.fit(names.name(position.top[1]), 8), look.text)

    @staticmethod
    def _formula(crossing: CrossPerplexity) -> str:
        a, law = ("q", "q: what each column draws from") if crossing.drawn else (
            "p", "p: each column's model alone"
        )  # fmt: skip
        return " · ".join([*crossing.notes, f"KL(A‖B) = Σ {a}_A log₂ {a}_A/{a}_B", law])

    # -- pointing ----------------------------------------------------------------------------------------------------

    def on_click(self, event: events.Click) -> None:
        """To the token under the mouse."""
        offset, crossing = event.get_content_offset(self), self.crossing
        if offset is None or crossing is None or not crossing.differences:
            return
        kls = crossing.kls(self.way)
        taken, size = _scale(len(kls), _strip_width(self.size.width))
        token = (offset.x - AXIS - 1) // size * taken
        if 0 <= token < len(kls) and offset.y < 4:
            self.post_message(self.TokenPointed(self.way[0], token))


def _strip_width(width: int) -> int:
    """Cells of the KL along a text, of a pane so wide: two are left before the means."""
    return width - 2 - (MEANS if width >= BESIDE else 0)


def _scale(tokens: int, width: int) -> tuple[int, int]:
    """How many tokens a column of the strip stands for, and the cells that one takes."""
    room = max(width - AXIS - 1, 1)
    taken = max(-(-tokens // room), 1)
    return taken, min(max(room // max(tokens, 1), 1), 3) if taken == 1 else 1
