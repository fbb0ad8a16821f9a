"""Lists to choose from: candidates, conversations, search results and menus.

Read first: choices.py. Uses: no other folder.
"""
