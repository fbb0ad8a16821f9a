"""The compare view: one prompt in several columns, each with its own model or settings.

Read first: compare.py. Uses: no other folder.
"""
