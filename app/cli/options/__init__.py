"""Options that several commands share, and the rules for which can be combined. It also opens the model that a
command names.

Read first: opening.py. Uses: no other folder.
"""
