"""The workers of a run: the actor, the pool that feeds them, and the scheduler that starts them."""
