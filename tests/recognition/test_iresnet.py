"""iResNet rule by rule, and that every backbone of the reports is to be had."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from recognition.iresnet import Block, IResNet
from recognition.timm_body import make_body

REPORTS = {
    "resnet152": 2048,
    "legacy_senet154": 2048,
    "resnest269e": 2048,
    "pnasnet5large": 4320,
    "resnet101": 2048,
    "resnext101_32x8d": 2048,
    "resnest101e": 2048,
    "res2net101_26w_4s": 2048,
    "iresnet101": 2048,
    "tf_efficientnet_b7": 2560,
    "efficientnet_b3": 1536,
    "efficientnet_b4": 1792,
    "resnet50": 2048,
    "seresnext50_32x4d": 2048,
    "legacy_seresnext50_32x4d": 2048,
    "legacy_seresnet101": 2048,
    "resnest50d": 2048,
}
"""Every backbone that a report names, in their order, and the width of its pooled features."""


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, **options)
    return model.eval()


def photos(side: int) -> Tensor:
    return torch.zeros(2, 3, side, side, device="meta")


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class RandomCalls(TorchDispatchMode):
    """Names the operations that draw random numbers, whatever module or function they hide in."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "width"), REPORTS.items())
def test_every_backbone_of_the_reports_gives_pooled_features_and_drops_none(name: str, width: int) -> None:
    with torch.device("meta"):
        model = make_body(name, input_size=96).train()
    with RandomCalls() as random, torch.no_grad():
        assert model(photos(96)).shape == (2, width)
    assert model.head_hidden_size == width
    assert random.names == []


@pytest.mark.parametrize("name", ["legacy_seresnet18", "rexnetr_100", "swin_tiny_patch4_window7_224"])
def test_dropout_and_stochastic_depth_of_timms_own_are_seen_and_gone(name: str) -> None:
    with torch.device("meta"):
        models = [timm.create_model(name, num_classes=0).train(), make_body(name, input_size=224).train()]
    seen = []
    for model in models:
        with RandomCalls() as random, torch.no_grad():
            model(photos(224))
        seen.append(bool(random.names))
    assert seen == [True, False]


def test_iresnet101_has_as_many_parameters_as_the_paper_says() -> None:
    assert num_parameters(on_meta("iresnet101", num_classes=1000)) == 44_549_160


@pytest.mark.parametrize("depth", [50, 101])
def test_iresnet_has_as_many_parameters_as_the_resnet_of_its_depth(depth: int) -> None:
    assert num_parameters(on_meta(f"iresnet{depth}")) == num_parameters(on_meta(f"resnet{depth}"))


def test_each_stage_has_its_blocks_and_halves_the_map() -> None:
    model = on_meta("iresnet101", features_only=True)
    assert [tuple(level.shape[1:]) for level in model(photos(64))] == [
        (64, 32, 32),
        (256, 16, 16),
        (512, 8, 8),
        (1024, 4, 4),
        (2048, 2, 2),
    ]
    depths = [len(getattr(on_meta("iresnet101"), f"layer{stage}")) for stage in (1, 2, 3, 4)]
    assert depths == [3, 4, 23, 3]


def test_a_stage_starts_goes_on_and_ends_with_its_own_kind_of_block() -> None:
    stage = on_meta("iresnet101").layer2
    norms = [[n for n in range(4) if isinstance(getattr(block, f"bn{n}"), nn.BatchNorm2d)] for block in stage]
    assert norms == [[1, 2, 3], [1, 2], [0, 1, 2], [0, 1, 2, 3]]  # start, after it, middle, end


def test_the_shortcut_pools_before_a_convolution_of_stride_one() -> None:
    pool, conv, norm = on_meta("iresnet101").layer3[0].downsample
    assert isinstance(pool, nn.MaxPool2d)
    assert (pool.kernel_size, pool.stride, pool.padding) == (3, 2, 1)
    assert (conv.kernel_size, conv.stride) == ((1, 1), (1, 1))
    assert isinstance(norm, nn.BatchNorm2d)
    assert not list(on_meta("iresnet101").layer3[1].downsample.parameters())


def silence_branch(block: Block) -> Block:
    """Make the branch add nothing, so that what is left is the shortcut."""
    nn.init.zeros_(block.conv3.weight)
    return block.eval()


@pytest.mark.parametrize(("place", "lowest"), [("after_start", 0.0), ("middle", -9.0)])
def test_only_the_block_after_the_start_rectifies_its_shortcut(place: str, lowest: float) -> None:
    x = torch.randn(2, 8, 4, 4)
    block = silence_branch(Block(8, width=2, place=place))
    assert torch.equal(block(x), x.clamp(min=lowest))


def norm(x: Tensor, state: dict[str, Tensor], name: str, *, training: bool) -> Tensor:
    """Batch norm written out: the batch's mean and biased variance, or the running ones."""
    if training:
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
    else:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    centred = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    return centred * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def authors_block(x: Tensor, state: dict[str, Tensor], at: str, place: str, *, training: bool) -> Tensor:
    """One block as the authors' code runs it, its in-place ReLU included."""
    shortcut = out = x.clone()
    if place in ("middle", "end"):
        out = norm(out, state, f"{at}.bn0", training=training)
    if place != "start":
        out = F.relu_(out)  # behind no norm, out is the very tensor that the shortcut adds
    out = F.conv2d(out, state[f"{at}.conv1.weight"])
    out = F.relu_(norm(out, state, f"{at}.bn1", training=training))
    stride = 2 if place == "start" else 1
    out = F.conv2d(out, state[f"{at}.conv2.weight"], stride=stride, padding=1)
    out = F.relu_(norm(out, state, f"{at}.bn2", training=training))
    out = F.conv2d(out, state[f"{at}.conv3.weight"])
    if place == "start":
        out = norm(out, state, f"{at}.bn3", training=training)
        pooled = F.max_pool2d(shortcut, 3, stride=2, padding=1)
        shortcut = F.conv2d(pooled, state[f"{at}.downsample.1.weight"])
        shortcut = norm(shortcut, state, f"{at}.downsample.2", training=training)
    out = out + shortcut
    return F.relu_(norm(out, state, f"{at}.bn3", training=training)) if place == "end" else out


def authors_network(
    x: Tensor, state: dict[str, Tensor], depths: tuple[int, ...], *, training: bool
) -> Tensor:
    x = F.conv2d(x, state["conv1.weight"], stride=2, padding=3)
    x = F.relu_(norm(x, state, "bn1", training=training))
    for stage, depth in enumerate(depths, start=1):
        places = ["start", "after_start", *["middle"] * (depth - 3), "end"]
        for number, place in enumerate(places):
            x = authors_block(x, state, f"layer{stage}.{number}", place, training=training)
    return x.mean(dim=(2, 3)) @ state["fc.weight"].t() + state["fc.bias"]


def shake(module: nn.Module) -> nn.Module:
    """Give norms and biases values of their own in float64: ones and zeros would hide a wrong name."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.normal_(std=0.5).add_(0.0 if name.endswith(("bias", "mean")) else 1.0).abs_()
            if name.endswith(("bias", "mean")):
                tensor.sub_(0.4)
    return module.double()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("place", ["start", "after_start", "middle", "end"])
def test_each_kind_of_block_computes_what_the_authors_does(place: str, training: bool) -> None:
    torch.manual_seed(0)
    stride = 2 if place == "start" else 1
    block = shake(Block(8, width=2, place=place, stride=stride)).train(training)
    state = {f"block.{name}": tensor.clone() for name, tensor in block.state_dict().items()}
    x = torch.randn(3, 8, 6, 6, dtype=torch.float64)
    expected = authors_block(x, state, "block", place, training=training)
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
def test_the_network_computes_what_the_authors_does(training: bool) -> None:
    torch.manual_seed(0)
    depths = (3, 4, 3, 3)
    model = shake(IResNet(depths, num_classes=5)).train(training)
    state = {
        name: tensor.clone().requires_grad_(tensor.is_floating_point())
        for name, tensor in model.state_dict().items()
    }
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    logits, expected = model(x), authors_network(x, state, depths, training=training)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    if training:
        logits.square().sum().backward(), expected.square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, state[name].grad, rtol=1e-5, atol=1e-7)


def test_the_end_block_normalises_and_rectifies_the_sum() -> None:
    block = silence_branch(Block(8, width=2, place="end"))
    nn.init.constant_(block.bn3.bias, 1.0)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x), (x / (1 + 1e-5) ** 0.5 + 1).clamp(min=0))


def test_the_start_block_normalises_its_branch_before_the_sum_and_rectifies_nothing() -> None:
    block = silence_branch(Block(4, width=2, place="start", stride=2))
    nn.init.constant_(block.bn3.bias, -1.0)
    x = torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(block(x), block.downsample(x) - 1)


@pytest.mark.parametrize(("place", "lowest"), [("start", -9.0), ("after_start", 0.0)])
def test_the_start_block_convolves_its_input_and_the_next_rectifies_it_first(
    place: str, lowest: float
) -> None:
    block = Block(8, width=2, place=place).eval()
    seen: list[Tensor] = []
    block.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 8, 4, 4)
    block(x)
    assert torch.equal(seen[0], x.clamp(min=lowest))


def test_iresnet_answers_to_what_timm_asks_of_a_model() -> None:
    model = on_meta("iresnet50", num_classes=7)
    maps = model.forward_features(photos(64))
    assert maps.shape == (2, 2048, 2, 2)
    assert model.forward_head(maps, pre_logits=True).shape == (2, 2048)
    assert model(photos(64)).shape == (2, 7)
    assert model.get_classifier() is model.fc
    model.reset_classifier(0)
    assert (model.num_classes, tuple(model(photos(64)).shape)) == (0, (2, 2048))
    model.reset_classifier(0, "")
    assert model(photos(64)).shape == (2, 2048, 2, 2)
    assert on_meta("iresnet50", num_classes=0, global_pool="catavgmax").head_hidden_size == 4096


def test_a_small_iresnet_learns_in_every_layer() -> None:
    model = IResNet((3, 3, 3, 3), num_classes=5)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_tensors_are_named_as_in_the_published_weights() -> None:
    names = set(on_meta("iresnet101").state_dict())
    assert {"conv1.weight", "layer1.0.downsample.1.weight", "layer3.22.bn3.bias", "fc.bias"} <= names
    assert "layer1.1.bn0.weight" not in names
