"""Text and units that the command line and the screen share. It knows no store, no screen and no model.

Read first: units.py. Uses: no other folder.
"""
