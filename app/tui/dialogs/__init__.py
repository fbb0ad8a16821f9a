"""Screens over a view, for one choice: a model, a conversation, an adapter, rows, a file; and the one that opens.

Reads: base, chat, training, widgets.
"""
