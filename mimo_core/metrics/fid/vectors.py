"""The vectors that the Inception network makes of an image and of its reference."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mimo_core.errors import UsageError

LENGTH = 2048
"""Numbers that the Inception network tells of an image."""


RELIABLE = 2048
"""Images below which the covariance of the features is singular, and FID depends on the number of images a lot."""


KINDS = ("input", "output", "reference")


Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Features:
    """What the Inception network tells of an image before and after, and of its reference: (2048,) float32 each."""

    input: Array
    output: Array
    reference: Array

    def __post_init__(self) -> None:
        """Refuse other shapes and types."""
        for kind in KINDS:
            array: Array = getattr(self, kind)
            if array.shape != (LENGTH,) or array.dtype != np.float32:
                raise UsageError(f"features are {LENGTH} float32, not {array.dtype} of shape {array.shape}")
