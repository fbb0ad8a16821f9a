"""Tool calls: how a model's template writes them, and the choice between tools as a distribution.

Read first: tool.py. Uses: no other folder.
"""
