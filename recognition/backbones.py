"""Backbones by timm's name, with the linear head, and the ways to give them their first weights."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import timm
import torch
from torch import Tensor, nn

from recognition.initial_weights import WeightsError, find_imagenet_weights, read_weights

logger = logging.getLogger(__name__)

InitialWeights = Literal["random", "imagenet"]
MissingWeights = Literal["stop", "random"]


class Model(nn.Module):
    """A pooled timm backbone and a linear head.

    The head works in float32 even under autocast: bf16 logits move the top-1 of fine-grained classes.
    """

    def __init__(
        self, backbone: nn.Module, *, num_features: int, num_classes: int, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(num_features, num_classes)
        self.has_imagenet_weights = False

    def features(self, x: Tensor) -> Tensor:
        """Return pooled features float32 [B, D] of normalised photos [B, 3, S, S]."""
        features: Tensor = self.backbone(x)
        return features.float()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits float32 [B, K] of normalised photos [B, 3, S, S]."""
        features = self.features(x)
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.head(self.drop(features))
        return logits


@dataclass(frozen=True)
class LoadedWeights:
    """What `load_weights_from` took."""

    num_tensors: int
    head_taken: bool


def check_backbone(backbone: str) -> None:
    """Raise ValueError with near matches unless timm knows the backbone."""
    architecture, _, tag = backbone.partition(".")
    if not timm.is_model(architecture) or ":" in backbone:
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"Expected the name of a timm backbone, received {backbone!r}. "
            f"Near matches: {', '.join(near) or 'none'}. All names: timm.list_models()."
        )
    if tag and backbone not in timm.list_pretrained(f"{architecture}.*"):
        known = ", ".join(timm.list_pretrained(f"{architecture}.*")) or "none"
        raise ValueError(f"Expected a known weights tag, received {backbone!r}. Known: {known}.")


def data_statistics(backbone: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return the mean and std (0..1 scale) a backbone's ImageNet weights were trained with."""
    check_backbone(backbone)
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    return config.mean, config.std


def make_model(
    backbone: str,
    *,
    num_classes: int,
    initial_weights: InitialWeights = "imagenet",
    weights_path: Path | None = None,
    missing_weights: MissingWeights = "stop",
    drop_rate: float = 0.0,
    seed: int | None = None,
) -> Model:
    """Build a backbone with a fresh head of `num_classes`.

    weights_path: ImageNet weights from a local file (safetensors, or a torch file, read without executing
    anything in it) instead of the hub. seed: fixes the random weights, leaving the global generator alone.
    ValueError for an unknown backbone or a file of another one. Weights that are not to be had raise
    WeightsError where `missing_weights` is "stop", and give one warning where it is "random".
    """
    check_backbone(backbone)
    if num_classes < 1:
        raise ValueError(f"Expected num_classes >= 1, received {num_classes}.")
    _check_choice("initial_weights", initial_weights, get_args(InitialWeights))
    _check_choice("missing_weights", missing_weights, get_args(MissingWeights))
    hub_file = None
    if initial_weights == "imagenet":
        try:
            if weights_path is None:
                hub_file = find_imagenet_weights(backbone)
            else:
                _check_exists(weights_path)
        except WeightsError as error:
            if missing_weights == "stop":
                raise
            logger.warning("%s Starting from random weights.", error)
            weights_path = None
    model = _build(backbone, num_classes=num_classes, hub_file=hub_file, drop_rate=drop_rate, seed=seed)
    if initial_weights == "imagenet" and weights_path is not None:
        load_weights_from(model, weights_path, take_head=False)
    model.has_imagenet_weights = initial_weights == "imagenet" and (hub_file or weights_path) is not None
    return model


def load_weights_from(model: Model, path: Path, *, take_head: bool = True) -> LoadedWeights:
    """Copy weights from another phase's bundle folder, or from a safetensors or torch file, into the model.

    Every backbone tensor must be there in its shape (ValueError names the first that is not). A head of
    another size is left as it was made; the classifier of a file with timm's own names is not used.
    """
    source = Path(path)
    _check_exists(source)
    state = read_weights(source / "weights.safetensors" if source.is_dir() else source)
    body, head = _split_state(state)
    wanted = model.backbone.state_dict()
    _check_tensors(body, wanted, source)
    model.backbone.load_state_dict({name: body[name] for name in wanted})
    head_taken = take_head and _shapes(head) == _shapes(model.head.state_dict())
    if head_taken:
        model.head.load_state_dict(head)
    head_words = "head taken" if head_taken else f"head made anew for {model.head.out_features} classes"
    logger.info("%s: %d backbone tensors taken, %s", source, len(wanted), head_words)
    return LoadedWeights(num_tensors=len(wanted) + (len(head) if head_taken else 0), head_taken=head_taken)


def _build(
    backbone: str, *, num_classes: int, hub_file: Path | None, drop_rate: float, seed: int | None
) -> Model:
    overlay = None if hub_file is None else {"file": str(hub_file)}
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        body = timm.create_model(
            backbone, pretrained=hub_file is not None, pretrained_cfg_overlay=overlay, num_classes=0
        )
        return Model(body, num_features=body.head_hidden_size, num_classes=num_classes, drop_rate=drop_rate)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Expected {name} of {', '.join(choices)}, received {value!r}.")


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise WeightsError(f"Expected weights at {path}, found nothing. Give a bundle or a weights file.")


def _split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the backbone's and the head's tensors; under timm's own names everything is the backbone's."""
    if not any(name.startswith("backbone.") for name in state):
        return dict(state), {}
    body = {name[len("backbone.") :]: t for name, t in state.items() if name.startswith("backbone.")}
    head = {name[len("head.") :]: t for name, t in state.items() if name.startswith("head.")}
    return body, head


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _check_tensors(received: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: Path) -> None:
    wrong = [
        f"{name} (expected {tuple(tensor.shape)}, received "
        f"{tuple(received[name].shape) if name in received else 'nothing'})"
        for name, tensor in wanted.items()
        if name not in received or received[name].shape != tensor.shape
    ]
    if wrong:
        raise ValueError(
            f"{source} does not fit the backbone: {len(wrong)} of {len(wanted)} tensors differ, first "
            f"{wrong[0]}. Start from weights of the same backbone."
        )
