from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from catalog.refinement import RefinementConfig, refine, score_dropped


def _log(losses: dict[int, list[float]]) -> pl.DataFrame:
    """A loss log whose photo ids are class letter and position: a0, a1, ..., b0, ..."""
    rows = [(f"{'abc'[c]}{i}", c, loss) for c, values in losses.items() for i, loss in enumerate(values)]
    schema = {"photo_id": pl.String, "class": pl.Int32, "mean_loss": pl.Float32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _kept(losses, *, num_classes=3, **options) -> list[str]:
    rows = refine(_log(losses), num_classes=num_classes, config=RefinementConfig(**options))
    return rows["photo_id"].to_list()


def test_each_class_keeps_its_lowest_losses_in_the_logs_order():
    losses = {0: [0.9, 0.1, 0.5, 0.3], 1: [0.2, 0.8]}
    rows = refine(_log(losses), num_classes=3, config=RefinementConfig(keep=2))
    assert rows.rows() == [
        ("a1", 0, "low_loss: rank 1 of 4"),
        ("a3", 0, "low_loss: rank 2 of 4"),
        ("b0", 1, "low_loss: rank 1 of 2"),
        ("b1", 1, "low_loss: rank 2 of 2"),
    ]
    assert rows.schema == {"photo_id": pl.String, "class": pl.Int32, "why": pl.String}


def test_a_class_with_fewer_photos_keeps_what_it_has():
    assert _kept({0: [0.4, 0.2], 2: [5.0]}, keep=5) == ["a0", "a1", "c0"]


def test_equal_losses_break_by_photo_id_not_by_position():
    log = _log({0: [0.5, 0.5, 0.5, 0.1]})[[2, 1, 3, 0]]
    rows = refine(log, num_classes=1, config=RefinementConfig(keep=2, max_mean_loss=9))
    assert sorted(rows["photo_id"]) == ["a0", "a3"]


def test_the_cut_comes_first_but_never_below_what_a_class_keeps():
    # class 0 has one photo above the cut and enough others; class 1 lies above it as a whole
    losses = {0: [0.1, 0.2, 0.3, 9.0], 1: [7.0, 8.0, 9.0]}
    assert _kept(losses, keep=2, max_mean_loss=1.0) == ["a0", "a1", "b0", "b1"]
    assert _kept(losses, keep=4, max_mean_loss=1.0) == ["a0", "a1", "a2", "a3", "b0", "b1", "b2"]


def test_the_cut_defaults_to_a_share_of_the_log_of_the_number_of_classes():
    cut = 0.832 * math.log(50_030)
    assert cut == pytest.approx(9.0, abs=0.01)
    # the two photos just above the cut are gone, so the rank is counted among three
    losses = {0: [1.0, 2.0, 3.0, cut + 0.01, cut + 0.02]}
    rows = refine(_log(losses), num_classes=50_030, config=RefinementConfig(keep=1))
    assert rows["why"].to_list() == ["low_loss: rank 1 of 3"]


def test_a_later_band_is_taken_where_it_is_no_worse_than_the_median():
    # ranks 3-4 of 8 are a2, a3; the median pair starts at (8 - 2) // 2 = 3: a3, a4, with a higher mean
    losses = {0: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}
    assert _kept(losses, keep=2, first_rank=3, max_mean_loss=9) == ["a2", "a3"]


def test_a_band_with_a_higher_mean_than_the_median_gives_way_to_it():
    # ranks 5-6 of 7 have mean 0.55; the median pair starts at (7 - 2) // 2 = 2: a2, a3
    losses = {0: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}
    rows = refine(_log(losses), num_classes=1, config=RefinementConfig(keep=2, first_rank=5, max_mean_loss=9))
    assert rows["photo_id"].to_list() == ["a2", "a3"]
    assert rows["why"].to_list() == ["low_loss: median, rank 3 of 7", "low_loss: median, rank 4 of 7"]


def test_an_incomplete_band_uses_the_median_of_what_the_cut_left():
    # five photos, two cut: of a0 a1 a2 the band of ranks 3-4 is incomplete, the median pair starts at 0
    losses = {0: [0.1, 0.2, 0.3, 5.0, 6.0]}
    assert _kept(losses, keep=2, first_rank=3, max_mean_loss=1.0) == ["a0", "a1"]


def test_a_photo_that_was_never_seen_ranks_last():
    assert _kept({0: [float("nan"), 3.0, 2.0]}, keep=2, max_mean_loss=9) == ["a1", "a2"]


def test_many_rows_select_what_a_plain_sort_selects():
    rng = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "photo_id": rng.permutation(5000).astype(str),
            "class": rng.integers(0, 40, 5000).astype(np.int32),
            "mean_loss": rng.integers(0, 50, 5000).astype(np.float32) / 10,  # full of ties
        }
    )
    rows = refine(log, num_classes=40, config=RefinementConfig(keep=7, max_mean_loss=99))
    plain = log.sort("class", "mean_loss", "photo_id").group_by("class").head(7)
    assert set(rows["photo_id"]) == set(plain["photo_id"])
    assert len(rows) == 40 * 7


@pytest.mark.parametrize(
    ("losses", "words"),
    [({}, "0 rows without one"), ({0: [float("nan")]}, "diverged"), ({2: [1.0]}, r"classes of 0\.\.1")],
)
def test_a_loss_log_without_use_is_refused(losses, words):
    with pytest.raises(ValueError, match=words):
        refine(_log(losses), num_classes=2, config=RefinementConfig())


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="'high_loss'"):
        RefinementConfig(rule="high_loss")


def test_dropped_photos_are_scored_against_the_truth():
    # train: a..e of which d and e are wrong; the list keeps a, b, d: it drops c and e
    ids = ["a", "b", "c", "d", "e", "v"]
    splits = pl.DataFrame({"photo_id": ids, "class": [0] * 6, "split": ["train"] * 5 + ["val"]})
    truth = pl.DataFrame(
        {"photo_id": ids, "label": ["jam"] * 6, "true_label": ["jam"] * 3 + ["tea"] * 2 + ["jam"]}
    )
    kept = pl.DataFrame({"photo_id": ["a", "b", "d"]})
    score = score_dropped(kept, splits=splits, truth=truth)
    assert (score.num_listed, score.num_wrong, score.num_dropped, score.num_wrong_dropped) == (5, 2, 2, 1)
    assert (score.precision, score.recall) == (0.5, 0.5)


def test_without_known_truth_there_is_no_score():
    splits = pl.DataFrame({"photo_id": ["a"], "class": [0], "split": ["train"]})
    truth = pl.DataFrame(
        {"photo_id": ["a"], "label": ["jam"], "true_label": pl.Series([None], dtype=pl.String)}
    )
    with pytest.raises(ValueError, match="received none"):
        score_dropped(splits, splits=splits, truth=truth)
