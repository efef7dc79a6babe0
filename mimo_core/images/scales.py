"""The scales of an image's passes from coarse to fine, as people write them."""

import re
from itertools import pairwise

AUTO = "auto"
"""Chosen for each image."""
FULL = "1"
"""Full size alone."""
JUDGED_FACTORS = (4, 2, 1)
"""By how much smaller an image is, each time, when `auto` judges what it needs."""
_LARGEST = 16
_SCALE = re.compile(r"1(?:/([1-9]\d?))?")


def check_scales(text: str) -> str:
    """Return `auto` or scales as `format_scales` writes them; raises as `parse_scales` does."""
    return AUTO if text == AUTO else format_scales(parse_scales(text))


def parse_scales(text: str) -> tuple[int, ...]:
    """Return by how much the image is shrunk for each pass: `1/4,1/2,1` gives (4, 2, 1).

    Raises:
        ValueError: no such scales, or not from coarse to fine.
    """
    matches = [_SCALE.fullmatch(part.strip()) for part in text.split(",")]
    if not all(matches):
        raise ValueError(f"expected auto, or scales from coarse to fine such as 1, 1/2 or 1/4,1/2, found {text!r}")
    factors = tuple(int(match[1] or 1) for match in matches if match is not None)
    if any(fine >= coarse for coarse, fine in pairwise(factors)):
        raise ValueError(f"scales go from coarse to fine and each comes once, found {text!r}")
    if factors[0] > _LARGEST:
        raise ValueError(f"the coarsest scale is 1/{_LARGEST}, found {text!r}")
    return factors


def format_scales(factors: tuple[int, ...]) -> str:
    """Return scales as people write them: (4, 2, 1) gives `1/4,1/2,1`."""
    return ",".join(FULL if factor == 1 else f"1/{factor}" for factor in factors)
