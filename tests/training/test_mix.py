"""Mixup and CutMix: what is mixed, how much counts for which label, and that seeds decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recognition.backbones import Model, make_model
from tests.training.conftest import TINY_PHASE
from training.classification import make_classification
from training.config.objectives import MixConfig
from training.objectives.mix import MixObjective
from training.objectives.objective import Batch

MIXUP = MixConfig(mixup_alpha=1.0)
CUTMIX = MixConfig(mixup_alpha=0.0, cutmix_alpha=1.0)


def make_objective(config: MixConfig) -> MixObjective:
    classification = make_classification(
        TINY_PHASE.replace(objective=config, loss_log="none"),
        class_counts=torch.ones(5, dtype=torch.int64),
        coarse_names=(),
        num_features=1,
        seed=0,
    )
    return MixObjective(config, classification)


def make_tiny_model() -> Model:
    return make_model("test_convnext", num_classes=5, initial_weights="random", seed=1).eval()


def make_batch(size: int = 5) -> Batch:
    torch.manual_seed(2)
    photos = torch.randn(size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(size)
    return Batch(photos=photos, labels=labels, positions=labels, num_anchors=size, step=0, progress=0.0)


def test_mixup_blends_each_photo_with_its_mirror_in_the_batch() -> None:
    photos = make_batch().photos
    before = photos.clone()
    np.random.seed(0)
    mixed, share = make_objective(MIXUP).mix(photos)
    assert 0 < share < 1
    for i in range(5):
        torch.testing.assert_close(mixed[i], share * before[i] + (1 - share) * before[4 - i])
    assert torch.equal(photos, before)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_cutmix_pastes_a_box_whose_area_is_the_partners_share() -> None:
    photos = make_batch(4).photos
    before = photos.clone()
    for seed in range(20):
        np.random.seed(seed)
        mixed, share = make_objective(CUTMIX).mix(photos)
        pasted = (mixed[0] == before[3]).all(dim=0)
        kept = (mixed[0] == before[0]).all(dim=0)
        assert (pasted ^ kept).all()
        assert pasted.float().mean().item() == pytest.approx(1 - share)
        assert torch.equal(pasted, (mixed[1] == before[2]).all(dim=0))
        rows, columns = pasted.any(dim=1).sum(), pasted.any(dim=0).sum()
        assert pasted.sum() == rows * columns
    assert torch.equal(photos, before)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_the_loss_is_that_of_the_mixed_label_by_one_hots_in_float64() -> None:
    model, batch, objective = make_tiny_model(), make_batch(), make_objective(MIXUP)
    np.random.seed(3)
    output = objective(model, batch)
    np.random.seed(3)
    photos, share = objective.mix(batch.photos)
    one_hot = F.one_hot(batch.labels, 5).double()
    log_p = model(photos).double().log_softmax(dim=1)
    expected = -((share * one_hot + (1 - share) * one_hot.flip(0)) * log_p).sum(dim=1).mean()
    torch.testing.assert_close(output["loss"].double(), expected, rtol=1e-5, atol=1e-5)
    assert output["logits"] is None


def test_probability_is_the_share_of_mixed_batches_and_switching_that_of_cutmix() -> None:
    both = MixConfig(mixup_alpha=1.0, cutmix_alpha=1.0, probability=0.5, switch_probability=0.25)
    objective, photos = make_objective(both), make_batch(2).photos
    np.random.seed(1)
    drawn = [objective.mix(photos) for _ in range(800)]
    untouched = sum(mixed is photos for mixed, _ in drawn)
    cut = sum(mixed is not photos and bool((mixed == photos).any()) for mixed, _ in drawn)
    assert untouched == pytest.approx(400, abs=60)
    assert cut == pytest.approx(100, abs=30)


def test_equal_seeds_give_equal_mixes() -> None:
    objective, photos = make_objective(CUTMIX), make_batch().photos
    results = []
    for seed in (5, 5, 6):
        np.random.seed(seed)
        results.append(objective.mix(photos))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not torch.equal(results[0][0], results[2][0])
