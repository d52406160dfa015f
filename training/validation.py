"""How good a model is after an epoch, on photos it does not train on, by the evaluation's metrics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from recognition.backbones import Model
from recognition.loader import make_inference_loader
from recognition.metrics import error_metrics
from recognition.preprocessing import Preprocessing, normalize
from training.environment import Environment
from training.loader import Reader


class Validation:
    """The validation photos of a phase; there may be none."""

    def __init__(
        self,
        reader: Reader,
        *,
        rows: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
        preprocessing: Preprocessing,
        batch_size: int,
        num_workers: int,
    ) -> None:
        self.labels = labels
        self.preprocessing = preprocessing
        self.loader = make_inference_loader(
            reader, rows, preprocessing=preprocessing, batch_size=batch_size, num_workers=num_workers
        )

    @torch.inference_mode()
    def measure(self, model: Model, *, environment: Environment) -> dict[str, float]:
        """Return val/mean_top1_error, val/top1_error, val/loss (plain cross entropy); {} without photos."""
        if len(self.labels) == 0:
            return {}
        model.eval()
        labels = torch.from_numpy(self.labels)
        classes = torch.empty(len(labels), 1, dtype=torch.int64)
        loss_sum = 0.0
        for photos, positions in self.loader:
            pixels = normalize(photos.to(environment.device), self.preprocessing)
            with environment.autocast():
                logits = model(pixels.contiguous(memory_format=torch.channels_last)).float()
            target = labels[positions].to(environment.device)
            loss_sum += F.cross_entropy(logits, target, reduction="sum").item()
            classes[positions] = logits.argmax(dim=1, keepdim=True).cpu()
        errors = error_metrics(classes.numpy(), self.labels, num_classes=model.head.out_features)
        return {
            "val/mean_top1_error": errors["mean_top1_error"],
            "val/top1_error": errors["top1_error"],
            "val/loss": loss_sum / len(labels),
        }
