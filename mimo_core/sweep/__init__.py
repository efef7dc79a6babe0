"""Sweeps: many evaluations over a grid of choices, and the one table that they end in."""
