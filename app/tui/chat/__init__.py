"""A conversation on the screen as plain data: its session, what is known of each token, what is saved. No widgets.

Reads: base.
"""
