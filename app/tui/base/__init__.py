"""The ground of the screen: theme, keys, cells of text and their layout, plots, the names of views. Knows no widget."""
