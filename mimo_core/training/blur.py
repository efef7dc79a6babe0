"""Motion blur as a camera makes it: a shaken exposure of a scene in which objects move, sensor noise, 8-bit values."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mimo_core.errors import UsageError
from mimo_core.images.pixels import Pixels8

Linear = NDArray[np.float32]

_MAX_STEP = 0.75
"""Largest distance in pixels between two instants of the exposure: below the finest detail's half period."""
_MAX_INSTANTS = 96


@dataclass(frozen=True)
class Shake:
    """How cameras shake and sensors see; one draw of it makes one blurred photograph.

    Args:
        min_extent: smallest extent of the trajectory in pixels (the largest distance between two of its points).
        max_extent: largest extent in pixels. Extents are drawn between the two, uniformly.
        rotation: largest share of the extent that rotation adds at the image's corners; 0 leaves it out.
        bend: how much the velocity changes during the exposure; 0 is a straight line at constant speed.
        read_noise: largest standard deviation of the noise in the dark, of linear light 0..1.
        shot_noise: largest variance of the noise per unit of linear light.
        moving: share of the scenes in which something moves on its own, over what the camera does.
        encoded: share of the exposures that are means of encoded values instead of light, without noise: so were the
            blurred images of GoPro (its folder `blur`, not `blur_gamma`) and other sets of averaged frames made.
    """

    min_extent: float = 0.0
    max_extent: float = 9.0
    rotation: float = 0.3
    bend: float = 0.5
    read_noise: float = 4e-4
    shot_noise: float = 8e-5
    moving: float = 0.0
    encoded: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_extent <= self.max_extent:
            raise UsageError(f"blur extents must be 0 <= min <= max, not {self.min_extent} and {self.max_extent}")
        if min(self.rotation, self.bend, self.read_noise, self.shot_noise) < 0.0:
            raise UsageError("rotation, bend and noise of the blur must not be negative")
        if not (0.0 <= self.moving <= 1.0 and 0.0 <= self.encoded <= 1.0):
            raise UsageError(f"moving and encoded are shares from 0 to 1, not {self.moving} and {self.encoded}")

    @property
    def margin(self) -> int:
        """Pixels on each side of a crop that the blur may look at."""
        return math.ceil(self.max_extent * (0.5 + self.rotation)) + 2


def to_linear(pixels: Pixels8) -> Linear:
    """Return 8-bit sRGB values as linear light 0..1 (IEC 61966-2-1), same shape."""
    return np.asarray(_LINEAR[pixels])


def to_srgb(linear: Linear) -> Pixels8:
    """Linear light as 8-bit sRGB, clipped to 0..1 and rounded, same shape."""
    clipped = np.clip(linear, 0.0, 1.0)
    # A table of 2^14 entries with its root-spaced index is exact to 0.1 of a level, and ten times faster than a power.
    index = cv2.sqrt(clipped) * np.float32(len(_SRGB) - 1)
    return np.asarray(_SRGB[np.rint(index).astype(np.uint16)])


def trajectory(rng: np.random.Generator, extent: float, bend: float = 0.5) -> NDArray[np.float64]:
    """Return a camera's path over one exposure, at equal intervals of time.

    The velocity is a constant plus a few slow random swings, so that the path is smooth, bends, slows down and
    sometimes turns back. Its centroid is the origin: the blur of a photograph tells nothing of a shift.

    Args:
        rng: source of chance; the same state gives the same path.
        extent: largest distance between two points of the path, in pixels.
        bend: how much the velocity varies; 0 gives a straight line.

    Returns:
        Shape (n, 2), x and y in pixels; n grows with the extent so that steps stay below one pixel.
    """
    if extent <= 0.0:
        return np.zeros((1, 2))
    fine = np.linspace(0.0, 1.0, 257)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    velocity = np.tile([np.cos(angle), np.sin(angle)], (len(fine), 1))
    for swings in (1, 2, 3):
        amplitude = bend * rng.normal(0.0, 0.9, 2) / swings
        phase = rng.uniform(0.0, 2.0 * np.pi, 2)
        velocity += amplitude * np.cos(np.pi * swings * fine[:, None] + phase)
    path = np.cumsum(velocity, axis=0) / len(fine)
    hull = cv2.convexHull(path.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    widest = np.linalg.norm(hull[:, None] - hull[None], axis=-1).max()
    path *= extent / max(widest, 1e-9)
    longest_step = np.linalg.norm(np.diff(path, axis=0), axis=1).max() * (len(fine) - 1)
    instants = int(np.clip(math.ceil(longest_step / _MAX_STEP) + 1, 3, _MAX_INSTANTS))
    # Instants in the middle of equal intervals: each stands for the same share of the light.
    middle = (np.arange(instants) + 0.5) / instants
    chosen = np.stack([np.interp(middle, fine, path[:, axis]) for axis in (0, 1)], axis=1)
    return np.asarray(chosen - chosen.mean(axis=0))


def expose(
    scene: Linear,
    rng: np.random.Generator,
    shake: Shake,
    *,
    extent: float | None = None,
    moving_object: "MovingObject | None" = None,
) -> Linear:
    """Return one exposure by a shaking camera.

    Args:
        scene: values 0..1, linear light if the exposure is to be physical, shape (H, W, 3). Beyond its borders it is
            mirrored; give `shake.margin` pixels more than needed on each side and cut them off to see no mirror.
        rng: source of chance.
        shake: how the camera shakes.
        extent: extent of this trajectory in pixels; drawn from `shake` where None.
        moving_object: what moves in front of the scene on a path of its own; None exposes a still scene.

    Returns:
        The mean of the scene over the exposure, same shape, without noise.
    """
    if extent is None:
        extent = float(rng.uniform(shake.min_extent, shake.max_extent))
    path = trajectory(rng, extent, shake.bend)
    turn = trajectory(rng, extent, shake.bend)[:, :1] if extent > 0.0 else np.zeros((1, 1))
    height, width = scene.shape[:2]
    # Radians such that a corner moves by `rotation` times what `turn` moves.
    reach = shake.rotation * rng.uniform(0.0, 1.0) / (0.5 * math.hypot(height, width))
    instants = max(len(path), len(moving_object.path) if moving_object is not None else 1)
    path, turn = resample(path, instants), resample(turn, instants)
    own = resample(moving_object.path, instants) if moving_object is not None else None
    if instants == 1:
        return np.array(scene if moving_object is None else moving_object.over(scene))
    total = np.zeros_like(scene)
    for instant in range(instants):
        angle = turn[instant, 0] * reach
        moved = _moved(scene, path[instant], angle)
        if moving_object is not None and own is not None:
            moved = moving_object.over(moved, path[instant] + own[instant], angle)
        cv2.accumulate(moved, total)
    total /= np.float32(instants)
    return np.asarray(np.clip(total, 0.0, 1.0))


@dataclass(frozen=True)
class MovingObject:
    """Something that moves in front of a scene.

    Attributes:
        cutout: values 0..1 of shape (H, W, 4): colours times coverage, and coverage.
        path: where it is at equal intervals of time, relative to the scene, shape (n, 2) in pixels.
    """

    cutout: Linear
    path: NDArray[np.float64]

    def over(self, scene: Linear, shift: NDArray[np.float64] | None = None, angle: float = 0.0) -> Linear:
        """Return the scene with the object in front of it, moved by `shift` pixels and turned by `angle` radians."""
        cutout = self.cutout if shift is None else _moved(self.cutout, shift, angle)
        return np.asarray(scene * (1.0 - cutout[..., 3:]) + cutout[..., :3])


def draw_object(scene: Linear, rng: np.random.Generator, shake: Shake) -> MovingObject:
    """Return a piece of the scene, turned around and cut out along a random smooth outline, with a path of its own."""
    height, width = scene.shape[:2]
    waves = rng.standard_normal((int(rng.integers(3, 7)), int(rng.integers(3, 7))), dtype=np.float32)
    relief = cv2.resize(waves, (width, height), interpolation=cv2.INTER_CUBIC)
    level = float(np.quantile(relief, rng.uniform(0.5, 0.9)))
    # An edge of about one pixel, as a sharp lens draws it.
    slope = np.abs(np.gradient(relief)).sum(axis=0).mean()
    coverage = np.clip((relief - level) / max(float(slope), 1e-6) + 0.5, 0.0, 1.0)[..., None]
    cutout = np.concatenate([scene[::-1, ::-1] * coverage, coverage], axis=2)
    return MovingObject(cutout, trajectory(rng, float(rng.uniform(shake.min_extent, shake.max_extent)), shake.bend))


def resample(path: NDArray[np.float64], instants: int) -> NDArray[np.float64]:
    """Return the same path at another number of instants, shape (instants, columns)."""
    if len(path) == instants:
        return path
    old, new = np.linspace(0.0, 1.0, len(path)), np.linspace(0.0, 1.0, instants)
    return np.stack([np.interp(new, old, column) for column in path.T], axis=1)


def _moved(image: Linear, shift: NDArray[np.float64], angle: float) -> Linear:
    """Return the image turned around its middle by `angle` radians and moved by `shift` pixels (x, y)."""
    height, width = image.shape[:2]
    centre_x, centre_y = (width - 1) / 2.0, (height - 1) / 2.0
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = np.array(
        [
            [cosine, -sine, centre_x - cosine * centre_x + sine * centre_y + shift[0]],
            [sine, cosine, centre_y - sine * centre_x - cosine * centre_y + shift[1]],
        ]
    )
    flags, border = cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=border))


def add_noise(linear: Linear, rng: np.random.Generator, shake: Shake) -> Linear:
    """Shot and read noise of a sensor, of a strength drawn between none and the shake's; same shape."""
    strength = float(rng.uniform(0.0, 1.0))
    if strength * max(shake.read_noise, shake.shot_noise) == 0.0:
        return linear
    variance = (strength * shake.read_noise) ** 2 + strength**2 * shake.shot_noise * linear
    noise = rng.standard_normal(linear.shape, dtype=np.float32)
    return np.asarray(linear + noise * cv2.sqrt(variance), dtype=np.float32)


def photograph(sharp: Pixels8, rng: np.random.Generator, shake: Shake, *, extent: float | None = None) -> Pixels8:
    """Return what a shaking camera makes of a still scene: 8-bit sRGB, shape (H, W, 3), same size.

    Args:
        sharp: 8-bit sRGB, shape (H, W, 3).
        rng: source of chance; the same state gives the same photograph.
        shake: how the camera shakes and how noisy its sensor is.
        extent: extent of the trajectory in pixels; drawn from `shake` where None.
    """
    return to_srgb(add_noise(expose(to_linear(sharp), rng, shake, extent=extent), rng, shake))


def photograph_scene(scene: Pixels8, rng: np.random.Generator, shake: Shake) -> tuple[Pixels8, Pixels8]:
    """Return (blurred, sharp): a scene in which something may move, as a shaking camera sees it and as it is.

    Args:
        scene: 8-bit sRGB, shape (H, W, 3).
        rng: source of chance; the same state gives the same pair.
        shake: how camera and objects move; `moving` and `encoded` say how often.

    Returns:
        Two 8-bit sRGB images of the scene's shape. Where something moves, it is in the sharp one too, in the middle
        of its path.
    """
    moving, encoded = (share > 0.0 and rng.uniform() < share for share in (shake.moving, shake.encoded))
    values = scene.astype(np.float32) / np.float32(255.0) if encoded else to_linear(scene)
    moving_object = draw_object(values, rng, shake) if moving else None
    exposed = expose(values, rng, shake, moving_object=moving_object)
    sharp = values if moving_object is None else moving_object.over(values)
    if encoded:
        return _to_8_bits(exposed), _to_8_bits(sharp)
    return to_srgb(add_noise(exposed, rng, shake)), scene if moving_object is None else to_srgb(sharp)


def _to_8_bits(values: Linear) -> Pixels8:
    return np.asarray(np.rint(np.clip(values, 0.0, 1.0) * np.float32(255.0)), dtype=np.uint8)


def _linear_table() -> Linear:
    values = np.arange(256, dtype=np.float64) / 255.0
    curve = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return curve.astype(np.float32)


def _srgb_table() -> Pixels8:
    light = np.linspace(0.0, 1.0, 1 << 14) ** 2
    curve = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1.0 / 2.4) - 0.055)
    return np.rint(curve * 255.0).astype(np.uint8)


_LINEAR = _linear_table()
_SRGB = _srgb_table()
