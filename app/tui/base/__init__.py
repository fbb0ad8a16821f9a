"""The parts that every screen needs: the theme, keys, the table of views and the client of the engine thread. It
knows no view.

Read first: view_table.py. Uses: no other folder.
"""
