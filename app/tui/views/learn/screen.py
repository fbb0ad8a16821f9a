"""The course: the list of its chapters; one that is open, beside its own picture, or beside the view it is about.

Before there is a guess nothing is shown but the question; then the chapter's picture stands here, or the lesson goes to
its full-screen view.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget

from likely.app.jobs.requests import ModelFacts
from likely.app.lessons import course, page
from likely.app.lessons.chapter import Chapter
from likely.app.lessons.expression import Value
from likely.app.lessons.lesson import CHECK, DO, PREDICT
from likely.app.lessons.lesson_views import LESSON_VIEWS
from likely.app.lessons.tutor import Tutor
from likely.app.store import export
from likely.app.tui.base import keys
from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.view_table import VIEWS
from likely.app.tui.chat.status import progress
from likely.app.tui.dialogs.export_file import export_as
from likely.app.tui.views.learn.chapters import ChapterList
from likely.app.tui.views.learn.page import PageOfNumbers, Sentences
from likely.app.tui.views.learn.picture import LessonPicture
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.lesson.lesson_pane import LessonPane

CHAPTERS, PAGE, SENTENCES = "chapters", "page", "sentences"
BEFORE = "Guess first: what the program measures is shown then."
DOES = {PREDICT: ("Show", "Skip"), DO: ("Done", "Skip"), CHECK: ("Mark", "Hint")}  # enter and ? in a stage


class LearnScreen(View):
    """Chapters, and the one that is open."""

    NAME = "learn"
    PARTS = (LessonPane,)
    STAYS = True
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", id="learn.up", tooltip="the chapter before"),
        Binding("down", "move(1)", "Down", id="learn.down", tooltip="the next chapter"),
        Binding("enter", "open", "Open", id="learn.open", tooltip="into the chapter"),
        Binding("r", "again", "Begin again", id="learn.again", tooltip="the chapter from its beginning"),
        Binding("p", "show('page')", "Your page", id="learn.page", tooltip="your numbers in every formula"),
        Binding("i", "show('sentences')", "In a hurry", id="learn.sentences", tooltip="the sentences on one page"),
        Binding("o", "view", "Its view", id="learn.view", tooltip="the chapter's view, without the lesson"),
        Binding("e", "export", "Export", id="learn.export", tooltip="your page: Markdown, SVG, HTML to print"),
        Binding("y", "copy", "Copy", id="learn.copy", tooltip="your page as Markdown"),
        Binding("m", "model", "Model", id="learn.model", tooltip="another model to learn with"),
        Binding("escape", "back", "Back", id="learn.back", tooltip="all chapters; back to the chat"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.shown = ""
        self.facts: ModelFacts | None = None  # of the model that the pictures are of
        self.pictures: dict[int, LessonPicture] = {}  # that were begun, by their chapter
        self.part = CHAPTERS  # or page, or sentences: what is seen where no chapter is open

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        yield Vertical(id="taught")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        if self.host.tutor is None:
            self.host.tutor = Tutor(course.read(), self.host.home, self.host.start.seed or 0)
        self.models_changed()
        self.reshow()

    def on_screen_resume(self) -> None:
        if self.is_mounted:  # another theme or model may have been chosen elsewhere
            self.host.restyle()
            self.models_changed()
            self.reshow()

    @property
    def tutor(self) -> Tutor:
        assert self.host.tutor is not None
        return self.host.tutor

    @property
    def picture(self) -> LessonPicture | None:
        lesson = self.tutor.lesson
        return None if lesson is None else self.pictures.get(lesson.chapter.number)

    # -- keys --------------------------------------------------------------------------------------------------------

    @property
    def listed(self) -> ChapterList | PageOfNumbers | None:
        """The list that the arrows move in."""
        found = self.query("ChapterList, PageOfNumbers").results()
        return next((each for each in found if isinstance(each, ChapterList | PageOfNumbers)), None)

    def action_move(self, by: int) -> None:
        if self.listed is not None:
            self.listed.move(by)

    def action_open(self) -> None:
        if self.listed is not None:
            self.tutor.open(self.listed.chosen)
            self.on_lesson_pane_lesson_moved()

    def action_again(self) -> None:
        """The chosen chapter from its beginning; its line of the last page stays until there is another."""
        self.action_open()
        if self.tutor.lesson is not None:
            self.tutor.take(self.tutor.lesson.again())
            self.on_lesson_pane_lesson_moved()

    def action_show(self, part: str) -> None:
        """A page in the place of the chapters, or them again."""
        if self.tutor.lesson is None:
            self.part = CHAPTERS if part == self.part else part
            self.reshow()

    def action_view(self) -> None:
        view = self.listed.chosen.view if self.listed is not None else ""
        if view in VIEWS:
            self.host.go(view)
        elif view:
            self.hints.say("its picture is a part of the chapter: ⏎ opens that")

    def action_copy(self) -> None:
        self.host.copy(page.markdown(self.tutor), "your page")

    def action_export(self) -> None:
        """Write the page of numbers to a file that a person names."""
        path = export.free(self.host.home / "learned.html")
        question = "to which file? .md, .svg, or .html to print"
        export_as(self.app, question, path, lambda path: page.write(path, self.tutor), self.hints)

    def action_model(self) -> None:
        self.host.choose_model()

    def action_back(self) -> None:
        if self.tutor.lesson is not None:
            self.on_lesson_pane_lesson_left()
        elif self.part != CHAPTERS:
            self.action_show(CHAPTERS)
        else:
            self.host.go("chat")

    # -- showing -----------------------------------------------------------------------------------------------------

    def lesson_beside(self) -> None:
        self.reshow()
        super().lesson_beside()

    def reshow(self) -> None:
        """The list, the question before a guess, or the picture: as it was left, unless the chapter is begun again."""
        if not self.is_mounted or self.host.tutor is None:
            return
        lesson = self.tutor.lesson
        self._head()
        wanted = self.part
        if lesson is not None:
            wanted = f"{lesson.chapter.number} {'guess' if lesson.stage == PREDICT else 'picture'}"
        if wanted != self.shown or lesson is None:
            self.shown = wanted
            if lesson is not None and lesson.stage == PREDICT:
                self._drop(lesson.chapter.number)
            for each in self.query("#taught > *"):
                each.display = False
                if each not in self.pictures.values():
                    each.remove()
            content = self._content()
            content.display = True
            if not content.is_attached:
                self.query_one("#taught", Vertical).mount(content)
        self._hint()

    def _head(self) -> None:
        """The model, and how far one is that is being made ready."""
        facts, loading = self.host.engine.current, self.host.engine.loading
        name = facts.title or facts.name if facts is not None else loading.model if loading is not None else "no model"
        self.top.show(name, (progress(loading).partition(" ·")[0],) if loading is not None else ())

    def _content(self) -> Widget:
        lesson = self.tutor.lesson
        if lesson is None:
            kind = {CHAPTERS: ChapterList, PAGE: PageOfNumbers, SENTENCES: Sentences}[self.part]
            return kind(self.tutor)
        if lesson.stage == PREDICT or self.tutor.place != self.NAME:
            return Covered(lesson.chapter)
        if self.picture is None:
            picture = self.pictures[lesson.chapter.number] = LESSON_VIEWS[lesson.chapter.view].load()()
            assert isinstance(picture, LessonPicture), f"{lesson.chapter.view} is no picture"
        return self.pictures[lesson.chapter.number]

    def _drop(self, *numbers: int) -> None:
        """Do without the pictures of some chapters."""
        for number in numbers:
            if number in self.pictures:
                self.pictures.pop(number).remove()

    def _hint(self) -> None:
        help_ = (keys.help_key(), "Keys")
        lesson, picture = self.tutor.lesson, self.picture
        if lesson is None:
            own = (("↑↓", "Chapter"), ("⏎", "Go on")) if self.part != SENTENCES else ()
            pages = (("p", "Your page"), ("i", "In a hurry"), ("e", "Export"), ("m", "Model"))
            back = "Chat" if self.part == CHAPTERS else "Chapters"
            self.hints.show((*own, *pages, ("o", "Its view"), ("y", "Copy"), ("esc", back), help_))
            return
        keys_ = picture.KEYS if picture is not None else ()
        mark = tuple(zip("⏎?", DOES.get(lesson.stage, ()), strict=False))
        self.hints.show((*mark, *keys_, ("[ ]", "Chapter"), ("esc", "All chapters"), ("=", "Formula"), help_))

    def set_state(self, state: Mapping[str, str]) -> None:
        picture = self.picture
        if picture is not None:
            if not picture.begun:
                picture.begun = True
                picture.set_state(state)
            if self.tutor.working:
                picture.focus()

    def numbers(self) -> Mapping[str, Value]:
        return self.picture.numbers() if self.picture is not None else {}

    def lacks(self) -> str:
        return (self.picture.failure if self.picture is not None else "") or super().lacks()

    def models_changed(self) -> None:
        """The pictures of another model are gone but for the one that is seen, which begins anew."""
        if self.host.tutor is None:
            return
        facts, before, self.facts = self.host.engine.current, self.facts, self.host.engine.current
        if facts is not None:
            self.tutor.with_model(facts.name)
        if facts is not before:
            picture = self.picture
            self._drop(*(number for number, each in self.pictures.items() if each is not picture))
            if picture is not None:
                picture.models_changed()
            self.reshow()
        elif self.is_mounted:
            self._head()

    def formula(self) -> Formula | None:
        return self.picture.formula() if self.picture is not None else None

    def commands(self) -> Iterator[Command]:
        yield "learn: Your page", "your numbers in every formula", lambda: self.action_show(PAGE)
        yield "learn: In a hurry", "the sentences on one page", lambda: self.action_show(SENTENCES)
        yield "learn: Export…", "your page as Markdown, SVG, or HTML to print", self.action_export
        yield "learn: Another model…", "each has progress of its own", self.action_model
        if self.tutor.lesson is not None:
            yield "learn: All chapters", "what was answered is kept", self.on_lesson_pane_lesson_left


class Covered(LineWidget):
    """In the place of a view that must not be seen before the guess: what the guess is about."""

    def __init__(self, chapter: Chapter) -> None:
        super().__init__()
        self.chapter = chapter

    def lines(self, width: int, height: int) -> Sequence[Line]:
        sheet = Canvas(width, height, self.look, self.glyphs)
        words = (self.chapter.state.get("text", self.chapter.state.get("prompt", "")), BEFORE)
        y = 1
        for text, ink in zip(words, (self.look.text, self.look.faint), strict=True):
            for row in fold(text, max(width - 3, 8)) if text else ():
                sheet.put(1, y, row, ink)
                y += 1
            y += 1
        return sheet.lines()
