"""Parts of `likely eval`: its samples, variations and printed results.

Read first: eval_output.py. Uses: options.
"""
