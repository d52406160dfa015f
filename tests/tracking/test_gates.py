from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from tests.tracking.tiny_bundle import CLASS_NAMES, make_bundle, make_predictions
from tracking.gates import Candidate, check


def _candidate(folder: Path, version: str, *, right: int, trained_on: tuple[str, ...] = ()) -> Candidate:
    """Of the six photos p0..p5, one of each class, the first `right` are answered right."""
    folder = folder / version
    folder.mkdir()
    make_predictions(right=right).write_parquet(folder / "predictions.parquet")
    photos = pl.DataFrame({"photo_id": list(trained_on)}, schema={"photo_id": pl.String})
    photos.write_parquet(folder / "trained_on.parquet")
    bundle = make_bundle(folder / "bundle", seeds=(1,))
    return Candidate(version, bundle, folder / "predictions.parquet", folder / "trained_on.parquet")


def _never(bundle: Path, photo_ids: list[str]) -> pl.DataFrame:
    raise AssertionError(f"nothing is missing, but {photo_ids} are asked for")


def test_the_first_challenger_passes_and_the_gate_says_why(tmp_path: Path) -> None:
    result = check(_candidate(tmp_path, "1", right=0), None, score_missing=_never)
    assert result.passed
    assert "there is no champion yet, so version 1 becomes the first one" in result.reasons
    assert (result.challenger, result.champion) == ("1", None)


@pytest.mark.parametrize(("right", "passed"), [(5, True), (4, True), (3, False)])
def test_a_challenger_may_not_be_worse_than_the_champion(tmp_path: Path, right: int, passed: bool) -> None:
    challenger = _candidate(tmp_path, "2", right=right)
    result = check(challenger, _candidate(tmp_path, "1", right=4), score_missing=_never)
    assert result.passed is passed
    error = f"{1 - right / 6:.4f}"
    relation = "no worse than" if passed else "worse than"
    assert result.reasons[-1] == (
        f"mean top-1 error of version 2 is {error}, {relation} the 0.3333 of the champion (version 1) on the "
        "same 6 photos"
    )


def test_photos_that_either_was_trained_on_are_left_out(tmp_path: Path) -> None:
    challenger = _candidate(tmp_path, "2", right=5, trained_on=("p0", "x"))
    champion = _candidate(tmp_path, "1", right=4, trained_on=("p1", "p5"))
    result = check(challenger, champion, score_missing=_never)
    assert result.reasons[-2] == "left out 3 photos that one of the two was trained on"
    assert "is 0.0000, no worse than the 0.3333" in result.reasons[-1]  # left: p2 p3 p4


def test_no_photo_left_to_compare_on_is_a_refusal(tmp_path: Path) -> None:
    everything = tuple(f"p{number}" for number in range(6))
    challenger = _candidate(tmp_path, "2", right=6, trained_on=everything)
    result = check(challenger, _candidate(tmp_path, "1", right=0), score_missing=_never)
    assert not result.passed
    assert "no photo is left to compare on" in result.reasons[-1]


def test_photos_the_champion_lacks_are_scored_with_its_bundle(tmp_path: Path) -> None:
    champion = _candidate(tmp_path, "1", right=4)
    known = make_predictions(right=4, photo_ids=("p0", "p1", "p2"))
    known.write_parquet(champion.predictions)
    asked: list[tuple[Path, list[str]]] = []

    def score(bundle: Path, photo_ids: list[str]) -> pl.DataFrame:
        asked.append((bundle, photo_ids))
        return make_predictions(right=6, photo_ids=photo_ids)

    result = check(_candidate(tmp_path, "2", right=5), champion, score_missing=score)
    assert asked == [(champion.bundle, ["p3", "p4", "p5"])]
    assert not result.passed
    assert "is 0.1667, worse than the 0.0000" in result.reasons[-1]


def test_a_photo_that_nobody_can_score_is_named(tmp_path: Path) -> None:
    champion = _candidate(tmp_path, "1", right=4)
    make_predictions(right=4, photo_ids=("p0",)).write_parquet(champion.predictions)
    with pytest.raises(ValueError, match=r"5 photos, 4 are missing, the first of them p2"):
        check(
            _candidate(tmp_path, "2", right=5),
            champion,
            score_missing=lambda _, ids: make_predictions(right=6, photo_ids=ids[:1]),
        )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (CLASS_NAMES[:5], "version 2 has 5 classes and the champion 6"),
        ((*CLASS_NAMES[:5], "kiwi"), "class 5 is 'kiwi' in version 2, 'fig' in the champion"),
    ],
)
def test_another_class_list_is_a_refusal(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    other = make_bundle(tmp_path / "other", seeds=(1,), class_names=names)
    challenger = replace(_candidate(tmp_path, "2", right=6), bundle=other)
    result = check(challenger, _candidate(tmp_path, "1", right=0), score_missing=_never)
    assert not result.passed
    assert words in result.reasons[-1]


@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
def test_a_missing_member_is_a_refusal_even_without_a_champion(tmp_path: Path, file: str) -> None:
    challenger = _candidate(tmp_path, "1", right=6)
    (challenger.bundle / "members" / "member_1" / file).unlink()
    result = check(challenger, None, score_missing=_never)
    assert not result.passed
    assert "member member_1 of version 1" in result.reasons[0]


def test_the_champion_itself_passes_as_it_is(tmp_path: Path) -> None:
    candidate = _candidate(tmp_path, "1", right=3)
    result = check(candidate, candidate, score_missing=_never)
    assert result.passed
    assert "version 1 is the champion already" in result.reasons
