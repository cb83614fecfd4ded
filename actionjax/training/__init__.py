"""Training by gradient: state, steps, losses, optimisers, checkpoints and the loop."""
