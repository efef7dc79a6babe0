"""The names of the network's variants: the paper's two, the lite one for CPUs, and `mimo-unet-w<width>-r<blocks>`."""

import re

VARIANTS = {"mimo-unet": (32, 8), "mimo-unet-plus": (32, 20), "mimo-unet-lite": (16, 4)}
"""Width (channels at full scale) and residual blocks of each stage, by name."""

_OTHER = re.compile(r"mimo-unet-w([1-9]\d*)-r([1-9]\d*)")


def variant_name(width: int, num_res: int) -> str:
    """Return the name of a variant by its width and its residual blocks."""
    other = f"mimo-unet-w{width}-r{num_res}"
    return next((name for name, shape in VARIANTS.items() if shape == (width, num_res)), other)


def parse_variant(name: str) -> tuple[int, int]:
    """Width and residual blocks of a variant by its name.

    Raises:
        ValueError: there is no such variant.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    match = _OTHER.fullmatch(name)
    if match is None:
        raise ValueError(f"expected {', '.join(VARIANTS)} or mimo-unet-w<width>-r<blocks>, found {name!r}")
    return int(match[1]), int(match[2])
