"""Training: optimizers, the learner, the one host loop, checkpoints and records."""
