"""The model that distillation learns from: a member's bundle or an ensemble's, as it answers in serving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from recognition.bundle import Merge, load_bundle_config
from recognition.member import LoadedMember, load_members
from recognition.preprocessing import Preprocessing


class Teacher:
    """Answers photos that were prepared for the student; no nn.Module, so nothing trains or checkpoints it.

    It sees the view that the student sees, as the student's augmentation left it.
    """

    def __init__(self, members: Sequence[LoadedMember], *, merge: Merge, student: Preprocessing) -> None:
        self.members = tuple(members)
        self.merge = merge
        self.student = student

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

    def _answer(self, member: LoadedMember, photos: Tensor) -> Tensor:
        """Return one member's logits, made log probabilities where these are merged."""
        seen = adapt_photos(photos, of=self.student, to=member.preprocessing)
        features = member.backbone(seen.to(member.dtype)).float()
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
    _check_classes(load_bundle_config(folder).class_names, tuple(class_names), folder)
    config, members = load_members(folder, device=device, dtype=dtype)
    return Teacher(members, merge=config.merge, student=student)


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
