"""MIMO-UNet in NumPy alone, from the parameters of an exported graph, every feature map rounded to float16.

Parameters and features are also multiples of 2**-18, so that products are multiples of 2**-36 and their sums, below
2**17, are exact in float64: the result has the same bits whatever the number of threads, the CPU or the process.
"""

import numpy as np

_FINEST = 2.0**-18


class Network:
    """The last output, or what it adds to its input, for one image (3, H, W) in 0..1."""

    def __init__(self, parameters, blocks, interpolation, residual):
        self._parameters = {name: _rounded(values) for name, values in parameters.items()}
        self._blocks = blocks
        self._bilinear = interpolation == "bilinear"
        self._residual = residual

    def __call__(self, image):
        x = _rounded(image)
        x2 = self._half(x)
        x4 = self._half(x2)
        res1 = self._stage("Encoder.0", self._conv("feat_extract.0", x))
        below = self._conv("feat_extract.1", res1, stride=2)
        res2 = self._stage("Encoder.1", self._attend("FAM2", below, self._shallow("SCM2", x2)))
        below = self._conv("feat_extract.2", res2, stride=2)
        z = self._stage("Encoder.2", self._attend("FAM1", below, self._shallow("SCM1", x4)))
        z_half = self._double(z)
        fused2 = self._fuse("AFFs.1", self._half(res1), res2, z_half)
        fused1 = self._fuse("AFFs.0", res1, self._double(res2), self._double(z_half))
        low = self._stage("Decoder.0", z)
        middle = self._conv("Convs.0", np.concatenate([self._up("feat_extract.3", low), fused2]))
        middle = self._stage("Decoder.1", middle)
        high = self._conv("Convs.1", np.concatenate([self._up("feat_extract.4", middle), fused1]))
        residual = self._conv("feat_extract.5", self._stage("Decoder.2", high), relu=False)
        return (residual if self._residual else residual + x).astype(np.float16)

    def _conv(self, name, x, stride=1, relu=True):
        weight = self._parameters[name + ".main.0.weight"]
        side = weight.shape[2]
        height, width = x.shape[1] // stride, x.shape[2] // stride
        padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        out = np.zeros((len(weight), height * width))
        for row in range(side):
            for column in range(side):
                seen = padded[:, row : row + height * stride : stride, column : column + width * stride : stride]
                out += weight[:, :, row, column] @ seen.reshape(len(x), -1)
        out = out.reshape(-1, height, width) + self._parameters[name + ".main.0.bias"][:, None, None]
        return _rounded(np.maximum(out, 0) if relu else out)

    def _up(self, name, x):
        weight = self._parameters[name + ".main.0.weight"]
        channels, height, width = x.shape
        out = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
        for row in range(4):
            for column in range(4):
                part = weight[:, :, row, column].T @ x.reshape(channels, -1)
                out[:, row : row + 2 * height : 2, column : column + 2 * width : 2] += part.reshape(-1, height, width)
        out = out[:, 1:-1, 1:-1] + self._parameters[name + ".main.0.bias"][:, None, None]
        return _rounded(np.maximum(out, 0))

    def _stage(self, name, x):
        for index in range(self._blocks):
            block = f"{name}.layers.{index}.main."
            x = _rounded(x + self._conv(block + "1", self._conv(block + "0", x), relu=False))
        return x

    def _shallow(self, name, image):
        features = image
        for index in range(4):
            features = self._conv(f"{name}.main.{index}", features)
        return self._conv(name + ".conv", np.concatenate([image, features]), relu=False)

    def _attend(self, name, above, shallow):
        return _rounded(above + self._conv(name + ".merge", _rounded(above * shallow), relu=False))

    def _fuse(self, name, *features):
        return self._conv(name + ".conv.1", self._conv(name + ".conv.0", np.concatenate(features)), relu=False)

    def _half(self, x):
        if not self._bilinear:
            return x[:, ::2, ::2]
        return _rounded((x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4)

    def _double(self, x):
        for axis in (1, 2):
            before = after = x
            if self._bilinear:
                index = np.arange(x.shape[axis])
                before = 0.75 * x + 0.25 * np.take(x, np.maximum(index - 1, 0), axis)
                after = 0.75 * x + 0.25 * np.take(x, np.minimum(index + 1, index[-1]), axis)
            shape = list(x.shape)
            shape[axis] *= 2
            x = np.stack([before, after], axis + 1).reshape(shape)
        return _rounded(x)


def _rounded(x):
    # What is too large for float16 becomes infinite, as on a card.
    with np.errstate(over="ignore"):
        halves = x.astype(np.float16).astype(np.float64)
    return np.rint(halves / _FINEST) * _FINEST
