"""Small screens over a view: pick, ask, read, choose a model, a conversation, an adapter."""
