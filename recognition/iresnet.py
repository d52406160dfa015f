"""iResNet (Duta et al. 2020, "Improved Residual Networks"), a backbone of report B that timm lacks.

It is a bottleneck ResNet that a signal passes almost unhindered: only the second and the last block of a
stage have an activation on the way of the shortcut. The shortcut that halves the map looks at every pixel
(max-pool, then a convolution of stride 1), and there is no other pool. As many parameters as the ResNet of
the same depth.

Importing this module registers the models with timm. Tensors are named as in the authors' published weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from timm.layers import SelectAdaptivePool2d
from timm.layers.classifier import create_classifier
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

Place = Literal["start", "after_start", "middle", "end"]

EXPANSION = 4
"""Channels that leave a block for each that its 3 x 3 convolution has."""


class Block(nn.Module):
    """A residual block, [B, C, H, W] -> [B, 4 width, H / stride, W / stride], by its place in the stage.

    start: conv-BN-ReLU, conv-BN-ReLU, conv-BN, and a shortcut with a convolution of its own. The others:
    BN-ReLU-conv, BN-ReLU-conv, BN-ReLU-conv; after_start leaves out the first BN, since the start block ends
    in one; end has BN-ReLU after the sum.

    The ReLU that opens after_start also rectifies its shortcut. The paper's figure draws it on the branch
    alone, but in the authors' code it runs in place, on the tensor that the shortcut adds.
    """

    def __init__(self, in_channels: int, *, width: int, place: Place, stride: int = 1) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.place = place
        self.bn0 = nn.BatchNorm2d(in_channels) if place in ("middle", "end") else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels) if place in ("start", "end") else nn.Identity()
        self.relu = nn.ReLU()  # not in place: what is to be shared is said in forward
        self.downsample = nn.Identity() if place != "start" else _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return shortcut + branch."""
        if self.place == "after_start":
            x = self.relu(x)  # for the shortcut, too
        branch = self.relu(self.bn0(x)) if self.place in ("middle", "end") else x
        branch = self.relu(self.bn1(self.conv1(branch)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.conv3(branch)
        if self.place == "start":
            branch = self.bn3(branch)
        total: Tensor = self.downsample(x) + branch
        return self.relu(self.bn3(total)) if self.place == "end" else total


class IResNet(nn.Module):
    """Four stages of blocks, [B, 3, S, S] -> features [B, 2048] or logits [B, K], with timm's methods."""

    global_pool: SelectAdaptivePool2d
    fc: nn.Module

    def __init__(
        self,
        depths: Sequence[int],
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.drop_rate = num_classes, drop_rate
        self.conv1 = nn.Conv2d(in_chans, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        widths = (64, 128, 256, 512)
        channels = (64, *(EXPANSION * width for width in widths))
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _make_stage(entering, width=width, depth=depth)
            for entering, width, depth in zip(channels[:-1], widths, depths, strict=True)
        )
        self.feature_info = [
            {"num_chs": num, "reduction": 2 ** (i + 1), "module": f"layer{i}" if i else "relu"}
            for i, num in enumerate(channels)
        ]
        self.num_features = channels[-1]
        self.reset_classifier(num_classes, global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Make the pool and the last layer anew; 0 classes leave the pooled features, "" the map."""
        self.num_classes = num_classes
        pool_type = self.global_pool.pool_type if global_pool is None else global_pool
        self.global_pool, self.fc = create_classifier(self.num_features, num_classes, pool_type=pool_type)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's map [B, 2048, S / 32, S / 32] of normalised photos."""
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the pooled features of a map where `pre_logits`, else the logits."""
        pooled = F.dropout(self.global_pool(x), p=self.drop_rate, training=self.training)
        answer: Tensor = pooled if pre_logits else self.fc(pooled)
        return answer

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, or what `reset_classifier` left."""
        return self.forward_head(self.forward_features(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.MaxPool2d(kernel_size=3, stride=stride, padding=1),
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _make_stage(in_channels: int, *, width: int, depth: int) -> nn.Sequential:
    """Build a stage of `depth` >= 3 blocks that halves the map."""
    middle: list[Place] = ["middle"] * (depth - 3)
    places: list[Place] = ["start", "after_start", *middle, "end"]
    blocks = [Block(in_channels, width=width, place=places[0], stride=2)]
    blocks += [Block(EXPANSION * width, width=width, place=place) for place in places[1:]]
    return nn.Sequential(*blocks)


default_cfgs = generate_default_cfgs(
    {
        f"{name}.untrained": {
            "pool_size": (7, 7),
            "interpolation": "bilinear",
            "first_conv": "conv1",
            "classifier": "fc",
        }
        for name in ("iresnet50", "iresnet101")
    }
)
"""timm's registry reads this name; ImageNet's mean and deviation are its defaults."""


@register_model  # type: ignore[untyped-decorator]
def iresnet50(pretrained: bool = False, **kwargs: Any) -> IResNet:
    """Build iResNet-50."""
    model: IResNet = build_model_with_cfg(IResNet, "iresnet50", pretrained, depths=(3, 4, 6, 3), **kwargs)
    return model


@register_model  # type: ignore[untyped-decorator]
def iresnet101(pretrained: bool = False, **kwargs: Any) -> IResNet:
    """Build iResNet-101, 44,549,160 parameters with 1000 classes."""
    model: IResNet = build_model_with_cfg(IResNet, "iresnet101", pretrained, depths=(3, 4, 23, 3), **kwargs)
    return model
