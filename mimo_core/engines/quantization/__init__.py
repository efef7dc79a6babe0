"""From float weights to int8: ranges are observed, methods tried, and their cost is measured."""
