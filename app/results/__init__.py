"""Results and plans in the form a person reads: reports, scoreboards and verdicts. Both the command line and the
screen show them.

Read first: scoreboard.py. Uses: store, words.
"""
