from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

from catalog.sources import make_source
from catalog.sources.synthetic import SyntheticConfig, SyntheticSource, count_train_photos, draw_photo
from catalog.sources.synthetic_products import make_skus
from imaging.decode import decode, open_photo

SMALL = SyntheticConfig(num_skus=8, photos_head=32, photos_tail=4, photos_val=2, photos_test=3)


def test_train_counts_fall_exponentially_from_head_to_tail():
    config = SyntheticConfig(num_skus=4, skus_per_brand=2, photos_head=80, photos_tail=10)
    assert sorted(count_train_photos(config).tolist(), reverse=True) == [80, 40, 20, 10]


def test_val_and_test_have_the_same_few_photos_of_every_sku_and_no_wrong_label():
    photos = [photo for photo in SyntheticSource(SMALL).photos() if photo.split != "train"]
    assert set(Counter((photo.split, photo.label) for photo in photos).items()) == {
        ((split, name), number)
        for split, number in (("val", 2), ("test", 3))
        for name in SyntheticSource(SMALL).class_names
    }
    assert all(photo.label == photo.true_label for photo in photos)


def test_the_share_of_wrong_labels_is_exact_and_every_class_keeps_a_true_photo():
    source = SyntheticSource(
        SyntheticConfig(num_skus=8, photos_head=32, photos_tail=1, wrong_label_share=0.5)
    )
    train = [photo for photo in source.photos() if photo.split == "train"]
    wrong = [photo for photo in train if photo.label != photo.true_label]
    assert len(wrong) == round(0.5 * len(train))
    assert {photo.label for photo in train if photo.label == photo.true_label} == set(source.class_names)


@pytest.mark.parametrize(("within_brand", "expected"), [(1.0, 1.0), (0.0, 3 / 7)])
def test_wrong_labels_stay_within_the_brand_as_often_as_asked(within_brand, expected):
    config = SyntheticConfig(num_skus=8, photos_head=600, photos_tail=600, wrong_within_brand=within_brand)
    source = SyntheticSource(config)
    wrong = [photo for photo in source.photos() if photo.label != photo.true_label]
    same = np.mean([source.coarse_of[photo.label] == source.coarse_of[photo.true_label] for photo in wrong])
    assert same == pytest.approx(expected, abs=0.1)


def test_skus_of_a_brand_differ_in_one_detail_and_their_names_say_it():
    skus = make_skus(16, skus_per_brand=4, seed=3)
    details = []
    for first in range(0, 16, 4):
        packages = [asdict(sku.package) for sku in skus[first : first + 4]]
        details.append({key for key in packages[0] if len({package[key] for package in packages}) > 1})
    assert details == [
        {"flavour_text", "flavour_color"},
        {"size_text"},
        {"badge_text", "badge_color"},
        {"cap_color"},
    ]
    assert len({sku.name for sku in skus}) == 16
    assert all(sku.name.startswith(sku.brand + " ") for sku in skus)


def test_a_photo_is_drawn_the_same_every_time_and_ids_are_unique():
    first, second = (list(SyntheticSource(SMALL).photos()) for _ in range(2))
    assert first == second
    assert [photo.read() for photo in first[:8]] == [photo.read() for photo in second[:8]]
    assert len({photo.photo_id for photo in first}) == len(first) == len(SyntheticSource(SMALL))


def test_seeds_and_photos_differ():
    drawn = {draw_photo(SMALL, sku, seed) for sku in (0, 1) for seed in (0, 1)}
    drawn.add(draw_photo(SMALL.replace(seed=1), 0, 0))
    assert len(drawn) == 5


def test_unseen_photos_are_in_no_split():
    splits = {photo.read() for photo in SyntheticSource(SMALL).photos()}
    assert not splits & {draw_photo(SMALL, sku, seed) for sku in range(8) for seed in range(3)}


def test_photos_have_the_size_asked_for():
    header = open_photo(draw_photo(SyntheticConfig(num_skus=4, width=96, height=128), 3, 0))
    assert (header.format, header.width, header.height) == ("JPEG", 96, 128)


def test_in_a_studio_a_flavour_stripe_can_be_told_from_its_twins():
    studio = SyntheticConfig(clutter=0, light=0, blur=0, rotation_degrees=0, perspective=0, scale_min=0.9)
    pixels = [decode(draw_photo(studio, sku, 0)).astype(int) for sku in range(4)]
    stripes = [photo[115:135, 60:100].mean(axis=(0, 1)) for photo in pixels]
    gaps = [np.abs(a - b).max() for i, a in enumerate(stripes) for b in stripes[:i]]
    assert min(gaps) > 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"photos_tail": 200}, "photos_tail <= photos_head"),
        ({"skus_per_brand": 9}, "skus_per_brand <= 8"),
        ({"wrong_label_share": 1.5}, "wrong_label_share < 1"),
        ({"num_skus": "forty"}, "expected a valid integer"),
    ],
)
def test_options_without_sense_are_refused_with_the_rule(options, words):
    with pytest.raises(ValueError, match=words):
        make_source("synthetic", options=options)
