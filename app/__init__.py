"""Everything a person touches: the command line, the screen, the server and what they store. Only this folder prints,
reads settings or imports Textual.

Read first: __main__.py.
"""
