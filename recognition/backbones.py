"""Backbones by timm's name, with the linear head, and the ways to give them their first weights."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import timm
import torch
from torch import Tensor, nn

import recognition.iresnet  # noqa: F401  from here on timm knows iresnet101
from recognition.heads import LinearHead, unit_length
from recognition.initial_weights import WeightsError, find_pretrained_weights, read_weights
from recognition.package_weights import PACKAGE_MARK, rename_to_timm
from recognition.timm_body import make_body, resample_positions

logger = logging.getLogger(__name__)

InitialWeights = Literal["random", "pretrained"]
MissingWeights = Literal["stop", "random"]


class Model(nn.Module):
    """A timm backbone and a head on its pooled features, in steps that an objective may take one by one.

    The head works in float32 even under autocast: bf16 logits move the top-1 of fine-grained classes.
    """

    backbone: Any
    """timm's: it has forward_features and forward_head."""
    head: Any
    """nn.Linear in bundles; while a phase trains any module with in_features and out_features."""

    def __init__(
        self, backbone: nn.Module, *, name: str, num_features: int, num_classes: int, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.name = name
        self.backbone = backbone
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(num_features, num_classes)
        self.normalize_features = False
        self.is_contiguous = False
        """Whether photos go in channel by channel, for a backbone that cannot train otherwise."""
        self._channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"

    @property
    def num_map_channels(self) -> int:
        """C of `feature_maps`; pooling may make more or fewer features of them."""
        return int(self.backbone.num_features)

    def feature_maps(self, x: Tensor) -> Tensor:
        """Return the last feature maps [B, C, h, w] of normalised photos [B, 3, S, S].

        ValueError where the backbone has none: most transformers make tokens without a place.
        """
        maps = self.backbone.forward_features(x.contiguous() if self.is_contiguous else x)
        if isinstance(maps, Tensor) and maps.ndim == 4:
            return maps.permute(0, 3, 1, 2) if self._channels_last else maps
        received = (
            f"a tensor of shape {tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
        )
        raise ValueError(
            f"Expected feature maps [B, C, h, w] of backbone {self.name}, received {received}. What looks at "
            "places in the photo needs a convolutional backbone, or one that keeps its tokens on a grid."
        )

    def pool(self, maps: Tensor) -> Tensor:
        """Return pooled features float32 [B, D] of what `feature_maps` gave."""
        pooled: Tensor = self.backbone.forward_head(maps.permute(0, 2, 3, 1) if self._channels_last else maps)
        return pooled.float()

    def features(self, x: Tensor) -> Tensor:
        """Return pooled features float32 [B, D] of normalised photos [B, 3, S, S]."""
        features: Tensor = self.backbone(x.contiguous() if self.is_contiguous else x)
        return features.float()

    def logits(self, features: Tensor) -> Tensor:
        """Return logits float32 [B, K] of pooled features [B, D]."""
        with torch.autocast(features.device.type, enabled=False):
            features = self.drop(features.float())
            logits: Tensor = self.head(unit_length(features) if self.normalize_features else features)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits float32 [B, K] of normalised photos [B, 3, S, S]."""
        return self.logits(self.features(x))

    def linear_head(self, *, device: torch.device | str | None = None) -> LinearHead:
        """Return the head as inference applies it, where it is or on a device.

        ValueError where it is no linear one with a bias.
        """
        if not isinstance(self.head, nn.Linear) or self.head.bias is None:
            raise ValueError(f"Expected a linear head with a bias, received {self.head}: export it first.")
        weight, bias = (tensor.detach().to(device=device) for tensor in (self.head.weight, self.head.bias))
        return LinearHead(weight, bias, normalize_features=self.normalize_features)


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """What `load_weights_file` took, and what it left."""

    num_tensors: int
    """Taken, the head's included."""
    head_taken: bool
    missing: tuple[str, ...]
    """Batch norms' counters of batches, which older files lack; nothing else may be missing."""
    unused: tuple[str, ...]
    """Tensors of the source that the backbone has no place for, such as its classifier."""


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
    """Return the mean and std (0..1 scale) a backbone's pretrained weights expect."""
    check_backbone(backbone)
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    return config.mean, config.std


def make_model(
    backbone: str,
    *,
    num_classes: int,
    initial_weights: InitialWeights = "pretrained",
    weights_path: Path | None = None,
    missing_weights: MissingWeights = "stop",
    input_size: int | None = None,
    drop_rate: float = 0.0,
    seed: int | None = None,
) -> Model:
    """Build a backbone with a head of `num_classes` that is drawn at random.

    input_size: side in pixels of the photos that it will see; None is the backbone's own. drop_rate is all
    the dropout there is: what a backbone brings of its own is switched off.

    weights_path: pretrained weights from a local file (safetensors, or a torch file, read without executing
    anything in it) instead of where `find_pretrained_weights` looks. seed: fixes the random weights, leaving
    the global generator alone. ValueError for an unknown backbone or a file of another one. Unavailable
    weights raise WeightsError where `missing_weights` is "stop", and give one warning where it is "random".
    """
    check_backbone(backbone)
    if num_classes < 1:
        raise ValueError(f"Expected num_classes >= 1, received {num_classes}.")
    _check_choice("initial_weights", initial_weights, get_args(InitialWeights))
    _check_choice("missing_weights", missing_weights, get_args(MissingWeights))
    if initial_weights == "pretrained":
        try:
            if weights_path is None:
                weights_path = find_pretrained_weights(backbone).path
            _check_exists(weights_path)
        except WeightsError as error:
            if missing_weights == "stop":
                raise
            weights_path = None
            logger.warning("%s Starting from random weights.", error)
    model = _build(backbone, num_classes=num_classes, input_size=input_size, drop_rate=drop_rate, seed=seed)
    if initial_weights == "pretrained" and weights_path is not None:
        _load_pretrained(model, weights_path)
    return model


def _load_pretrained(model: Model, path: Path) -> None:
    """Give a backbone the pretrained weights of a file: ours, timm's, or those of a package.

    Tensors that depend on the input's size (position embeddings) are resampled as timm does it.
    """
    received, _ = _split_state(read_weights(path))
    wanted = model.backbone.state_dict()
    if PACKAGE_MARK in received:
        whole = timm.create_model(model.name, pretrained=False)
        received = rename_to_timm(received, wanted=whole.state_dict())
    # timm's own conversion, by the name that its modules give it: older names, other input sizes.
    convert = getattr(sys.modules[type(model.backbone).__module__], "checkpoint_filter_fn", None)
    if convert and any(name not in received or received[name].shape != t.shape for name, t in wanted.items()):
        received = dict(convert(received, model.backbone))
    missing = _check_tensors(received, wanted, path)
    model.backbone.load_state_dict(
        {**wanted, **{name: received[name] for name in wanted if name in received}}
    )
    num_taken = len(wanted) - len(missing)
    logger.info("%s: %d of %d backbone tensors taken", path.name, num_taken, len(wanted))


def load_weights_file(model: Model, path: Path, *, take_head: bool = True) -> LoadedWeights:
    """Copy weights from a safetensors or torch file, ours or timm's, into a model with a linear head.

    Every weight of the backbone must be there in its shape (ValueError names the first that is not). A head
    of another size is left as it was made; the classifier of a file with timm's own names is not used.
    """
    _check_exists(path)
    body, head = _split_state(read_weights(path))
    wanted = model.backbone.state_dict()
    body = resample_positions(body, body=model.backbone, wanted=wanted)
    missing = _check_tensors(body, wanted, path)
    model.backbone.load_state_dict({**wanted, **{name: body[name] for name in wanted if name in body}})
    head_taken = take_head and _shapes(head) == _shapes(model.head.state_dict())
    if head_taken:
        model.head.load_state_dict(head)
    loaded = LoadedWeights(
        num_tensors=len(wanted) - len(missing) + (len(head) if head_taken else 0),
        head_taken=head_taken,
        missing=missing,
        unused=tuple(name for name in body if name not in wanted),
    )
    logger.info("%s: %s", path, _describe(loaded, model=model, num_wanted=len(wanted), head=head))
    return loaded


def _describe(loaded: LoadedWeights, *, model: Model, num_wanted: int, head: Mapping[str, Tensor]) -> str:
    words = [f"{num_wanted - len(loaded.missing)} of {num_wanted} backbone tensors taken"]
    for kind, names in (("not in it", loaded.missing), ("not used", loaded.unused)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            words.append(f"{kind}: {', '.join(names[:3])}{more}")
    num_classes = model.head.out_features
    if loaded.head_taken:
        words.append(f"head of {num_classes} classes taken")
    elif "weight" in head:
        words.append(
            f"head re-initialised for {num_classes} classes (the source's has {len(head['weight'])})"
        )
    else:
        words.append(f"head re-initialised for {num_classes} classes")
    return ", ".join(words)


def _build(
    backbone: str, *, num_classes: int, input_size: int | None, drop_rate: float, seed: int | None
) -> Model:
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        body: Any = make_body(backbone, input_size=input_size, seed=seed)
        return Model(
            body,
            name=backbone,
            num_features=body.head_hidden_size,
            num_classes=num_classes,
            drop_rate=drop_rate,
        )


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


def _check_tensors(
    received: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: Path
) -> tuple[str, ...]:
    """Return the missing names that may be missing; ValueError for another, or one of another shape."""
    missing = tuple(name for name in wanted if name not in received)
    wrong = [
        f"{name} (expected {tuple(tensor.shape)}, received "
        f"{tuple(received[name].shape) if name in received else 'nothing'})"
        for name, tensor in wanted.items()
        if (name not in received and not name.endswith(".num_batches_tracked"))
        or (name in received and received[name].shape != tensor.shape)
    ]
    if wrong:
        raise ValueError(
            f"{source} does not fit the backbone: {len(wrong)} of {len(wanted)} tensors differ, first "
            f"{wrong[0]}. Start from weights of the same backbone."
        )
    return missing
