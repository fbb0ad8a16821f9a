"""A published configuration and its tensors, read: checked keys, packed layouts, the model put together."""
