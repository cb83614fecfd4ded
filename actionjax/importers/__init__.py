"""Foreign checkpoints to variables. No network code."""
