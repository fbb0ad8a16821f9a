"""Canvas, plots and strips drawn with characters. A widget that paints its own lines starts from `line_widget.py`.

Read first: canvas.py. Uses: text.
"""
