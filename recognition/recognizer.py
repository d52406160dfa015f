"""Photo bytes to answers: the whole of serving that is not HTTP, and what `aisle predict` runs.

Preprocessing, views, heads and merge are the ones that evaluation used, so that a bundle answers in
production what it answered when it was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from imaging.limits import Limits
from imaging.storage import StoragePolicy, to_stored
from recognition.bundle import (
    MEMBERS_FOLDER,
    EnsembleConfig,
    MemberConfig,
    bundle_kind,
    load_ensemble_config,
    load_member,
    load_member_config,
)
from recognition.feature_bank import pooled_features
from recognition.heads import LinearHead
from recognition.merge import merge_top_k
from recognition.precision import Precision, cast_for_inference, resolve_precision
from recognition.preprocessing import Preprocessing, load_canvases, stack_canvases
from recognition.provenance import Provenance
from recognition.views import Crop, distinct_crops

Canvases = tuple[Tensor, ...]
"""One photo's crops uint8 [V, 3, S, S], for each distinct preprocessing among the members."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One class and how probable it is."""

    class_index: int
    name: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best classes of one photo, most probable first."""

    predictions: list[Prediction]


@dataclass(frozen=True, kw_only=True)
class _Member:
    config: MemberConfig
    backbone: nn.Module
    head: LinearHead


class Recognizer:
    """Answers from one bundle: an ensemble's, or a single member's, which sees the view "center" only.

    All methods may be called from several threads at once.
    """

    def __init__(
        self,
        bundle_dir: Path,
        *,
        precision: Precision = "auto",
        device: torch.device | str = "cpu",
        limits: Limits | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.limits = Limits() if limits is None else limits
        self.config = load_bundle_config(bundle_dir)
        single = bundle_kind(bundle_dir) == "member"
        self._members = [
            self._load(bundle_dir if single else bundle_dir / MEMBERS_FOLDER / name)
            for name in self.config.members
        ]
        self._crops: dict[Preprocessing, tuple[Crop, ...]] = {}
        for member in self._members:
            item = member.config.preprocessing
            self._crops[item] = distinct_crops(item.views(self.config.views))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in index order."""
        return self.config.class_names

    @property
    def initial_weights(self) -> dict[str, Provenance]:
        """What each member's weights were before any training of ours."""
        return {
            name: member.config.initial_weights
            for name, member in zip(self.config.members, self._members, strict=True)
        }

    def prepare(self, data: bytes) -> Canvases:
        """Decode and resize one photo; the slow half that needs no model. PhotoError where it is refused."""
        stored: dict[StoragePolicy, bytes] = {}
        for item in self._crops:
            if item.storage not in stored:
                stored[item.storage] = to_stored(data, policy=item.storage, limits=self.limits).data
        return tuple(
            load_canvases(stored[item.storage], preprocessing=item, crops=crops, limits=self.limits)
            for item, crops in self._crops.items()
        )

    def predict_batch(self, photos: Sequence[Canvases], *, top_k: int = 5) -> list[Answer]:
        """Answer prepared photos, in their order, in one pass of each member."""
        if not photos:
            return []
        classes, probabilities = merge_top_k(self.logits(photos), merge=self.config.merge, k=top_k)
        return [
            Answer(
                predictions=[
                    Prediction(class_index=index, name=self.class_names[index], probability=probability)
                    for index, probability in zip(row_classes, row_probabilities, strict=True)
                ]
            )
            for row_classes, row_probabilities in zip(classes.tolist(), probabilities.tolist(), strict=True)
        ]

    def predict(self, photos: Sequence[bytes], *, top_k: int = 5) -> list[Answer]:
        """Answer photos given as files' bytes, in one batch; PhotoError for the first that is refused."""
        return self.predict_batch([self.prepare(data) for data in photos], top_k=top_k)

    @torch.inference_mode()
    def logits(self, photos: Sequence[Canvases]) -> list[Tensor]:
        """Return each member's logits float32 [B, K] of prepared photos."""
        stacks = [stack_canvases(canvases) for canvases in zip(*photos, strict=True)]
        batches = dict(zip(self._crops, stacks, strict=True))
        results = []
        for member in self._members:
            features = pooled_features(
                member.backbone,
                batches[member.config.preprocessing],
                views=self.config.views,
                preprocessing=member.config.preprocessing,
                device=self.device,
                dtype=self.dtype,
            )
            results.append(member.head(features))
        return results

    def _load(self, path: Path) -> _Member:
        model, config = load_member(path)
        if config.class_names != self.config.class_names:
            raise ValueError(f"The class names of {path} are not those of its ensemble: build it again.")
        backbone = cast_for_inference(model.backbone, device=self.device, dtype=self.dtype)
        return _Member(config=config, backbone=backbone, head=model.linear_head(device=self.device))


def load_bundle_config(bundle_dir: Path) -> EnsembleConfig:
    """Read an ensemble's config, or make the one of an ensemble that is a single member."""
    if bundle_kind(bundle_dir) != "member":
        return load_ensemble_config(bundle_dir)
    config = load_member_config(bundle_dir)
    return EnsembleConfig(
        recipe="", merge="logits", views=("center",), class_names=config.class_names, members=(config.name,)
    )
