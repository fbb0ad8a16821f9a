"""Everything the screen knows about a selected token: candidates, formulas, rankings and comparisons. It has no
widgets.

Read first: inspection.py. Uses: no other folder.
"""
