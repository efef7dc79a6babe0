"""The report: one self-contained page about a run, several runs side by side, or a sweep."""
