from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from recognition.backbones import make_model
from recognition.bundle import digest, load_member
from recognition.feature_bank import load_feature_bank, save_feature_bank
from recognition.member import extract_features, pooled_features
from recognition.preprocessing import Preprocessing, normalize

from .conftest import BACKBONE, loaded

CANVASES = torch.randint(0, 256, (5, 1, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)
LOADER = [(CANVASES[[3, 4]], torch.tensor([3, 4])), (CANVASES[:3], torch.tensor([0, 1, 2]))]


def extract(model, preprocessing: Preprocessing, *, views=("center", "flip"), dtype=torch.float32):
    return extract_features(loaded(model, preprocessing, dtype=dtype), LOADER, views=views)


def test_features_are_the_mean_over_the_views_in_position_order(preprocessing: Preprocessing) -> None:
    model = make_model(BACKBONE, num_classes=2, initial_weights="random", seed=0).train()
    features = extract(model, preprocessing)
    model.eval()
    x = normalize(CANVASES[:, 0], preprocessing)
    with torch.inference_mode():
        expected = (model.features(x) + model.features(torch.flip(x, [3]))) / 2
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-5)


def quarter_turn(grid: list[list[int]]) -> list[list[int]]:
    """Anticlockwise: the last column becomes the first row."""
    return [list(column) for column in zip(*grid, strict=True)][::-1]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_view_is_the_canvas_turned_by_hand(turns: int, mirrored: bool) -> None:
    grid = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    expected = [row[::-1] for row in grid] if mirrored else grid
    for _ in range(turns):
        expected = quarter_turn(expected)
    name = "center" + (f"_rot{90 * turns}" if turns else "") + ("_flip" if mirrored else "")
    features = pooled_features(
        nn.Flatten(),  # a backbone that answers with what it saw
        torch.tensor(grid, dtype=torch.uint8).expand(1, 1, 3, 3, 3),
        views=(name,),
        preprocessing=Preprocessing(input_size=3, resize=3, mean=(0, 0, 0), std=(1, 1, 1)),
        device="cpu",
        dtype=torch.float32,
    )
    seen = (features.view(3, 3, 3)[0] * 255).round().int().tolist()
    assert seen == expected


def test_d4_averages_the_features_of_all_eight(preprocessing: Preprocessing) -> None:
    model = make_model(BACKBONE, num_classes=3, initial_weights="random", seed=0)
    names = [f"center{turn}{flip}" for turn in ("", "_rot90", "_rot180", "_rot270") for flip in ("", "_flip")]
    single = [extract(model, preprocessing, views=(name,)) for name in names]
    together = extract(model, preprocessing, views=("d4",))
    np.testing.assert_allclose(together, np.mean(single, axis=0), rtol=1e-4, atol=1e-5)


def test_mean_of_features_gives_the_mean_of_the_views_logits(preprocessing: Preprocessing) -> None:
    model = make_model(BACKBONE, num_classes=3, initial_weights="random", seed=0).eval()
    with torch.inference_mode():
        both, center, flip = (
            model.head(torch.from_numpy(extract(model, preprocessing, views=views)))
            for views in (("center", "flip"), ("center",), ("flip",))
        )
    torch.testing.assert_close(both, (center + flip) / 2, rtol=1e-4, atol=1e-5)


def test_extraction_leaves_the_model_as_it_was(preprocessing: Preprocessing) -> None:
    model = make_model(BACKBONE, num_classes=2, initial_weights="random", seed=0).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    extract(model, preprocessing, dtype=torch.bfloat16)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def save_bank(path: Path, bundle_dir: Path) -> np.ndarray:
    features = np.arange(12, dtype=np.float32).reshape(3, 4)
    classes = np.array([2, -1, 0])
    save_feature_bank(
        path, features=features, photo_ids=["a", "b", "c"], classes=classes, bundle_dir=bundle_dir
    )
    return features


def test_bank_survives_its_folder(make_member, tmp_path: Path) -> None:
    bundle = make_member("first")
    features = save_bank(tmp_path / "bank", bundle)
    bank = load_feature_bank(tmp_path / "bank")
    assert isinstance(bank.features, np.memmap)
    np.testing.assert_array_equal(bank.features, features)
    assert bank.photo_ids == ["a", "b", "c"]
    assert bank.classes.tolist() == [2, -1, 0]
    assert digest(bank.bundle_dir) == digest(bundle)
    assert load_member(bank.bundle_dir)[1].name == "first"


def test_photo_without_a_label_is_null_on_disk(make_member, tmp_path: Path) -> None:
    save_bank(tmp_path / "bank", make_member("first"))
    table = pq.read_table(tmp_path / "bank" / "photos.parquet")
    assert table.to_pydict() == {"photo_id": ["a", "b", "c"], "class": [2, None, 0]}
    assert str(table.schema.field("class").type) == "int32"


def test_equal_banks_have_equal_bytes(make_member, tmp_path: Path) -> None:
    bundle = make_member("first")
    save_bank(tmp_path / "one", bundle)
    save_bank(tmp_path / "two", bundle)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_bank_of_unequal_lengths_is_refused(make_member, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="received 2, 1, 2"):
        save_feature_bank(
            tmp_path / "bank",
            features=np.zeros((2, 4), np.float32),
            photo_ids=["a"],
            classes=np.zeros(2, np.int64),
            bundle_dir=make_member("first"),
        )


def test_missing_bank_says_which_stage_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Run the embed stage"):
        load_feature_bank(tmp_path / "absent")
