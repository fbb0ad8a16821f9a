"""The views of the screen, one a file."""
