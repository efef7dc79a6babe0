"""One driver's work on a run: results put together, judged and committed."""
