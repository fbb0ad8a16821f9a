"""The course: chapters as data, the lesson that a person is in, what was answered, and what is left of it on paper.

A chapter is one TOML file (`chapter`), read by nobody but `course`. Knows no screen: what a chapter's view has measured
comes as numbers by name, which `lesson_views` lists.

Reads: no other room.
"""
