"""Model families: each maps a Hugging Face configuration and weight names to the one transformer."""
