"""The course view and the pictures of its pages. A picture is one file with a widget.

Read first: screen.py. Uses: no other folder.
"""
