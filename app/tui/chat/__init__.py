"""A conversation on the screen as plain data: its session, prompts, places and what is saved. No widgets."""
