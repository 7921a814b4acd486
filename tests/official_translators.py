"""The networks of pytorch-CycleGAN-and-pix2pix in small: modules of torch.nn that have the official key names.

Written after specification 2.2 to 2.4 and 8.3; they share no code with ours. `official` paints with one. At the end:
changes to a file, and other files, that importers must refuse.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Values = OrderedDict[str, Any]
Change = Callable[[Values], object]


def norm(kind: str, channels: int, legacy: bool = False) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, track_running_stats=legacy)


class Level(nn.Module):
    """A level of the U-Net with all that is below it; its parts in the official order."""

    def __init__(
        self, outer: int, inner: int, kind: str, below: Level | None, seen: int | None = None, drop: bool = False
    ):
        super().__init__()
        bias, outermost = kind == "instance", seen is not None
        down = nn.Conv2d(outer if seen is None else seen, inner, 4, 2, 1, bias=bias)
        up_in = inner if below is None else 2 * inner
        up = nn.ConvTranspose2d(up_in, outer, 4, 2, 1, bias=bias or outermost)
        leaky, relu = nn.LeakyReLU(0.2), nn.ReLU()
        if outermost:
            assert below is not None
            parts: list[nn.Module] = [down, below, relu, up, nn.Tanh()]
        elif below is None:
            parts = [leaky, down, relu, up, norm(kind, outer)]
        else:
            parts = [leaky, down, norm(kind, inner), below, relu, up, norm(kind, outer)]
        self.model, self.outermost = nn.Sequential(*parts, *([nn.Dropout(0.5)] if drop else [])), outermost

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class OfficialUNet(nn.Module):
    def __init__(self, inputs: int, outputs: int, width: int, levels: int, kind: str, drop: bool = False):
        super().__init__()
        w = width
        one = Level(8 * w, 8 * w, kind, None)
        for _ in range(levels - 5):
            one = Level(8 * w, 8 * w, kind, one, drop=drop)
        for outer in (4, 2, 1):
            one = Level(outer * w, 2 * outer * w, kind, one)
        self.model = Level(outputs, w, kind, one, seen=inputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Block(nn.Module):
    def __init__(self, channels: int, kind: str, dropout: bool, legacy: bool):
        super().__init__()
        bias = kind == "instance"
        parts: list[nn.Module] = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias)]
        parts += [norm(kind, channels, legacy), nn.ReLU(), *([nn.Dropout(0.5)] if dropout else [])]
        parts += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm(kind, channels, legacy)]
        self.conv_block = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class OfficialResNet(nn.Module):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        blocks: int,
        kind: str,
        dropout: bool,
        legacy: bool = False,
        down: int = 2,
    ):
        super().__init__()
        bias = kind == "instance"
        parts: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7, bias=bias)]
        parts += [norm(kind, width, legacy), nn.ReLU()]
        c = width
        for _ in range(down):
            parts += [nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias), norm(kind, 2 * c, legacy), nn.ReLU()]
            c *= 2
        parts += [Block(c, kind, dropout, legacy) for _ in range(blocks)]
        for _ in range(down):
            parts += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1, bias=bias), norm(kind, c // 2, legacy), nn.ReLU()]
            c //= 2
        parts += [nn.ReflectionPad2d(3), nn.Conv2d(c, outputs, 7), nn.Tanh()]
        self.model = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class OfficialPatch(nn.Module):
    def __init__(self, inputs: int, width: int, strided: int, kind: str):
        super().__init__()
        bias, leaky = kind == "instance", nn.LeakyReLU(0.2)
        parts: list[nn.Module] = [nn.Conv2d(inputs, width, 4, 2, 1), leaky]
        before = width
        for n in range(1, strided + 1):
            after = width * min(2**n, 8)
            conv = nn.Conv2d(before, after, 4, 2 if n < strided else 1, 1, bias=bias)
            parts += [conv, norm(kind, after), leaky]
            before = after
        self.model = nn.Sequential(*parts, nn.Conv2d(before, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class OfficialPixel(nn.Module):
    def __init__(self, inputs: int, width: int, kind: str):
        super().__init__()
        bias, leaky = kind == "instance", nn.LeakyReLU(0.2)
        middle = [nn.Conv2d(width, 2 * width, 1, bias=bias), norm(kind, 2 * width), leaky]
        self.net = nn.Sequential(nn.Conv2d(inputs, width, 1), leaky, *middle, nn.Conv2d(2 * width, 1, 1, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def loud(network: nn.Module) -> nn.Module:
    """Weights at which features are of size 1, and running statistics of a training."""
    torch.manual_seed(7)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 1.2 / module.weight[0].numel() ** 0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return network


def unet(kind: str = "batch", levels: int = 5, inputs: int = 3, outputs: int = 3, drop: bool = True) -> nn.Module:
    return loud(OfficialUNet(inputs, outputs, 2, levels, kind, drop))


def resnet(
    kind: str = "instance", blocks: int = 2, dropout: bool = False, legacy: bool = False, **more: int
) -> nn.Module:
    return loud(
        OfficialResNet(
            more.get("inputs", 3), more.get("outputs", 3), 4, blocks, kind, dropout, legacy, more.get("down", 2)
        )
    )


def saved(network: nn.Module | dict[str, Any], path: Path, form: str = "zip", module: bool = False) -> Path:
    values = network.state_dict() if isinstance(network, nn.Module) else network
    if module:
        values = OrderedDict((f"module.{name}", tensor) for name, tensor in values.items())
    torch.save(values, path, _use_new_zipfile_serialization=form == "zip")
    return path


def picture(channels: int = 3, height: int = 32, width: int = 64) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(5)) * 2 - 1


def official(network: nn.Module, x: Tensor, running: bool = False) -> Tensor:
    """What the official network paints: dropout off; norms as at training, or by the running statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout) or (running and isinstance(module, nn.BatchNorm2d)):
            module.eval()
        if isinstance(module, nn.InstanceNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    state = {name: values.clone() for name, values in network.state_dict().items()}
    with torch.no_grad():
        painted = network(x)
    network.load_state_dict(state)
    return painted


# --- files of other networks, and damaged ones -----------------------------------------------------------------------


def named(*names: str, shape: tuple[int, ...] = (4, 3, 7, 7)) -> Values:
    return OrderedDict((name, torch.zeros(shape)) for name in names)


def dropped(part: str) -> Change:
    return lambda values: [values.pop(name) for name in [n for n in values if part in n]]


def put(name: str, *shape: int, kind: torch.dtype = torch.float32) -> Change:
    return lambda values: values.update({name: torch.zeros(shape, dtype=kind)})
