"""Conversations as an immutable tree, and tools that a model may call.

Read first: conversation.py. Uses: base, decode, inside, sampling, text.
"""
