from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from catalog.content import CONTENT
from catalog.duplicates import is_near_any
from contracts.evaluation import PREDICTIONS, TRAINED_ON
from contracts.table import TableError
from tests.catalog.evidence_tables import with_content
from tests.tracking.tiny_bundle import make_bundle, make_predictions, make_trained_on
from tracking.gates.check import check
from tracking.gates.config import GatesConfig
from tracking.gates.report import GateAnswer, GateReport
from tracking.lineage.origin import Lineage
from tracking.registry.versions import Candidate

COMPARING = ("integrity", "error", "tail", "new_classes", "removed_classes", "calibration")


def _candidate(folder: Path, version: str, *, right: int, trained_on: tuple[str, ...] = ()) -> Candidate:
    """Of the six photos p0..p5, one of each class, the first `right` are answered right."""
    folder = folder / version
    folder.mkdir()
    PREDICTIONS.write(folder / "predictions.parquet", make_predictions(right=right))
    TRAINED_ON.write(folder / "trained_on.parquet", make_trained_on(*trained_on))
    bundle = make_bundle(folder / "bundle", seeds=(1,))
    lineage = Lineage(commit="c0ffee", clean=True, code="abc", inputs={"data/photos/tiny": "md5"})
    paths = (folder / "predictions.parquet", folder / "trained_on.parquet")
    return Candidate(version, bundle, *paths, lineage=lineage)


def _check(challenger: Candidate, champion: Candidate | None, **options: Any) -> GateReport:
    """All gates; one photo is enough to see that latency is measured."""
    options["gates"] = GatesConfig(num_latency_photos=1, **options.pop("limits", {}))
    return check(challenger, champion, **options)


def _error(report: GateReport) -> GateAnswer:
    return report.answer("error")


def _never(bundle: Path, photos: pl.DataFrame) -> pl.DataFrame:
    raise AssertionError(f"nothing is missing, but {photos} are asked for")


def _without_content(*paths: Path) -> None:
    """As versions were registered before tables said what each photo is."""
    for path in paths:
        pl.read_parquet(path).drop("source_sha256", "perceptual_hash").write_parquet(path)


def test_the_first_challenger_passes_and_the_gate_says_why(tmp_path: Path) -> None:
    result = _check(_candidate(tmp_path, "1", right=0), None, score_missing=_never)
    assert result.passed
    assert "there is no champion yet, so version 1 becomes the first one" in result.reasons
    assert (result.challenger, result.champion) == ("1", None)


@pytest.mark.parametrize(("right", "passed"), [(5, True), (4, True), (3, False)])
def test_a_challenger_may_not_be_worse_than_the_champion(tmp_path: Path, right: int, passed: bool) -> None:
    challenger = _candidate(tmp_path, "2", right=right)
    result = _check(challenger, _candidate(tmp_path, "1", right=4), score_missing=_never)
    assert result.passed is passed
    error = f"{1 - right / 6:.4f}"
    relation = "no worse than" if passed else "worse than"
    limit = (
        ""
        if passed
        else ", by more than the 0.005 of gates.max_regression: train it on, or keep the champion"
    )
    numbers = _error(result).numbers
    assert numbers["difference"] == pytest.approx((4 - right) / 6)
    assert numbers["low"] <= numbers["difference"] <= numbers["high"]
    assert _error(result).sentence == (
        f"mean top-1 error of version 2 is {error}, {relation} the 0.3333 of the champion (version 1) on the "
        f"same 6 photos{limit}; difference {numbers['difference']:+.4f}, 95 % interval "
        f"{numbers['low']:+.4f} to {numbers['high']:+.4f}"
    )


def test_photos_that_either_was_trained_on_are_left_out(tmp_path: Path) -> None:
    challenger = _candidate(tmp_path, "2", right=5, trained_on=("p0", "x"))
    champion = _candidate(tmp_path, "1", right=4, trained_on=("p1", "p5"))
    result = _check(challenger, champion, score_missing=_never)
    assert _error(result).details[-2:] == (
        "left out 3 of 6 photos as seen in training: by version 2 1, by the champion (version 1) 2",
        "3 photos are matched by content with the champion's stored answers, 0 are scored with the "
        "champion's bundle",
    )
    assert "is 0.0000, no worse than the 0.3333" in _error(result).sentence  # left: p2 p3 p4


def test_no_photo_left_to_compare_on_is_a_refusal(tmp_path: Path) -> None:
    everything = tuple(f"p{number}" for number in range(6))
    challenger = _candidate(tmp_path, "2", right=6, trained_on=everything)
    result = _check(challenger, _candidate(tmp_path, "1", right=0), score_missing=_never)
    assert not result.passed
    assert "no photo is left to compare on" in _error(result).sentence


def test_photos_the_champion_lacks_are_scored_with_its_bundle(tmp_path: Path) -> None:
    champion = _candidate(tmp_path, "1", right=4)
    known = make_predictions(right=4, photo_ids=("p0", "p1", "p2"))
    known.write_parquet(champion.predictions)
    asked: list[tuple[Path, list[str]]] = []

    def score(bundle: Path, photos: pl.DataFrame) -> pl.DataFrame:
        asked.append((bundle, photos["photo_id"].to_list()))
        return make_predictions(right=6, photo_ids=photos["photo_id"].to_list())

    result = _check(_candidate(tmp_path, "2", right=5), champion, score_missing=score)
    assert asked == [(champion.bundle, ["p3", "p4", "p5"])]
    assert not result.passed
    assert "is 0.1667, worse than the 0.0000" in _error(result).sentence


def test_a_photo_that_nobody_can_score_is_named(tmp_path: Path) -> None:
    champion = _candidate(tmp_path, "1", right=4)
    make_predictions(right=4, photo_ids=("p0",)).write_parquet(champion.predictions)
    with pytest.raises(ValueError, match=r"5 photos, 4 are missing, the first of them p2"):
        _check(
            _candidate(tmp_path, "2", right=5),
            champion,
            score_missing=lambda _, photos: make_predictions(right=6, photo_ids=photos["photo_id"][:1]),
        )


@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
def test_a_missing_member_is_a_refusal_even_without_a_champion(tmp_path: Path, file: str) -> None:
    challenger = _candidate(tmp_path, "1", right=6)
    (challenger.bundle / "members" / "member_1" / file).unlink()
    result = _check(challenger, None, score_missing=_never)
    assert not result.passed
    assert "member member_1 of version 1" in result.reasons[0]


def test_the_champion_itself_passes_as_it_is(tmp_path: Path) -> None:
    candidate = _candidate(tmp_path, "1", right=3)
    result = _check(candidate, candidate, score_missing=_never)
    assert result.passed
    assert "version 1 is the champion already" in result.reasons


def _reshoot(candidate: Candidate, *photo_ids: str) -> None:
    """Give the photos of these names another content in the candidate's evaluation."""
    table = pl.read_parquet(candidate.predictions)
    again = with_content(table, shot=1)
    is_new = pl.col("photo_id").is_in(list(photo_ids))
    pl.concat([table.filter(~is_new), again.filter(is_new)]).write_parquet(candidate.predictions)


def test_photos_shot_again_under_old_names_are_scored_with_the_champions_bundle(tmp_path: Path) -> None:
    challenger = _candidate(tmp_path, "2", right=5)
    _reshoot(challenger, "p0", "p1")
    asked: list[pl.DataFrame] = []

    def score(_: Path, photos: pl.DataFrame) -> pl.DataFrame:
        asked.append(photos)
        return make_predictions(right=0, photo_ids=photos["photo_id"].to_list())

    result = _check(challenger, _candidate(tmp_path, "1", right=6), score_missing=score)
    new = pl.read_parquet(challenger.predictions)
    assert asked[0].equals(new.filter(pl.col("photo_id").is_in(["p0", "p1"])).select(asked[0].columns))
    assert (
        "4 photos are matched by content with the champion's stored answers, 2 are scored"
        in _error(result).details[-1]
    )
    assert (
        "is 0.1667, no worse than the 0.3333" in _error(result).sentence
    )  # its old answers would be 0 wrong


def test_photos_renamed_out_of_train_are_left_out_as_seen(tmp_path: Path) -> None:
    challenger, champion = _candidate(tmp_path, "2", right=5), _candidate(tmp_path, "1", right=0)
    trained = pl.read_parquet(challenger.predictions).head(2).select("photo_id", *CONTENT)
    trained.with_columns("train/" + pl.col("photo_id")).write_parquet(champion.trained_on)
    result = _check(challenger, champion, score_missing=_never)
    assert "left out 2 of 6 photos as seen in training: by version 2 0, by the champion (version 1) 2" in (
        result.reasons
    )
    assert (
        "0.2500, no worse than the 1.0000" in _error(result).sentence
    )  # left: p2 to p5, of which p5 is wrong


def test_another_photo_under_a_name_that_was_trained_on_counts(tmp_path: Path) -> None:
    challenger = _candidate(tmp_path, "2", right=6)
    champion = _candidate(tmp_path, "1", right=6, trained_on=("p0", "p1"))
    _reshoot(challenger, "p0")
    result = _check(
        challenger, champion, score_missing=lambda *_: make_predictions(right=6, photo_ids=["p0"])
    )
    assert "left out 1 of 6 photos" in _error(result).details[1]
    assert "on the same 5 photos" in _error(result).sentence


def test_answers_follow_photos_whose_names_were_exchanged(tmp_path: Path) -> None:
    challenger, champion = _candidate(tmp_path, "2", right=6), _candidate(tmp_path, "1", right=4)
    named = pl.col("photo_id").replace({"p0": "p5", "p5": "p0"})
    pl.read_parquet(challenger.predictions).with_columns(named).write_parquet(challenger.predictions)
    result = _check(challenger, champion, score_missing=_never)
    assert "is 0.0000, no worse than the 0.3333" in _error(result).sentence


def test_one_photo_under_two_names_counts_twice_with_one_stored_answer(tmp_path: Path) -> None:
    challenger, champion = _candidate(tmp_path, "2", right=6), _candidate(tmp_path, "1", right=5)
    table = pl.read_parquet(challenger.predictions)
    twice = table.filter(pl.col("photo_id") == "p5").with_columns(photo_id=pl.lit("p5 again"))
    pl.concat([table, twice]).write_parquet(challenger.predictions)
    result = _check(challenger, champion, score_missing=_never)
    assert "on the same 7 photos" in _error(result).sentence
    assert (
        "no worse than the 0.1667" in _error(result).sentence
    )  # one class of six is wrong, on both its rows


def test_a_champion_from_before_contents_is_scored_as_a_whole_and_its_training_goes_by_name(
    tmp_path: Path,
) -> None:
    champion = _candidate(tmp_path, "1", right=6, trained_on=("p0", "x", "y"))
    _without_content(champion.predictions, champion.trained_on)
    asked: list[str] = []

    def score(_: Path, photos: pl.DataFrame) -> pl.DataFrame:
        asked.extend(photos["photo_id"])
        return make_predictions(right=3, photo_ids=photos["photo_id"].to_list())

    result = _check(_candidate(tmp_path, "2", right=5), champion, score_missing=score)
    assert result.passed
    assert asked == ["p1", "p2", "p3", "p4", "p5"]
    assert _error(result).details[1:] == (
        "of 3 photos that version 1 was trained on only names are known, from before versions kept their "
        "photos' content; 1 photos are left out by name",
        "left out 1 of 6 photos as seen in training: by version 2 0, by the champion (version 1) 1",
        "version 1 was registered before predictions said what each photo is, so all 5 photos are scored "
        "with the champion's bundle",
    )
    assert "is 0.2000, no worse than the 0.6000" in _error(result).sentence


def test_a_challenger_from_before_contents_is_told_what_to_run(tmp_path: Path) -> None:
    challenger = _candidate(tmp_path, "2", right=5)
    _without_content(challenger.predictions, challenger.trained_on)
    result = _check(challenger, _candidate(tmp_path, "1", right=4), score_missing=_never)
    assert not result.passed
    assert "run `dvc repro`, which evaluates it again, then `aisle promote`" in _error(result).sentence


def test_near_duplicates_of_what_was_trained_on_are_left_out_and_counted(tmp_path: Path) -> None:
    challenger, champion = _candidate(tmp_path, "2", right=5), _candidate(tmp_path, "1", right=5)
    alike = with_content(pl.DataFrame({"photo_id": ["p0"]}))
    other = with_content(alike, shot=1).with_columns(alike["perceptual_hash"] ^ 3)  # two bits of 64
    other.write_parquet(champion.trained_on)
    result = _check(challenger, champion, score_missing=_never)
    assert "on the same 6 photos" in _error(result).sentence  # without a search, only equal hashes

    def find_near(hashes: pl.Series, others: pl.Series) -> pl.Series:
        return pl.Series(is_near_any(hashes.to_numpy(), others.to_numpy(), max_distance=2))

    result = _check(challenger, champion, score_missing=_never, find_near=find_near)
    assert _error(result).details[1] == (
        "left out 1 of 6 photos as near-duplicates of photos that a version was trained on"
    )
    assert "on the same 5 photos" in _error(result).sentence


def test_a_version_registered_before_tables_had_versions_compares_like_a_new_one(tmp_path: Path) -> None:
    challenger, champion = _candidate(tmp_path, "2", right=5), _candidate(tmp_path, "1", right=4)
    before = _check(challenger, champion, score_missing=_never)
    for path in (champion.predictions, champion.trained_on, challenger.predictions):
        pl.read_parquet(path).write_parquet(path)  # which keeps no metadata
        assert b"aisle.table" not in (pq.read_schema(path).metadata or {})
    again = _check(challenger, champion, score_missing=_never)
    for gate in COMPARING:
        assert again.answer(gate) == before.answer(gate)


def test_an_evaluation_of_another_format_version_says_what_to_run(tmp_path: Path) -> None:
    challenger, champion = _candidate(tmp_path, "2", right=5), _candidate(tmp_path, "1", right=4)
    replace(PREDICTIONS, version=2).write(challenger.predictions, make_predictions(right=5))
    with pytest.raises(TableError, match=r"received format version 2: run `dvc repro evaluate`\.$"):
        _check(challenger, champion, score_missing=_never)
