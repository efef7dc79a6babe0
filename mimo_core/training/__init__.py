"""Training: data with real or synthesised motion blur, the loss, the loop, checkpoints and validation."""
