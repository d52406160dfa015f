"""How a recogniser learns: losses, samplers, optimisers, the trainer, checkpoints and the loss log."""
