"""The base that every other folder of the engine builds on: errors, array functions, options and objectives. It knows
no model.

Read first: errors.py. Uses: no other folder.
"""
