"""Tasks: where items come from and how an answer is checked. No model.

Read first: tasks.py. Uses: no other folder.
"""
