"""Each gate by itself: what it measures, what refuses a challenger, and the sentence that says what to do."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contracts.evaluation import PREDICTIONS
from recognition.bundle import digest
from tests.tracking.candidates import make_candidate
from tests.tracking.tiny_bundle import make_bundle
from tracking.gates.config import GatesConfig
from tracking.gates.errors import judge_error, judge_tail
from tracking.gates.integrity import judge_integrity
from tracking.gates.origins import judge_approval, judge_licence, judge_lineage, judge_review
from tracking.gates.photos import Classes, Comparison
from tracking.gates.serving import judge_calibration, judge_latency, judge_size
from tracking.lineage.origin import Lineage
from tracking.registry.versions import Candidate, file_digest

GATES = GatesConfig(num_latency_photos=2)


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    return make_candidate(tmp_path, "2", classes=("ale", "bread"), answers=[("a", "ale", "ale")])


def _comparison(*, wrong: np.ndarray, other_wrong: np.ndarray, labels: np.ndarray) -> Comparison:
    names = tuple(f"sku {number}" for number in range(labels.max() + 1))
    classes = Classes(names=names, added=(), removed=(), other_index=np.arange(len(names)))
    none = np.array([], dtype=np.int64)
    ones = np.ones(len(labels), dtype=np.float32)
    return Comparison(
        challenger="2", other="version 1", classes=classes, labels=labels, wrong=wrong,
        other_wrong=other_wrong, probability=ones, other_probability=ones * 0.75, new_labels=none,
        new_wrong=none.astype(bool), told=(),
    )  # fmt: skip


def _errors(*, share: float, other_share: float, num_classes: int = 50, size: int = 4) -> Comparison:
    """The first share of num_classes times size photos are wrong, one of each class in turn."""
    labels = np.tile(np.arange(num_classes), size)
    order = np.arange(len(labels))
    return _comparison(
        wrong=order < share * len(labels), other_wrong=order < other_share * len(labels), labels=labels
    )


def test_a_difference_within_chance_is_refused_only_where_more_is_required() -> None:
    chance = _errors(share=0.49, other_share=0.5)
    assert judge_error(chance, gates=GATES).outcome == "pass"
    answer = judge_error(chance, gates=GATES.replace(require_significant=True))
    assert answer.outcome == "fail"
    assert "the interval reaches 0" in answer.sentence
    assert answer.numbers["low"] < -0.01 < 0 <= answer.numbers["high"]
    better = judge_error(_errors(share=0.3, other_share=0.5), gates=GATES.replace(require_significant=True))
    assert (better.outcome, better.numbers["high"] < 0) == ("pass", True)


def test_a_regression_is_allowed_up_to_its_limit_and_the_interval_is_said_either_way() -> None:
    worse = _errors(share=0.52, other_share=0.5)
    refused, allowed = (
        judge_error(worse, gates=GATES.replace(max_regression=limit)) for limit in (0.015, 0.02)
    )
    assert (refused.outcome, allowed.outcome) == ("fail", "pass")
    assert (
        "is 0.5200, worse than the 0.5000 of version 1 on the same 200 photos, by more than the 0.015 of "
        in (refused.sentence)
    )
    assert "worse than the 0.5000 of version 1 on the same 200 photos, by no more than the 0.02 of" in (
        allowed.sentence
    )
    for answer in (refused, allowed):
        assert "difference +0.0200, 95 % interval " in answer.sentence


def test_classes_that_became_significantly_worse_are_a_table() -> None:
    labels = np.repeat(np.arange(20), 30)
    comparison = _comparison(wrong=labels == 7, other_wrong=np.zeros(600, dtype=bool), labels=labels)
    (row,) = judge_error(comparison, gates=GATES).rows
    assert row == {
        "class": "sku 7",
        "photos": 30,
        "error": 1.0,
        "champion_error": 0.0,
        "adjusted_p": pytest.approx(20 * 2.0**-30),
    }


def test_a_tail_that_became_worse_is_refused_by_a_limit_of_its_own() -> None:
    labels = np.tile(np.arange(30), 10)
    comparison = _comparison(
        wrong=(labels >= 20) & (np.arange(300) < 30), other_wrong=labels < 0, labels=labels
    )
    counts = {f"sku {number}": 100 - number for number in range(30)}
    answer = judge_tail(comparison, train_counts=counts, gates=GATES)
    assert (answer.outcome, answer.numbers["difference"]) == ("fail", pytest.approx(0.1))
    assert "gates.max_tail_regression" in answer.sentence
    unjudged = judge_tail(comparison, train_counts=counts, gates=GATES.replace(max_tail_regression=None))
    assert unjudged.outcome == "not applicable"
    assert judge_tail(comparison, train_counts=None, gates=GATES).outcome == "not applicable"
    equal = judge_tail(comparison, train_counts=dict.fromkeys(counts, 7), gates=GATES)
    assert equal.sentence == "all classes have 7 training photos each, so none is rarer than others"


def test_calibration_is_compared_on_the_same_photos() -> None:
    labels = np.zeros(4, dtype=np.int64)
    one_wrong = np.array([True, False, False, False])  # at 1.0 the gap is .25, at .75 it is 0
    comparison = _comparison(wrong=one_wrong, other_wrong=one_wrong, labels=labels)
    answer = judge_calibration(comparison, gates=GATES)
    assert answer.outcome == "fail"
    assert answer.numbers["difference"] == pytest.approx(0.25)
    assert (
        judge_calibration(comparison, gates=GATES.replace(max_calibration_regression=0.25)).outcome == "pass"
    )


def test_latency_and_size_are_ratios_to_the_other_bundle(tmp_path: Path, candidate: Candidate) -> None:
    bundle = make_bundle(tmp_path / "large", seeds=range(4), class_names=("ale", "bread"))
    larger = replace(candidate, bundle=bundle)
    strict = GATES.replace(max_latency_ratio=2, max_size_ratio=2)
    slow = judge_latency(larger, candidate, other="version 1", gates=strict)
    assert (slow.outcome, slow.numbers["ratio"] > 2) == ("fail", True)
    assert judge_latency(candidate, larger, other="version 1", gates=strict).outcome == "pass"
    assert judge_latency(candidate, None, other="none", gates=strict).outcome == "not applicable"
    size = judge_size(larger, candidate, other="version 1", gates=strict)
    assert (size.outcome, size.numbers["ratio"]) == ("fail", pytest.approx(4, rel=0.01))
    assert judge_size(candidate, larger, other="version 1", gates=strict).outcome == "pass"


def test_a_bundle_that_does_not_load_is_refused_before_it_is_served(candidate: Candidate) -> None:
    weights = candidate.bundle / "members" / "member_1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    answer = judge_latency(candidate, None, other="none", gates=GATES)
    assert answer.outcome == "fail"
    assert "received an error" in answer.sentence


def test_a_changed_file_of_bundle_or_evidence_is_named(candidate: Candidate) -> None:
    digests = {path.name: file_digest(path) for path in (candidate.predictions, candidate.trained_on)}
    whole = replace(candidate, bundle_digest=digest(candidate.bundle), evidence_digests=digests)
    assert judge_integrity(whole).outcome == "pass"
    PREDICTIONS.write(candidate.predictions, PREDICTIONS.read(candidate.predictions).slice(0, 0))
    candidate.trained_on.unlink()
    config = candidate.bundle / "config.json"
    config.write_text(config.read_text().replace('"logits"', '"vote"').replace('"probabilities"', '"vote"'))
    answer = judge_integrity(whole)
    assert answer.outcome == "fail"
    said = [*answer.details, answer.sentence]
    assert [
        words in line for words, line in zip(("bundle", "predictions", "trained_on"), said, strict=True)
    ] == ([True] * 3)
    assert "received no file" in said[2]


def test_weights_of_an_unlisted_licence_are_refused_or_named(candidate: Candidate) -> None:
    assert judge_licence(candidate, allowed=["mit"], gates=GATES).outcome == "not applicable"  # random
    config = candidate.bundle / "members" / "member_1" / "config.json"
    values = json.loads(config.read_text())
    values["initial_weights"] = {"source": "hub x", "model": "m", "licence": "cc-by-nc-4.0", "sha256": "ab"}
    config.write_text(json.dumps(values))
    refused = judge_licence(candidate, allowed=["mit"], gates=GATES)
    assert refused.outcome == "fail"
    assert "began from m (hub x), whose licence is cc-by-nc-4.0" in refused.sentence
    tolerant = GATES.replace(require_allowed_licence=False)
    assert judge_licence(candidate, allowed=["mit"], gates=tolerant).outcome == "pass"
    assert judge_licence(candidate, allowed=["cc-by-nc-4.0"], gates=GATES).outcome == "pass"


@pytest.mark.parametrize(
    ("lineage", "require_clean", "outcome", "words"),
    [
        (Lineage("c0ffee", True, "abc", {"data": "md5"}), True, "pass", "from commit c0ffee"),
        (Lineage("c0ffee", False, "abc", {"data": "md5"}), False, "pass", "nobody else can make it again"),
        (
            Lineage("c0ffee", False, "abc", {"data": "md5"}),
            True,
            "fail",
            "changes that commit c0ffee does not",
        ),
        (Lineage("", False, "abc", {"data": "md5"}), True, "fail", "made with no commit"),
        (
            Lineage("c0ffee", True, "abc", {"data": "", "more": "m"}),
            False,
            "fail",
            "the hash of data is unknown",
        ),
        (Lineage("c0ffee", True, "abc", {}), False, "fail", "what it was made from is unknown"),
        (None, False, "fail", "run `dvc repro`"),
    ],
)
def test_lineage_needs_every_hash_and_where_wanted_a_clean_commit(
    candidate: Candidate, lineage: Lineage | None, require_clean: bool, outcome: str, words: str
) -> None:
    made = replace(candidate, lineage=lineage)
    answer = judge_lineage(made, gates=GATES.replace(require_clean=require_clean))
    assert answer.outcome == outcome
    assert words in answer.sentence


def test_open_warnings_of_the_review_are_refused_until_somebody_acknowledges_them(
    candidate: Candidate,
) -> None:
    assert judge_review(candidate, gates=GATES).outcome == "not applicable"
    warnings = [
        {"what": "classes with one photo", "count": 2, "names": ["ale", "bread"]},
        {"what": "class names that print alike", "count": 1, "names": ["'ale' = 'a1e'"]},
    ]
    candidate.review.write_text(json.dumps({"format_version": 1, "warnings": warnings}))
    answer = judge_review(candidate, gates=GATES)
    assert answer.outcome == "fail"
    assert "1 open warnings (class names that print alike: 1, first 'ale' = 'a1e')" in answer.sentence
    looked_at = GATES.replace(acknowledged_warnings=("classes with", "class names"))
    assert judge_review(candidate, gates=looked_at).outcome == "pass"
    candidate.review.write_text("{}")
    with pytest.raises(ValueError, match=r"review\.json, format version 1, received format version None"):
        judge_review(candidate, gates=GATES)


def test_an_approval_by_the_one_who_registered_it_is_none(candidate: Candidate) -> None:
    assert judge_approval(candidate, approvals=None, gates=GATES).outcome == "not applicable"
    strict = GATES.replace(require_approval=True)
    for approvals, words in ((None, "no approval"), (lambda _: ["anna"], "only that of anna")):
        answer = judge_approval(candidate, approvals=approvals, gates=strict)
        assert answer.outcome == "fail"
        assert words in answer.sentence
    asked = []
    answer = judge_approval(
        candidate, approvals=lambda version: asked.append(version) or ["anna", "bert"], gates=strict
    )
    assert (asked, answer.outcome) == (["2"], "pass")
    assert answer.sentence == "version 2 was approved by bert"
