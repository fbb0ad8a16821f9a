"""The next-token distribution and every operation on it. Functions return values, yield events or raise; nothing here
prints.

Read first: decode/session.py.
"""
