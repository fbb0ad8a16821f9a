"""Text as rows of terminal cells, token by token: wrapping, blocks, layouts. Plain data; no widgets, no engine."""
