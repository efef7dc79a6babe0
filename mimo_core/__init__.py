"""Images, the MIMO-UNet network, storage, plans and records: everything a run needs that is not Ray."""

__version__ = "0.1.0"
