"""What a trained model answers for photos, by hand: a head without weights answers with its bias."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
import torch

from recognition.backbones import make_model
from recognition.bundle import MemberConfig
from recognition.member import LoadedMember
from recognition.preprocessing import Preprocessing
from tests.training.conftest import CLASS_NAMES, draw_photo
from training.answers import measure_answers


class Store:
    def read(self, row: int) -> bytes:
        return draw_photo(row)


@pytest.fixture
def member() -> LoadedMember:
    """Answers class 2 of every photo, and class 0 least."""
    model = make_model("test_resnet", num_classes=4, initial_weights="random", seed=0)
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data = torch.tensor([0.0, 1.0, 3.0, 2.0])
    config = MemberConfig(
        name="certain",
        backbone="test_resnet",
        num_classes=4,
        num_features=model.head.in_features,
        class_names=CLASS_NAMES,
        preprocessing=Preprocessing(input_size=32, resize=32),
        initial_weights="random",
        fingerprint="f00d",
    )
    return LoadedMember.of(model, config, device="cpu", dtype=torch.float32)


def test_a_label_is_measured_and_an_unlabelled_photo_says_the_models_answer(member: LoadedMember) -> None:
    labels, done = np.array([2, 0, -1]), list[int]()
    log = measure_answers(member, Store(), np.arange(3), labels=labels, batch_size=2, progress=done.append)
    total = sum(exp(z) for z in (0, 1, 2, 3))
    assert done == [2, 1]
    assert log.num_seen.tolist() == [1, 1, 1]
    assert log.other_class.tolist() == [3, 2, 2]
    assert log.largest_other.tolist() == pytest.approx([exp(2) / total, exp(3) / total, exp(3) / total])
