"""Class lists that differ: shared classes are compared by name, added and removed ones are judged alone."""

from pathlib import Path

import polars as pl
import pytest

from tests.tracking.candidates import Answers, make_candidate, predict
from tracking.gates.check import check
from tracking.gates.config import GatesConfig
from tracking.gates.report import GateReport
from tracking.registry.versions import Candidate

OLD, NEW = ("ale", "bread", "corn"), ("bread", "dill", "ale")  # corn went, dill came, the order changed


def _never(bundle: Path, photos: pl.DataFrame) -> pl.DataFrame:
    raise AssertionError(f"nothing is missing, but {photos} are asked for")


def _check(
    challenger: Candidate, champion: Candidate, *, accept_removed: int = 1, **limits: object
) -> GateReport:
    gates = GatesConfig.model_validate({"num_latency_photos": 1, **limits})
    return check(challenger, champion, score_missing=_never, gates=gates, accept_removed=accept_removed)


def _champion(folder: Path) -> Candidate:
    """Of two photos each of ale and bread, ale's second is answered with corn."""
    answers = [
        ("a1", "ale", "ale"),
        ("a2", "ale", "corn"),
        ("b1", "bread", "bread"),
        ("b2", "bread", "bread"),
    ]
    return make_candidate(folder, "1", classes=OLD, answers=answers)


def _challenger(folder: Path, *more: tuple[str, str, str]) -> Candidate:
    """Ale's second photo is answered with dill, which the champion lacks: an error, too."""
    answers = [
        ("a1", "ale", "ale"),
        ("a2", "ale", "dill"),
        ("b1", "bread", "bread"),
        ("b2", "bread", "bread"),
    ]
    return make_candidate(folder, "2", classes=NEW, answers=[*answers, *more])


def _dill(*answers: str) -> Answers:
    return [(f"d{number}", "dill", answer) for number, answer in enumerate(answers)]


def test_shared_classes_are_compared_by_name_and_other_answers_are_errors(
    tmp_path: Path,
) -> None:
    report = _check(_challenger(tmp_path, *_dill("dill", "dill", "ale")), _champion(tmp_path))
    assert report.passed, report.failures
    error = report.answer("error")
    assert error.sentence.startswith(
        "mean top-1 error of version 2 is 0.2500, no worse than the 0.2500 of the champion (version 1) on "
        "the same 4 photos; difference +0.0000"
    )
    assert error.details[0] == (
        "version 2 has 1 classes that the champion (version 1) lacks ('dill') and not 1 of its classes "
        "('corn'); errors are compared on the 2 classes that both have"
    )


def test_new_classes_are_judged_by_an_error_of_their_own(tmp_path: Path) -> None:
    champion = _champion(tmp_path)
    known = _check(_challenger(tmp_path / "a", *_dill("dill", "dill", "ale")), champion)
    assert known.answer("new_classes").outcome == "pass"
    assert known.answer("new_classes").numbers["error"] == pytest.approx(1 / 3)
    assert known.answer("new_classes").names["added"] == ("dill",)
    unknown = _check(_challenger(tmp_path / "b", *_dill("ale", "bread", "dill")), champion)
    assert [answer.gate for answer in unknown.failures] == ["new_classes"]
    assert (
        "is 0.6667 on the 1 judged of 1 classes that the champion (version 1) lacks, more than the 0.5 of "
        in (unknown.answer("new_classes").sentence)
    )
    assert unknown.answer("new_classes").names["above the limit"] == ("dill",)


def test_a_new_class_of_too_few_photos_is_named_and_not_judged(tmp_path: Path) -> None:
    answer = _check(_challenger(tmp_path, *_dill("ale", "ale")), _champion(tmp_path)).answer("new_classes")
    assert answer.outcome == "not applicable"
    assert "1 new classes have fewer than 3 evaluation photos (gates.min_photos)" in answer.details[0]
    assert answer.names["not judged"] == ("dill",)


@pytest.mark.parametrize(("accepted", "outcome"), [(0, "fail"), (1, "pass"), (5, "pass")])
def test_removed_classes_are_accepted_by_their_number(tmp_path: Path, accepted: int, outcome: str) -> None:
    report = _check(_challenger(tmp_path), _champion(tmp_path), accept_removed=accepted)
    answer = report.answer("removed_classes")
    assert answer.outcome == outcome
    assert answer.numbers == {"removed": 1, "accepted": accepted}
    assert answer.names["removed"] == ("corn",)
    assert ("--accept-removed 1" in answer.sentence) is (accepted == 0)


def test_equal_class_lists_leave_both_gates_nothing_to_judge(tmp_path: Path) -> None:
    champion = _champion(tmp_path)
    same = make_candidate(tmp_path, "2", classes=OLD, answers=[("a1", "ale", "ale")])
    report = _check(same, champion, accept_removed=0)
    assert report.answer("error").details[0] == "both versions have the same class list"
    for gate in ("new_classes", "removed_classes"):
        assert report.answer(gate).outcome == "not applicable"


def test_no_shared_class_is_a_refusal_that_says_so(tmp_path: Path) -> None:
    other = make_candidate(tmp_path, "2", classes=("x", "y"), answers=[("p", "x", "x")])
    report = _check(other, _champion(tmp_path), accept_removed=3)
    assert "none of the 1 photos of the evaluation is of a class that the champion (version 1) has" in (
        report.answer("error").sentence
    )
    assert report.answer("tail").outcome == "not applicable"


def test_photos_scored_with_the_champions_bundle_are_read_in_its_own_classes(tmp_path: Path) -> None:
    champion = make_candidate(tmp_path, "1", classes=OLD, answers=[("b1", "bread", "bread")])
    report = check(
        _challenger(tmp_path),
        champion,
        score_missing=lambda _, photos: predict(
            [(photo, "ale", "ale" if photo[0] == "a" else "bread") for photo in photos["photo_id"]],
            classes=OLD,
        ),
        gates=GatesConfig(num_latency_photos=1),
        accept_removed=1,
    )
    assert report.answer("error").numbers["champion_error"] == 0


def test_the_tail_is_the_third_of_the_classes_with_fewest_training_photos(tmp_path: Path) -> None:
    champion, challenger = _champion(tmp_path), _challenger(tmp_path)
    counts = {"bread": 90, "dill": 40, "ale": 3}  # the tail is ale, of which one photo of two is wrong
    report = check(
        challenger, champion, score_missing=_never, gates=GatesConfig(num_latency_photos=1),
        train_counts=counts, accept_removed=1,
    )  # fmt: skip
    tail = report.answer("tail")
    assert (tail.outcome, tail.numbers["error"], tail.numbers["num_photos"]) == ("pass", 0.5, 2)
    assert "error of the tail of version 2 is 0.5000" in tail.sentence
