"""The model that distillation learns from: a member's bundle or an ensemble's, as it answers in serving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognition.bundle import MEMBERS_FOLDER, Merge, bundle_kind, load_ensemble_config, load_member
from recognition.heads import LinearHead
from recognition.precision import cast_for_inference
from recognition.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class _Member:
    backbone: nn.Module
    head: LinearHead
    preprocessing: Preprocessing


class Teacher:
    """Answers photos that were prepared for the student; no nn.Module, so nothing trains or checkpoints it.

    It sees the view that the student sees, as the student's augmentation left it.
    """

    def __init__(
        self, members: Sequence[_Member], *, merge: Merge, student: Preprocessing, dtype: torch.dtype
    ) -> None:
        self.members = tuple(members)
        self.merge = merge
        self.student = student
        self.dtype = dtype

    @torch.no_grad()
    def __call__(self, photos: Tensor) -> Tensor:
        """Return logits float32 [N, K] of the student's normalised photos, float32 [N, 3, S, S].

        An ensemble's are the mean of its members' logits where it merges logits, else the logarithm of the
        mean of their probabilities (merge "vote", too: votes have no temperature). A temperature divides
        either; at 1 the student is taught the probabilities that the ensemble answers.
        """
        with torch.autocast(photos.device.type, enabled=False):
            total = self._answer(self.members[0], photos)
            for member in self.members[1:]:
                answer = self._answer(member, photos)
                total = total.add_(answer) if self.merge == "logits" else torch.logaddexp(total, answer)
            number = len(self.members)
            return total.div_(number) if self.merge == "logits" else total.sub_(math.log(number))

    def _answer(self, member: _Member, photos: Tensor) -> Tensor:
        """Return one member's logits, made log probabilities where these are merged."""
        seen = adapt_photos(photos, of=self.student, to=member.preprocessing)
        features = member.backbone(seen.to(self.dtype)).float()
        logits = member.head(features)
        return logits if self.merge == "logits" else logits.log_softmax(dim=1)


def load_teacher(
    folder: Path,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    student: Preprocessing,
    class_names: Sequence[str],
) -> Teacher:
    """Read a member's or an ensemble's bundle as a teacher for photos of the student's preprocessing.

    dtype: what the backbones compute in. ValueError where its classes are not the student's, in their order.
    """
    merge: Merge = "logits"
    paths = [folder]
    if bundle_kind(folder) == "ensemble":
        config = load_ensemble_config(folder)
        merge = config.merge
        paths = [folder / MEMBERS_FOLDER / name for name in config.members]
    members = [_load(path, device=device, dtype=dtype, class_names=tuple(class_names)) for path in paths]
    return Teacher(members, merge=merge, student=student, dtype=dtype)


def adapt_photos(photos: Tensor, *, of: Preprocessing, to: Preprocessing) -> Tensor:
    """Normalise photos [N, 3, S, S] anew and resize them, antialiased, from one preprocessing to another's.

    Only mean, std and input_size count: what was cut off is gone.
    """
    if (of.mean, of.std) != (to.mean, to.std):
        old_mean, old_std, mean, std = (
            torch.tensor(values, device=photos.device).view(1, 3, 1, 1)
            for values in (of.mean, of.std, to.mean, to.std)
        )
        photos = photos * (old_std / std) + (old_mean - mean) / std
    if photos.shape[-1] != to.input_size:
        size = (to.input_size, to.input_size)
        photos = F.interpolate(photos, size=size, mode="bilinear", antialias=True)
    return photos


def _load(
    path: Path, *, device: torch.device | str, dtype: torch.dtype, class_names: tuple[str, ...]
) -> _Member:
    model, config = load_member(path)
    _check_classes(config.class_names, class_names, path)
    return _Member(
        backbone=cast_for_inference(model.backbone, device=device, dtype=dtype),
        head=model.linear_head(device=device),
        preprocessing=config.preprocessing,
    )


def _check_classes(teacher: tuple[str, ...], student: tuple[str, ...], path: Path) -> None:
    if teacher == student:
        return
    if len(teacher) != len(student):
        difference = f"{len(teacher)} of them"
    else:
        index = next(i for i, names in enumerate(zip(teacher, student, strict=True)) if names[0] != names[1])
        difference = f"{teacher[index]!r} as class {index} instead of {student[index]!r}"
    raise ValueError(
        f"Expected a teacher of the phase's {len(student)} classes in their order, received {difference} in "
        f"{path}. Train the teacher on the same data."
    )
