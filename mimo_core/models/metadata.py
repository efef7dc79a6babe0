"""What the header of a weights file says, read without the libraries that compute."""

import json
from pathlib import Path

INT8 = "quantisation"
"""The entry of a safetensors file's metadata that holds what int8 needs."""
_LONGEST_HEADER = 100 << 20


def read_metadata(path: Path) -> dict[str, str] | None:
    """Return the metadata of a local safetensors file, None where it is none or cannot be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < _LONGEST_HEADER else None
    except (OSError, ValueError):
        return None
    metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
    return metadata if isinstance(metadata, dict) else None
