"""The course: chapters, exercises, marking and progress. The pages are TOML files in `chapters/`.

Read first: course.py. Uses: results, words.
"""
