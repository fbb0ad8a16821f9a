"""The ground of the screen: theme, keys, tokens as cells of a terminal, plots, the table of views. Knows no view.

Reads: no other room.
"""
