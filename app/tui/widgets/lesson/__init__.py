"""A page of the course and its rows.

Read first: lesson_pane.py. Uses: no other folder.
"""
