from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imaging.limits import PhotoError
from imaging.storage import to_stored
from recognition.bundle import load_head, load_member, make_ensemble
from recognition.feature_bank import load_feature_bank, save_feature_bank
from recognition.member import LoadedMember
from recognition.merge import predict_bank
from recognition.preprocessing import Preprocessing
from recognition.recognizer import Recognizer

from .conftest import CLASS_NAMES, draw, encode

PHOTOS = [encode(draw(200 + 40 * seed, 150, seed=seed)) for seed in range(6)]  # the store shrinks all of them


class StoredReader:
    def __init__(self, preprocessing: Preprocessing) -> None:
        self.stored = [to_stored(photo, policy=preprocessing.storage).data for photo in PHOTOS]

    def read(self, row: int) -> bytes:
        return self.stored[row]


def evaluate(ensemble: Path, members: tuple[str, ...], merge, views, work: Path, dtype=torch.float32):
    """The embed and ensemble stages in small: store bytes to feature banks to merged predictions."""
    banks, heads = [], []
    for name in members:
        bundle = ensemble / "members" / name
        member = LoadedMember.load(bundle, device="cpu", dtype=dtype)
        reader = StoredReader(member.preprocessing)
        features = member.embed(reader, np.arange(6), views=views, batch_size=4)
        ids = [str(row) for row in range(6)]
        save_feature_bank(
            work / name, features=features, photo_ids=ids, classes=np.zeros(6, int), bundle_dir=bundle
        )
        banks.append(load_feature_bank(work / name))
        heads.append(load_head(bundle))
    return predict_bank(banks, heads, merge=merge, k=3)


@pytest.fixture
def two_members(make_member, preprocessing: Preprocessing) -> dict[str, Path]:
    """Two members that differ in weights, in preprocessing and in what their heads want."""
    other = replace(preprocessing, input_size=40, resize=48, whole_photo=False)
    return {
        "first": make_member("first", seed=1),
        "second": make_member("second", seed=2, member_preprocessing=other, normalize_features=True),
    }


@pytest.mark.parametrize(
    ("merge", "views"),
    [
        ("logits", ("center", "flip")),
        ("probabilities", ("center", "flip")),
        ("vote", ("center", "flip")),
        ("logits", ("ten_crops",)),
        ("probabilities", ("scales", "bottom_left_60_flip")),
    ],
)
def test_serving_answers_what_evaluation_measured(two_members, tmp_path: Path, merge: str, views) -> None:
    path = tmp_path / "ensemble"
    config = make_ensemble(path, members=two_members, recipe="r", merge=merge, views=views)
    classes, probabilities = evaluate(path, config.members, merge, views, tmp_path / "banks")
    recognizer = Recognizer(path, precision="float32")
    for row, photo in enumerate(PHOTOS):
        (answer,) = recognizer.predict([photo], top_k=3)
        assert [p.class_index for p in answer.predictions] == classes[row].tolist()
        received = torch.tensor([p.probability for p in answer.predictions])
        torch.testing.assert_close(received, probabilities[row], atol=1e-5, rtol=0)


def test_serving_and_evaluation_in_bfloat16_stay_close(two_members, tmp_path: Path) -> None:
    path, views = tmp_path / "ensemble", ("center", "flip")
    config = make_ensemble(path, members=two_members, recipe="r", merge="logits", views=views)
    _, expected = evaluate(path, config.members, "logits", views, tmp_path / "banks")
    _, received = evaluate(path, config.members, "logits", views, tmp_path / "bf16", dtype=torch.bfloat16)
    torch.testing.assert_close(received, expected, atol=0.02, rtol=0)


def test_answers_name_the_classes_most_probable_first(two_members, tmp_path: Path) -> None:
    make_ensemble(tmp_path / "e", members=two_members, recipe="r", merge="logits", views=("center",))
    (answer,) = Recognizer(tmp_path / "e").predict(PHOTOS[:1], top_k=10)
    assert [CLASS_NAMES[p.class_index] for p in answer.predictions] == [p.name for p in answer.predictions]
    probabilities = [p.probability for p in answer.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-5)


def test_batch_and_single_photos_get_equal_answers(two_members, tmp_path: Path) -> None:
    make_ensemble(tmp_path / "e", members=two_members, recipe="r", merge="logits", views=("center",))
    recognizer = Recognizer(tmp_path / "e", precision="float32")
    together = recognizer.predict(PHOTOS, top_k=2)
    for photo, expected in zip(PHOTOS, together, strict=True):
        (alone,) = recognizer.predict([photo], top_k=2)
        for mine, other in zip(alone.predictions, expected.predictions, strict=True):
            assert mine.class_index == other.class_index
            assert mine.probability == pytest.approx(other.probability, abs=1e-5)


def test_members_that_agree_on_preprocessing_share_one_canvas(make_member, two_members, tmp_path) -> None:
    alike = {"first": two_members["first"], "third": make_member("third", seed=3)}
    make_ensemble(tmp_path / "alike", members=alike, recipe="r", merge="logits", views=("center",))
    make_ensemble(tmp_path / "apart", members=two_members, recipe="r", merge="logits", views=("center",))
    assert [c.shape for c in Recognizer(tmp_path / "alike").prepare(PHOTOS[0])] == [(1, 3, 32, 32)]
    shapes = [canvas.shape for canvas in Recognizer(tmp_path / "apart").prepare(PHOTOS[0])]
    assert shapes == [(1, 3, 32, 32), (1, 3, 40, 40)]


def test_single_member_bundle_answers_without_an_ensemble(make_member) -> None:
    path = make_member("first", seed=1)
    recognizer = Recognizer(path, precision="float32")
    model, config = load_member(path)
    member = LoadedMember.of(model, config, device="cpu", dtype=torch.float32)
    reader = StoredReader(config.preprocessing)
    features = member.embed(reader, np.array([0]), views=("center",), batch_size=1)
    expected = model.head(torch.from_numpy(features)).softmax(1).max().item()
    assert recognizer.class_names == CLASS_NAMES
    assert recognizer.predict(PHOTOS[:1])[0].predictions[0].probability == pytest.approx(expected, abs=1e-5)


def test_prepare_works_from_several_threads(make_member) -> None:
    recognizer = Recognizer(make_member("first"))
    expected = [recognizer.prepare(photo)[0] for photo in PHOTOS]
    with ThreadPoolExecutor(4) as pool:
        received = list(pool.map(recognizer.prepare, PHOTOS * 5))
    assert all(torch.equal(canvas, expected[i % 6]) for i, (canvas,) in enumerate(received))


def test_no_photos_give_no_answers(make_member) -> None:
    assert Recognizer(make_member("first")).predict([]) == []


def test_refused_photo_raises_its_reason(make_member) -> None:
    recognizer = Recognizer(make_member("first"))
    with pytest.raises(PhotoError) as caught:
        recognizer.predict([PHOTOS[0], b""])
    assert caught.value.reason == "empty"
