"""The last page: a person's own numbers in every formula of a course, and its sentences, as Markdown, SVG and HTML.

What was not measured has a dash: nothing here is anybody else's number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from pathlib import Path

from likely.app.lessons.lesson import Standing
from likely.app.lessons.tutor import Tutor
from likely.app.words.heat import visible
from likely.engine.base.errors import DataError
from likely.engine.base.files.whole_file import write_whole

OPEN = "–"
FORMULAS, SENTENCES = "Your numbers in every formula", "In a sentence each"
PRINTED = (
    "@media print{body{margin:0;max-width:none;font-size:11px}tr{break-inside:avoid}}td.f,td.n{font-family:monospace}"
)
HEADS = "<tr><th><th>chapter<th>formula<th>yours<th>guessed</tr>"
ROW, COLUMNS = 22, (8, 36, 190, 560, 940)  # of the picture: number, name, formula, value, mark


@dataclass(frozen=True, slots=True)
class PageLine:
    """A formula with a person's numbers. `number` is its chapter's, `right` whether the guess there was."""

    number: int
    name: str
    formula: str
    value: str
    right: bool | None

    @property
    def mark(self) -> str:
        return {True: "✓", False: "✗", None: "·"}[self.right]


def escape(text: str) -> str:
    """Text of a chapter as HTML, that moves no terminal either."""
    return escape_html(visible(text))


def lines(tutor: Tutor) -> list[PageLine]:
    """Every line of every chapter, in their order."""
    found = []
    for chapter in tutor.course.chapters:
        standing = tutor.standing(chapter)
        for index, each in enumerate(chapter.yours):
            value = standing.yours[index] if index < len(standing.yours) else ""
            right = standing.right if index == 0 else None
            found.append(PageLine(chapter.number, each.name or chapter.title, each.formula, value or OPEN, right))
    return found


def sums(tutor: Tutor) -> str:
    """How many guesses were right, and how many checks at once."""
    standings: Sequence[Standing] = [tutor.standing(each) for each in tutor.course.chapters]
    guesses = [each.right for each in standings if each.right is not None]
    checks, clean = sum(each.checked for each in standings), sum(each.clean for each in standings)
    return f"predicted {sum(guesses)} of {len(guesses)} · reckoned by hand {clean} of {checks} at once"


def write(path: Path, tutor: Tutor) -> None:
    """Write the page, by the end of the file's name. DataError for another one, and for what cannot be written."""
    form = FORMS.get(path.suffix.lower())
    if form is None:
        raise DataError(f"the page must end with {', '.join(FORMS)}, got {path}")
    write_whole(path, [form(tutor)])


def markdown(tutor: Tutor) -> str:
    """The page as a Markdown table, and the sentences."""
    table = ["| | chapter | formula | yours | guessed |", "|--:|---|---|---|:-:|"]
    for line in lines(tutor):
        words = (str(line.number), line.name, f"`{line.formula}`", line.value, line.mark)
        table.append("| " + " | ".join(word.replace("|", "\\|") for word in words) + " |")
    said = [f"{each.number}. **{each.title}** {each.sentence}" for each in tutor.course.chapters]
    head = f"# {FORMULAS}\n\n{tutor.model or 'no model'} · {sums(tutor)}\n"
    return "\n".join((head, *table, f"\n## {SENTENCES}\n", *said, ""))


def html(tutor: Tutor) -> str:
    """The page as one file to print, which opens without a network."""
    from likely.app.results.report import document  # which reads evaluations: no course needs them

    rows = [
        f"<tr><td class=n>{line.number}<td>{escape(line.name)}<td class=f>{escape(line.formula)}"
        f"<td class=f><b>{escape(line.value)}</b><td>{line.mark}</tr>"
        for line in lines(tutor)
    ]
    said = "".join(
        f"<li value={each.number}><b>{escape(each.title)}</b> {escape(each.sentence)}" for each in tutor.course.chapters
    )
    head = f"<h1>{FORMULAS}</h1><p>{escape(tutor.model or 'no model')} · {sums(tutor)}</p>"
    body = f"<style>{PRINTED}</style>{head}<table>{HEADS}{''.join(rows)}</table><h2>{SENTENCES}</h2><ol>{said}</ol>"
    return document("likely learn", body)


def svg(tutor: Tutor) -> str:
    """The page as a picture."""
    drawn = [
        f'<text x="{COLUMNS[0]}" y="30" font-size="18" font-weight="bold">{FORMULAS}</text>',
        f'<text x="{COLUMNS[0]}" y="54" fill="#667">{escape(tutor.model or "no model")} · {sums(tutor)}</text>',
    ]
    found = lines(tutor)
    for y, line in enumerate(found):
        words = (str(line.number), line.name, line.formula, line.value, line.mark)
        for x, text in zip(COLUMNS, words, strict=True):
            bold = ' font-weight="bold"' if text is line.value else ""
            drawn.append(f'<text x="{x}" y="{86 + ROW * y}"{bold} xml:space="preserve">{escape(text)}</text>')
    size = f'width="960" height="{96 + ROW * len(found)}"'
    style = "text{font:13px ui-monospace,Menlo,monospace;fill:#1c1f26}"
    ground = '<rect width="100%" height="100%" fill="#fcfcfa"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>{ground}{"".join(drawn)}</svg>\n'


FORMS: dict[str, Callable[[Tutor], str]] = {".md": markdown, ".svg": svg, ".html": html}
