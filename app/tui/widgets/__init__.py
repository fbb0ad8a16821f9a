"""The parts that views are made of: each draws one thing, and says by messages what a person does to it.

Reads: base, chat, training.
"""
