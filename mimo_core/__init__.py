"""Images, the MIMO-UNet network, storage, plans and records: everything a run needs that is not Ray."""
