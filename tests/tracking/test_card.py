"""A version's card and tags, what lies beside them, and versions from before."""

from collections.abc import Callable
from pathlib import Path

from recognition.provenance import Provenance
from tests.tracking.test_pipeline_run import PIPELINE, runs
from tracking.lineage.origin import Lineage
from tracking.registry.card import MAX_LENGTH, card, put_gate
from tracking.registry.registration import Registered
from tracking.registry.versions import SHOWN_TAGS, evidence_of, get_version, load_candidate
from tracking.runs.note import make_note, summary_metrics
from tracking.store import Store

Register = Callable[..., Registered]
LINEAGE = Lineage(commit="c0ffee" * 6, clean=True, code="abc", inputs={})


def make_card(gate: str | None = None) -> str:
    return card(
        recipe="loss_guided",
        members=["a", "b"],
        metrics={"test/mean_top1_error": 0.25, "test/tail_top1_error": 0.5},
        lists=["low_loss (1,204 photos)"],
        lineage=LINEAGE,
        licences=[Provenance(source="package x 1", model="resnet50", licence="apache-2.0")] * 2,
        registered="by anna, `dvc repro register`",
        gate=gate,
    )


def test_a_card_says_what_a_version_errs_and_comes_from() -> None:
    lines = make_card().splitlines()
    assert lines[0] == "loss_guided: 25.00 % mean top-1 error on test"
    assert "| ensemble | 25.00 | - | - | 50.00 |" in lines
    assert "| lists | low_loss (1,204 photos) |" in lines
    assert "| made from | commit `c0ffeec0ff` |" in lines
    assert "| weights | resnet50, licence apache-2.0 |" in lines
    assert "| registered | by anna, `dvc repro register` |" in lines


def test_a_gates_answer_takes_the_place_of_the_one_before() -> None:
    assert put_gate(put_gate(make_card(), gate="fail: error"), gate="pass: all 9") == make_card("pass: all 9")
    assert put_gate("anna's own words", gate="pass") == "anna's own words"
    long = put_gate(make_card(), gate="x" * 9000)
    assert len(long) == MAX_LENGTH
    assert "the whole report is an artifact" in long


def test_a_version_shows_eight_tags_and_its_evidence_holds_the_rest(root: Path, register: Register) -> None:
    version = register(seeds=(1, 2), right=3).version
    assert set(version.tags) == set(SHOWN_TAGS)
    assert len(version.tags) == 8
    candidate = load_candidate(Store.at(root), version=version)
    assert candidate.lineage is not None
    assert candidate.lineage.inputs == {"data/photos/tiny": "md5"}
    found = Store.at(root).client.get_model_version(version.name, version.version)
    assert found.description.startswith("plain: 50.00 % mean top-1 error on test\n")


def test_a_version_from_before_keeps_its_facts_and_a_new_evaluation_shortens_its_tags(
    root: Path, register: Register
) -> None:
    store, version = Store.at(root), register(right=6).version
    (Path(str(evidence_of(store, version).local)) / "lineage.json").unlink()
    older = {
        "aisle.inputs": '{"data/photos/tiny": "old"}',
        "aisle.fingerprint": "old",
        "aisle.promoted_by": "bert",
    }
    for key, value in older.items():
        store.client.set_model_version_tag(version.name, version.version, key, value)
    before = get_version(store, data="tiny", which="1")
    lineage = load_candidate(store, version=before).lineage
    assert lineage is not None
    assert lineage.inputs == {"data/photos/tiny": "old"}
    after = register(right=3).version
    assert set(after.tags) == {*SHOWN_TAGS, "aisle.promoted_by"}
    lineage = load_candidate(store, version=after).lineage
    assert lineage is not None
    assert lineage.inputs == {"data/photos/tiny": "md5"}


def test_a_persons_description_stays(root: Path, register: Register) -> None:
    store, version = Store.at(root), register(right=6).version
    store.client.update_model_version(version.name, version.version, description="for shop 12")
    register(right=3)
    assert store.client.get_model_version(version.name, version.version).description == "for shop 12"


def test_a_versions_run_is_its_pipelines(root: Path, register: Register) -> None:
    version = register(pipeline=PIPELINE).version
    (parent,) = runs(root).values()
    assert version.run_id == parent.info.run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["test/mean_top1_error"] == 0.0


def test_a_pipeline_has_one_metric_a_member_and_a_note() -> None:
    errors = {"ensemble": {"mean_top1_error": 0.25, "top5_error": 0.1}, "a": {"mean_top1_error": 0.5}}
    assert summary_metrics(errors, split="test") == {
        "test/mean_top1_error": 0.25,
        "test/top5_error": 0.1,
        "test_members/mean_top1_error/a": 0.5,
    }
    lists = {"full": "full (1,204 photos)"}
    note = make_note(errors, lists=lists, num_photos=1200, split="test", lineage=LINEAGE)
    assert "| ensemble | 25.00 | - | - | - |" in note
    assert "On 1,200 photos of the split test. Members: a." in note
    assert "Lists: full (1,204 photos)." in note
