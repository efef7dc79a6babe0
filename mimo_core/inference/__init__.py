"""Images through a session: tiles, batches, stages and the pipeline that overlaps them."""
