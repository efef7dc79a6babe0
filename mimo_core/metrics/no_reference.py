"""Indications of quality that need no reference: sharpness, and PIQE (Venkatanath et al., NCC 2015)."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mimo_core.images.pixels import Pixels, as_8bit

_BLOCK, _SEGMENT = 16, 6
_ACTIVE, _FLAT = 0.1, 0.1
_FINE, _COARSE = 1.0, 4.0
_ROUNDING = 0.2
"""What rounding to 8 bits adds to the variance of a gradient, in squared levels."""


def indications(before: Pixels, after: Pixels) -> dict[str, float | None]:
    """Return the columns of a record for an image and what was made of it, both (H, W, 3) RGB, uint8 or uint16."""
    return {
        "input_sharpness": sharpness(before),
        "sharpness": sharpness(after),
        "input_piqe": piqe(before),
        "piqe": piqe(after),
    }


def sharpness(image: Pixels) -> float:
    """Return how much of the coarse structure of an image is there in fine detail: higher is sharper.

    It is the ratio, in dB, of the energies of the gradients of the luma at two scales (Gaussian, sigma 1 and 4): noise
    and contrast count little, the content does. It compares versions of one image.

    Args:
        image: shape (H, W, 3) RGB, uint8 or uint16.
    """
    luma = _luma(image)
    fine, coarse = (_energy(cv2.GaussianBlur(luma, (0, 0), sigma)) for sigma in (_FINE, _COARSE))
    return 10 * float(np.log10((fine + _ROUNDING / 10) / (coarse + _ROUNDING / 10)))


def piqe(image: Pixels) -> float | None:
    """Return the score of PIQE, 0 (good) to 100; None below 16 pixels.

    Blocks of 16 pixels whose normalised luma varies are looked at: those with a flat stretch of six pixels at their
    border count as distorted, those that vary as much in their middle as around it as noisy.

    Args:
        image: shape (H, W, 3) RGB, uint8 or uint16.
    """
    luma = _luma(image)
    height, width = (side // _BLOCK * _BLOCK for side in luma.shape)
    if not height or not width:
        return None
    mean = cv2.GaussianBlur(luma, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE)
    variance = cv2.GaussianBlur(luma * luma, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE) - mean * mean
    normal = (luma - mean) / (np.sqrt(np.maximum(variance, 0)) + 1)
    rows = normal[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    blocks = rows.transpose(0, 2, 1, 3).reshape(-1, _BLOCK, _BLOCK)
    varied = blocks.var(axis=(1, 2), ddof=1)
    blocks, varied = blocks[varied > _ACTIVE], varied[varied > _ACTIVE]
    if not len(blocks):
        return 100.0
    distorted, noisy = _distorted(blocks), _noisy(blocks)
    total = float(np.sum(np.where(distorted, 1 - varied, 0) + np.where(noisy, varied, 0)))
    return float(np.clip((total + 1) / (len(blocks) + 1) * 100, 0, 100))


def _distorted(blocks: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    segments = np.lib.stride_tricks.sliding_window_view(edges, _SEGMENT, axis=2)
    return np.asarray((segments.std(axis=3, ddof=1) < _FLAT).any(axis=(1, 2)))


def _noisy(blocks: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    middle = _BLOCK // 2
    centre = blocks[:, :, middle - 1 : middle + 1].reshape(len(blocks), -1)
    around = np.concatenate([blocks[:, :, : middle - 1], blocks[:, :, middle + 1 :]], axis=2).reshape(len(blocks), -1)
    whole = blocks.reshape(len(blocks), -1).std(axis=1, ddof=1)
    ratio = centre.std(axis=1, ddof=1) / np.maximum(around.std(axis=1, ddof=1), 1e-9)
    beta = np.abs(whole - ratio) / np.maximum(np.maximum(whole, ratio), 1e-9)
    return np.asarray(whole > 2 * beta)


def _luma(image: Pixels) -> Any:
    return cv2.cvtColor(as_8bit(image), cv2.COLOR_RGB2GRAY).astype(np.float32)


def _energy(plane: Any) -> float:
    right, down = np.diff(plane, axis=1), np.diff(plane, axis=0)
    return float(np.mean(right * right) + np.mean(down * down)) if right.size and down.size else 0.0
