"""The commands, one module each. A module's `command` is the click command.

Read first: run.py. Uses: evaluation, generate, options, reports.
"""
