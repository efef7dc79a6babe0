"""One run on storage: its configuration, plan, lease, records and totals."""
