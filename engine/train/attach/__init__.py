"""Attaching adapters to a loaded model, alone or several at once.

Read first: stack.py. Uses: posterior.
"""
