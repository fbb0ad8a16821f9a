"""Printed results of the other commands: estimate, inside, scale, synth and tune.

Read first: inside_text.py. Uses: options.
"""
