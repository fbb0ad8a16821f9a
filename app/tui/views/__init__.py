"""The views of the screen, one a file, and what works on a whole one: commands, step mode, help, the palette.

Reads: base, chat, dialogs, inside, training, widgets.
"""
