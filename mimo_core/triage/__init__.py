"""A fast look at an image, without the network: what blurs it, and what restoring it would gain."""
