"""Pictures of a proof that are no curves: outcomes exact and drawn, the laws of a rule, intervals, errors by letter."""

import math
from collections.abc import Sequence

import numpy as np
from rich.segment import Segment

from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.engine.measure.proofs.claim import Bracketed, Covering, Evidence, Listed

PAGE_WITH_COLUMNS = "constraint"
NUMBER = 7  # cells of a share behind its bar
TWICE = 2.0  # so many times off, a share is red


class ProofPicture(LineWidget):
    """The exact law upward and what was drawn downward, for claims whose outcomes are listed; else what there is."""

    evidence: Evidence | None = None
    rooted = True

    def show(self, evidence: Evidence, rooted: bool) -> None:
        if (evidence, rooted) != (self.evidence, self.rooted):
            self.evidence, self.rooted = evidence, rooted
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        evidence = self.evidence
        if evidence is None or height < 4 or width < 20:
            return []
        match evidence.claim:
            case Covering() as claim:
                return self._intervals(evidence, claim, width, height)
            case Listed() as claim if claim.page == PAGE_WITH_COLUMNS:
                return self._columns(evidence, claim, width, height)
            case Listed() as claim:
                return self._mirror(evidence, claim, width, height)
            case Bracketed():
                return self._errors(evidence, width)
        return []

    def _words(self, *parts: tuple[str, str]) -> Line:
        return [Segment(text, getattr(self.look, ink)) for text, ink in parts]

    def _mirror(self, evidence: Evidence, claim: Listed, width: int, height: int) -> list[Line]:
        """Outcomes from the likeliest on: heights upward as listed, downward as drawn."""
        p, names = claim.p, claim.names
        drawn = evidence.counts / evidence.draws if evidence.draws else np.zeros(len(p))
        order = np.argsort(-p, kind="stable")
        order = order[(p[order] > 0) | (drawn[order] > 0)]
        exact, drawn = p[order], drawn[order]
        entropy = float(-(exact[exact > 0] * np.log2(exact[exact > 0])).sum())
        lines: list[Line] = []
        if height > 12:
            scale = "height is the root" if self.rooted else "height is p"
            left, right = f"{claim.exact}", f"{evidence.draws:,} draws"
            note = f"  likeliest first; {scale}"
            note = note if len(left + note + right) < width else ""
            gap = " " * max(width - len(left + note + right), 1)
            lines.append(self._words((left, "heading"), (note, "faint"), (gap + right, "chosen")))
            told = f"entropy {entropy:.2f} bits · effective 2^H = {2**entropy:.0f} of {len(order)}"
            lines.append(self._words((told.rjust(width), "faint")))
        rows = max((height - len(lines) - 2) // 2, 1)
        scaled = [np.sqrt(shares) if self.rooted else shares for shares in (exact, drawn)]
        top = max(float(shares.max()) for shares in scaled) or 1.0
        at = np.arange(2 * width) * len(order) // (2 * width)  # the outcome of each column of dots
        spaced = 2 * width // len(order) >= 3  # wide bars have a gap between them
        shown = np.ones(2 * width, bool) if not spaced else np.diff(at, append=len(order)) == 0
        for shares, ink, up in ((scaled[0], "bar", True), (scaled[1], "chosen", False)):
            heights = np.ceil(shares[at] / top * 4 * rows - 1e-9).astype(int) * shown
            dots = np.arange(4 * rows)[:, None]
            filled = (4 * rows - dots <= heights) if up else (dots < heights)
            lines += [self._words((text, ink)) for text in braille(filled)]
            if up:
                lines.append(self._words(("─" * width, "rule")))
        lines.append(self._words((_axis([names[i] for i in order], width), "faint")))
        if height > 12:
            words = (" ↑ exact", "bar"), (" ↓ drawn", "chosen")
            first = len(lines) - 2 * rows - 2
            for row, word in ((first + rows // 3, words[0]), (first + rows + 1 + 2 * rows // 3, words[1])):
                lines[row] = _over(lines[row], width * 3 // 4, self._words(word))
        return lines

    def _columns(self, evidence: Evidence, claim: Listed, width: int, height: int) -> list[Line]:
        """The law that is meant, the one that is drawn by, and what was drawn, in per cent; a tick where the first is,
        red where twice off."""
        meant = claim.p if claim.meant is None else claim.meant
        drawn = evidence.counts / evidence.draws if evidence.draws else np.zeros(len(claim.p))
        order = [int(i) for i in np.argsort(-meant, kind="stable") if meant[i] > 0 or claim.p[i] > 0]
        wide = (width - 5) // 3
        top = max(float(law.max()) for law in (meant, claim.p, drawn))
        heads = ("p(x | rule), listed", claim.exact, f"drawn, {evidence.draws:,}")
        inks = ("bar", "bar", "chosen")
        lines: list[Line] = [
            self._words((" " * 5, "text"), *((head[: wide - 1].ljust(wide), "heading") for head in heads))
        ]
        shown = order if len(order) < height else order[: height - 2]
        for i in shown:
            parts: list[tuple[str, str]] = [(f"{claim.names[i]:<5}", "text")]
            for law, ink in zip((meant, claim.p, drawn), inks, strict=True):
                room, share = wide - NUMBER - 1, float(law[i])
                off = law is not meant and not 1 / TWICE <= (share or 1e-9) / float(meant[i]) <= TWICE
                few = law is drawn and evidence.draws * meant[i] < 10
                bar, tick = self._bar(share / top, room), round(float(meant[i]) / top * (room - 1))
                ink = "alarm" if off and not few else ink
                if law is not meant and bar[tick] == " ":
                    parts += [(bar[:tick], ink), (self.glyphs.tick, "tick"), (bar[tick + 1 :], ink)]
                else:
                    parts.append((bar, ink))
                parts.append((f"{100 * share:{NUMBER}.1f} ", ink if off and not few else "text"))
            lines.append(self._words(*parts))
        if rest := order[len(shown) :]:
            sums = "".join(f"{100 * float(law[rest].sum()):{wide - 1}.1f} " for law in (meant, claim.p, drawn))
            lines.append(self._words((f"+{len(rest)}".ljust(5) + sums, "faint")))
        return lines

    def _intervals(self, evidence: Evidence, claim: Covering, width: int, height: int) -> list[Line]:
        """The latest intervals side by side in two rows of pictures, those that miss in red."""
        missed = sum(not low <= claim.truth <= high for low, high in evidence.latest)
        said = f"{missed} of the last {len(evidence.latest)} miss {claim.truth:g}; of {evidence.draws:,} "
        share = 1 - evidence.counts[1] / evidence.draws if evidence.draws else 0.0
        lines: list[Line] = [self._words(("INTERVALS  ", "heading"), (said, "chosen"), (f"{share:.1%} do", "chosen"))]
        per = min(width, 50)
        banks = [evidence.latest[start : start + per] for start in range(0, len(evidence.latest), per)][
            : 2 if height > 16 else 1
        ]
        rows = max((height - 2 - len(banks)) // max(len(banks), 1), 3)
        low, high = 0.3, 0.95
        for bank in banks:
            lines.append([])
            level = round((high - claim.truth) / (high - low) * (rows - 1))
            for row in range(rows):
                parts: list[tuple[str, str]] = []
                for one in bank:
                    ends = [
                        round((high - min(max(end, low), high)) / (high - low) * (rows - 1)) for end in reversed(one)
                    ]
                    inside = one[0] <= claim.truth <= one[1]
                    there = ends[0] <= row <= ends[1]
                    ink = "rule" if not there else "bar" if inside else "alarm"
                    parts.append((self.glyphs.tick if there else self.glyphs.line if row == level else " ", ink))
                lines.append(self._words(*parts, (f" {claim.truth:g}" if row == level else "", "faint")))
        return lines

    def _errors(self, evidence: Evidence, width: int) -> list[Line]:
        """Each error as a share of what is allowed, on a scale of powers of ten."""
        room = max(width - 34, 10)
        lines: list[Line] = [
            self._words(("ERROR OF WHAT IS ALLOWED", "heading"), ("  a power of ten each quarter", "faint")),
            [],
        ]
        for bound in evidence.bounds:
            share = abs(bound.value) / bound.high
            along = 1 + math.log10(max(share, 1e-4)) / 4
            ink = "bar" if bound.low <= bound.value <= bound.high else "alarm"
            lines.append(
                self._words((f"{bound.name:<3}", "text"), (self._bar(along, room), ink), (f"{share:9.1e}", "text"))
            )
        return lines

    def _bar(self, share: float, room: int) -> str:
        blocks = self.glyphs.blocks
        eighths = round(min(max(share, 0.0), 1.0) * 8 * room)
        return ("█" * (eighths // 8) + blocks[eighths % 8].strip()).ljust(room)


def braille(filled: np.ndarray) -> list[str]:
    """Rows of cells of dots bool [4 rows, 2 columns]."""
    height, width = filled.shape[0] // 4, filled.shape[1] // 2
    dots = filled.reshape(height, 4, width, 2).astype(int) * plot.BITS[None, :, None, :].astype(int)
    codes = dots.sum(axis=(1, 3))
    return ["".join(chr(plot.BRAILLE + code) for code in row) for row in codes.tolist()]


def _axis(names: Sequence[str], width: int) -> str:
    """Names of outcomes under their places."""
    text = [" "] * width
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        name = names[round(share * (len(names) - 1))]
        at = round(share * (width - len(name)))
        text[at : at + len(name)] = name
    return "".join(text)


def _over(line: Line, at: int, words: Line) -> Line:
    """Words over the blank end of a line, if it is blank there."""
    text = "".join(segment.text for segment in line)
    word = "".join(segment.text for segment in words)
    if text[at : at + len(word)].strip(f" {chr(plot.BRAILLE)}"):
        return line
    style = line[0].style
    return [Segment(text[:at], style), *words, Segment(text[at + len(word) :], style)]
