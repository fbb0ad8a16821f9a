"""From a prompt to tokens: sessions, KV caches shared between prompts, and the table of strategies.

Read first: session.py. Uses: base, sampling, text, weights.
"""
