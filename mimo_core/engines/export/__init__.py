"""The network in formats that other runtimes and compilers read."""
