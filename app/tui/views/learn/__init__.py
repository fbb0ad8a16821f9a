"""The course on the screen: the list of its chapters, and the pictures that are a chapter's own, a widget a file.

A chapter whose view is a full-screen one has its lesson beside that very view (`View.lesson_beside`); one whose view is
a picture has it here. To add a picture: a file with a `LessonPicture` (`picture.py`; `orders.py` is one), and a line of
`app.lessons.lesson_views` that names it, its numbers and its state; then `view = "its name"` in a chapter.

Reads: no other room.
"""
