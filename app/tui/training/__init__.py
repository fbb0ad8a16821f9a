"""A training on the screen as plain data: its history, its state in words, its probes. No widgets.

Reads: base, chat.
"""
