"""A session that returns its input: isolates everything around the network, for tests and diagnosis."""

import numpy as np
import numpy.typing as npt

from mimo_core.engines.base import SessionLimits, SessionSpec, check_batch
from mimo_core.images.pixels import Pixels


class IdentitySession:
    """Returns every batch as it came."""

    def __init__(self, spec: SessionSpec) -> None:
        self.limits = SessionLimits()
        self.device_name = spec.device

    def restore(self, batch: Pixels) -> Pixels:
        """Return the batch itself; see `Session.restore`."""
        check_batch(batch, self.limits)
        return batch

    def restore_float(self, batch: Pixels) -> npt.NDArray[np.float32]:
        """Return the batch as float32 0..1; see `Session.restore_float`."""
        check_batch(batch, self.limits)
        scaled: npt.NDArray[np.float32] = np.divide(batch, np.float32(np.iinfo(batch.dtype).max), dtype=np.float32)
        return scaled

    def close(self) -> None:
        """Nothing is held."""
