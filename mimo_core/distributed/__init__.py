"""What knows Ray: the worker actor, the pool that feeds it and the accelerators that a node has."""
