"""Fields to type in: the prompt, the composer, the message editor and the sampling sliders.

Read first: composer.py. Uses: lists, transcript.
"""
