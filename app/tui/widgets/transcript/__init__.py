"""The transcript: rows of tokens, their tint, the scroll bar and the tree of branches.

Read first: token_view.py. Uses: no other folder.
"""
