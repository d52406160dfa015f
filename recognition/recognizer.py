"""Photo bytes to answers: the whole of serving that is not HTTP, and what `aisle predict` runs.

Preprocessing, views, heads and merge are the ones that evaluation used, so that a bundle answers in
production what it answered when it was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imaging.limits import Limits
from imaging.storage import StoragePolicy, to_stored
from recognition.member import load_members
from recognition.merge import merge_top_k
from recognition.precision import Precision, resolve_precision
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
        self.config, self._members = load_members(bundle_dir, device=self.device, dtype=self.dtype)
        self._crops: dict[Preprocessing, tuple[Crop, ...]] = {}
        for member in self._members:
            item = member.preprocessing
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
            features = member.features(batches[member.preprocessing], views=self.config.views)
            results.append(member.head(features))
        return results
