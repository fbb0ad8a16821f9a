"""Faces of text: what Markdown and code make of words, as bits that add up. Colours are the theme's."""

BOLD = 1
ITALIC = 2
STRIKE = 4
LINK = 8
TITLE = 16  # of a heading, or of a table's columns
CODE = 32  # on the ground of code
MARKUP = 64  # signs that are no words: bullets, rules, and what is shown raw
RULE = 4096  # a line across: no word that could be tinted
# in code
KEYWORD = 128
STRING = 256
COMMENT = 512
NUMBER = 1024
NAME = 2048  # of a function or a class where it is defined, of a tag
