"""Text as terminal cells: wrapping, Markdown, tables, formulas and code. Each token keeps its position on the screen.

Read first: wrap.py. Uses: no other folder.
"""
