"""Keys, mouse, clipboard and the terminal's control codes. Some modules replace inner parts of Textual.

Read first: key_queue.py. Uses: text.
"""
