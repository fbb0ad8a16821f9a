"""Pages of the inside view: what a model does between a text and its next word, drawn from plain data.

Reads: base, chat.
"""
