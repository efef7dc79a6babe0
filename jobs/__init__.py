"""What `ray job submit` runs from a clone: one file a job. They are not installed; `mimo` is."""
