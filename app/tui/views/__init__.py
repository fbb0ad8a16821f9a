"""The full screens, one module for each view. The table of views in `base/view_table.py` lists them.

Read first: view.py. Uses: base, chat, dialogs, inside, training, widgets.
"""
