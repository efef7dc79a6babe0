"""The MIMO-UNet network (arXiv:2108.05054), any width and depth, parameters named as in official checkpoints."""

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody knows it by)
from torch import Tensor, nn

from mimo_core.errors import UsageError
from mimo_core.models.architecture import Interpolation, check_architecture
from mimo_core.models.weights import Floats, Weights

_DROPOUT_OF_PLUS = 0.1


class MimoUNet(nn.Module):
    """Three-scale deblurring network: one encoder-decoder that reads and writes the image at 1, 1/2 and 1/4.

    Args:
        width: channels at full scale; twice and four times as many below. A multiple of 4, at least 8.
        num_res: residual blocks in each of the six stages (8 in MIMO-UNet, 20 in MIMO-UNet+).
        interpolation: how images and features are halved and doubled. Official weights were trained with
            `nearest`; `bilinear` (align_corners False) is what VACC's compiler takes at any size.
        dropout: probability of dropping a fused feature map while training (0.1 in MIMO-UNet+).

    Raises:
        UsageError: a width, depth, interpolation or probability that no network can have.
    """

    def __init__(
        self,
        width: int = 32,
        num_res: int = 8,
        interpolation: Interpolation = "nearest",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_architecture(width, num_res, interpolation)
        if not 0.0 <= dropout < 1.0:
            raise UsageError(f"dropout must be in [0, 1), not {dropout}")
        self.width, self.num_res, self.interpolation = width, num_res, interpolation
        w1, w2, w4 = width, 2 * width, 4 * width
        # The attribute names are the checkpoint's; their order is not that of the computation.
        self.Encoder = nn.ModuleList([_Stage(w1, num_res), _Stage(w2, num_res), _Stage(w4, num_res)])
        self.feat_extract = nn.ModuleList(
            [
                _Conv(3, w1, 3),
                _Conv(w1, w2, 3, stride=2),
                _Conv(w2, w4, 3, stride=2),
                _Up(w4, w2),
                _Up(w2, w1),
                _Conv(w1, 3, 3, relu=False),
            ]
        )
        self.Decoder = nn.ModuleList([_Stage(w4, num_res), _Stage(w2, num_res), _Stage(w1, num_res)])
        self.Convs = nn.ModuleList([_Conv(w4, w2, 1), _Conv(w2, w1, 1)])
        self.ConvsOut = nn.ModuleList([_Conv(w4, 3, 3, relu=False), _Conv(w2, 3, 3, relu=False)])
        self.AFFs = nn.ModuleList([_Fusion(w1 + w2 + w4, w1), _Fusion(w1 + w2 + w4, w2)])
        self.FAM1 = _Attention(w4)
        self.SCM1 = _Shallow(w4)
        self.FAM2 = _Attention(w2)
        self.SCM2 = _Shallow(w2)
        self.drop1 = nn.Dropout2d(dropout)
        self.drop2 = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Restore a batch at all three scales.

        Args:
            x: float RGB, shape (N, 3, H, W), range 0..1, H and W multiples of 4.

        Returns:
            The restored images at 1/4, 1/2 and full scale, not clipped. The last one is the result.
        """
        x2 = self._half(x)
        x4 = self._half(x2)
        low, middle, full = self._decode(x, x2, x4)
        return self.ConvsOut[0](low) + x4, self.ConvsOut[1](middle) + x2, full + x

    def residual(self, x: Tensor) -> Tensor:
        """Return what the network adds to `x` at full scale: (N, 3, H, W), the restored image minus its input.

        For engines of low precision, which add the input outside in float32; nothing that only training
        needs is computed.
        """
        x2 = self._half(x)
        return self._decode(x, x2, self._half(x2))[2]

    def _decode(self, x: Tensor, x2: Tensor, x4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features of the decoder at 1/4 and 1/2, and the residual at full scale."""
        extract = self.feat_extract
        res1 = self.Encoder[0](extract[0](x))
        res2 = self.Encoder[1](self.FAM2(extract[1](res1), self.SCM2(x2)))
        z = self.Encoder[2](self.FAM1(extract[2](res2), self.SCM1(x4)))

        z_half = self._double(z)
        fused2 = self.drop2(self.AFFs[1](self._half(res1), res2, z_half))
        fused1 = self.drop1(self.AFFs[0](res1, self._double(res2), self._double(z_half)))

        low = self.Decoder[0](z)
        middle = self.Decoder[1](self.Convs[0](torch.cat([extract[3](low), fused2], dim=1)))
        high = self.Decoder[2](self.Convs[1](torch.cat([extract[4](middle), fused1], dim=1)))
        return low, middle, cast("Tensor", extract[5](high))

    def _half(self, x: Tensor) -> Tensor:
        return self._scale(x, 0.5)

    def _double(self, x: Tensor) -> Tensor:
        return self._scale(x, 2.0)

    def _scale(self, x: Tensor, factor: float) -> Tensor:
        if self.interpolation == "nearest":
            return F.interpolate(x, scale_factor=factor, mode="nearest")
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def arrays_of(state: Mapping[str, Tensor]) -> dict[str, Floats]:
    """Return a network's parameters as `Weights` hold them: float32, on the CPU."""
    return {name: tensor.detach().cpu().float().numpy() for name, tensor in state.items()}


def build_network(weights: Weights) -> MimoUNet:
    """Return the network with these weights: float32, on the CPU, in evaluation mode."""
    spec = weights.spec
    dropout = _DROPOUT_OF_PLUS if spec.variant == "mimo-unet-plus" else 0.0
    with torch.device("meta"):
        network = MimoUNet(spec.width, spec.num_res, spec.interpolation, dropout)
    # Copies: a network may be trained, the weights stay what they are.
    network.load_state_dict({name: torch.tensor(values) for name, values in weights.state.items()}, assign=True)
    return network.eval()


class _Conv(nn.Module):
    """Convolution with bias that keeps the size (divided by the stride), then ReLU unless told otherwise."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)]
        if relu:
            layers.append(nn.ReLU(inplace=True))
        self.main = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.main(x))


class _Up(nn.Module):
    """Transposed convolution that doubles height and width, then ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.main(x))


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions, ReLU after the first only, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(_Conv(channels, channels, 3), _Conv(channels, channels, 3, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.main(x) + x)


class _Stage(nn.Module):
    """A chain of residual blocks: one encoder or decoder block of the paper."""

    def __init__(self, channels: int, num_res: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[_ResidualBlock(channels) for _ in range(num_res)])

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.layers(x))


class _Shallow(nn.Module):
    """SCM: shallow features of a reduced input image, which itself stays in front of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _Conv(3, channels // 4, 3),
            _Conv(channels // 4, channels // 2, 1),
            _Conv(channels // 2, channels // 2, 3),
            _Conv(channels // 2, channels - 3, 1),
        )
        self.conv = _Conv(channels, channels, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.conv(torch.cat([x, self.main(x)], dim=1)))


class _Attention(nn.Module):
    """FAM: the features from above, plus a convolution of their product with those of the reduced image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = _Conv(channels, channels, 3, relu=False)

    def forward(self, above: Tensor, shallow: Tensor) -> Tensor:
        return cast("Tensor", above + self.merge(above * shallow))


class _Fusion(nn.Module):
    """AFF: encoder features of all three scales, brought to one scale, fused for the decoder."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_Conv(inputs, outputs, 1), _Conv(outputs, outputs, 3, relu=False))

    def forward(self, full: Tensor, half: Tensor, quarter: Tensor) -> Tensor:
        return cast("Tensor", self.conv(torch.cat([full, half, quarter], dim=1)))
