"""Widgets that views compose. The loose files are the large panels, and the folders hold their parts.

Read first: host.py. Uses: base, chat, training.
"""
