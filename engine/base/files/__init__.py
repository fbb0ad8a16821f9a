"""Reading and writing files safely: a write is whole or absent, and JSON from elsewhere is checked. It also knows the
home folder, locks and preferences.

Read first: whole_file.py. Uses: no other folder.
"""
