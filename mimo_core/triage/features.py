"""What a fast look sees of an image: statistics of its gradients at several scales."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float64]

SCALES = 4
"""The image itself, and made 2, 4 and 8 times smaller."""

_WINDOW = 256
_WINDOWS_A_SIDE = 3
_SMALLEST = 64
_ROUNDING = 0.2
"""Energy of the gradients that rounding to 8 bits makes, in squared levels: where there is no more, nothing is."""
_STEEPNESS = (0.1, 0.5, 0.9)
_LAGS = (1, 2, 4)
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))


def features(gray: Gray) -> Vector | None:
    """Return the statistics of an image, None where it is too small to be judged.

    They are taken over up to nine windows spread evenly and averaged with weights by what each window shows at a
    quarter of its size, where blur hardly counts: a sky tells nothing.

    Args:
        gray: shape (H, W).

    Returns:
        Shape (N,), all finite. N does not depend on the image.
    """
    if min(gray.shape) < _SMALLEST:
        return None
    rows, weights = [], []
    for window in _windows(gray):
        row, weight = _of_window(window.astype(np.float32))
        rows.append(row)
        weights.append(weight)
    table, shares = np.array(rows), np.array(weights) / np.sum(weights)
    means = shares @ table
    # Something may move before a sharp ground.
    spread = np.sqrt(shares @ (table[:, :2] - means[:2]) ** 2)
    return np.concatenate([means, spread])


def _windows(gray: Gray) -> list[Gray]:
    height, width = gray.shape
    places = [number / (_WINDOWS_A_SIDE - 1) for number in range(_WINDOWS_A_SIDE)]
    tops = sorted({round(max(0, height - _WINDOW) * place) for place in places})
    lefts = sorted({round(max(0, width - _WINDOW) * place) for place in places})
    return [gray[top : top + _WINDOW, left : left + _WINDOW] for top in tops for left in lefts]


def _of_window(plane: Any) -> tuple[Vector, float]:
    energies, values = [], []
    weight = 0.0
    for scale in range(SCALES):
        steps = [_difference(plane, step) for step in _DIRECTIONS]
        squares = [_product(step, step) for step in steps]
        energy = squares[0] + squares[1] + _ROUNDING
        energies.append(np.log(energy))
        # Straight motion leaves the gradients across it.
        directed = np.log(np.array(squares) + _ROUNDING) - np.log([1.0, 1.0, 2.0, 2.0])
        values += [float(np.ptp(directed[:2])), float(np.ptp(directed[2:])), float(np.ptp(directed))]
        # Edges of sharp images are few and steep.
        size = np.abs(steps[0][::2, ::2])
        values.append(float(np.log((np.quantile(size, 0.99) + 0.5) / (np.mean(size) + 0.5))))
        values += _edges(plane)
        # Blur makes neighbouring gradients alike, and opposite beyond its ends.
        alike = [[_correlation(steps[axis], axis, lag, squares[axis]) for lag in _LAGS] for axis in (0, 1)]
        values += [*np.max(alike, axis=0), *np.min(alike, axis=0)]
        if scale == 0:
            second = _difference(_difference(plane, (0, 1)), (1, 0))
            values.append(float(np.log(np.median(np.abs(second[::2, ::2])) + 0.5)))
        if scale == 2:
            weight = float(np.sqrt(energy))
        plane = cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.array([*np.diff(energies), energies[0], *values]), weight


def _edges(plane: Any) -> list[float]:
    """Return how steep the strongest edges are: quantiles of what a slight blur leaves of their gradients, as logs."""
    before, after = (_slope(one) for one in (plane, cv2.GaussianBlur(plane, (0, 0), 1.0)))
    edges = after >= max(float(np.quantile(after[::2, ::2], 0.95)), 1.0)
    if not edges.any():
        return [0.0] * len(_STEEPNESS)
    ratios = np.sort(np.log((before[edges] + 0.1) / (after[edges] + 0.1))) / 2
    return [float(ratios[int(share * (len(ratios) - 1))]) for share in _STEEPNESS]


def _slope(plane: Any) -> Any:
    """Return the squared gradient at every pixel."""
    return cv2.Sobel(plane, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(plane, cv2.CV_32F, 0, 1) ** 2


def _difference(plane: Any, step: tuple[int, int]) -> Any:
    """Return the differences of neighbours so many (rows, columns) apart; columns may be negative."""
    down, right = step
    height, width = plane.shape
    first = plane[: height - down, max(0, -right) : width - max(0, right)]
    return plane[down:, max(0, right) : width + min(0, right)] - first


def _product(first: Any, second: Any) -> float:
    """Return the mean of the product of two planes."""
    total = float(np.einsum("ij,ij", first, second))
    return total / int(first.size)


def _correlation(step: Any, axis: int, lag: int, square: float) -> float:
    """Return the correlation of differences along an axis (0: along rows) with themselves, `lag` further on."""
    first, second = (step[:, :-lag], step[:, lag:]) if axis == 0 else (step[:-lag], step[lag:])
    return _product(first, second) / (square + _ROUNDING)
