"""`likely learn`: the course, on the full screen; its chapters and how far each is, as a list."""

import json
import sys
from pathlib import Path

import click

from likely.app.cli.options.opening import draws_no_screen, model_option, on_terminal
from likely.app.words.heat import sanitize_line


@click.command("learn")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@model_option
@click.option("--list", "listed", is_flag=True, help="The chapters, and how far each is with the model.")
@click.option(
    "--write",
    "to",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your numbers with the model in every formula: .md, .svg, or .html to print.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as one object on stdout.")
def command(folder: Path | None, model: str, listed: bool, to: Path | None, as_json: bool) -> None:
    """Learn what a language model is, in twelve chapters on a model of yours: guess, see, reckon.

    FOLDER has chapters of your own, a TOML file each; what is wrong in them is said in one line.

    \b
    likely learn                  the course
    likely learn --list           its chapters, and how far each is
    likely learn --write me.html  your numbers in every formula, to print
    likely learn my-course        chapters of your own (docs/learn.md)
    """
    from likely.app.lessons import course as courses
    from likely.app.lessons import page
    from likely.app.lessons.tutor import Tutor
    from likely.engine.base.files import preferences
    from likely.engine.base.files.home import home

    tutor = Tutor(courses.read(folder), home())
    tutor.with_model(model or preferences.chosen())
    if to is not None:
        page.write(to, tutor)
        click.echo(sanitize_line(f"written: {to}"), err=True)
        return
    if listed or as_json:
        rows = [
            {
                "number": each.number, "title": each.title, "sentence": each.sentence, "view": each.view,
                "predicted": it.right, "done": bool(it.done), "checked": it.checked, "checks": len(each.check),
                "yours": list(it.yours),
            }
            for each in tutor.course.chapters
            for it in [tutor.standing(each)]
        ]  # fmt: skip
        if as_json:
            click.echo(json.dumps({"course": tutor.course.name, "model": tutor.model, "chapters": rows}))
            return
        for each in tutor.course.chapters:
            dots = "".join("●" if stage else "○" for stage in tutor.standing(each).stages(each))
            click.echo(sanitize_line(f"{each.number:>3}  {dots}  {each.title:<16} {each.sentence}"))
        return
    if draws_no_screen() or not on_terminal():
        raise click.UsageError("the course needs a terminal that draws a full screen; --list prints its chapters")
    from likely.app.tui import learn

    sys.exit(learn(tutor, model or None))
