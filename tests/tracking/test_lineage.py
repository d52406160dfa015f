"""How a version was made, from what is stored with it, on a real registry; its data are nowhere here."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tracking.lineage.lines import Node, make_tree
from tracking.lineage.page import to_html, to_tree
from tracking.lineage.record import LINEAGE_FILE, Record, record_of
from tracking.lineage.tree import load_lineage
from tracking.project import TrackingError
from tracking.registry.registration import Registered
from tracking.registry.versions import ModelVersion, evidence_of
from tracking.store import Store

Register = Callable[..., Registered]

SHA256 = "ab" * 32
PARAMS = {
    "seed": 3,
    "data": {"name": "tiny", "layout": "image_folder", "root": "/photos"},
    "size": {"name": "tiny"},
    "evaluation": {"split": "test", "validation_split": "val"},
    "recipe": {
        "name": "plain",
        "lists": {"full": {"rule": "full"}},
        "predictions": {"said": {"phase": "first", "list": "full"}},
        "refinements": {
            "low": {
                "rule": "low_loss",
                "base": "data/lists/tiny/full.parquet",
                "evidence": "runs/first/loss_log.parquet",
                "keep": 30,
            },
            "sure": {
                "rule": "confident",
                "base": "data/lists/tiny/low.parquet",
                "evidence": "data/predictions/plain",
                "members": ["said"],
            },
        },
        "weights": {
            "pretrained": {"backbone": "resnet10t", "source": "auto", "path": "conf/nothing.yaml"},
            "teacher": {
                "backbone": "resnet10t",
                "source": "registry",
                "version": "product-recognizer-tiny/1",
            },
        },
        "defaults": {"epochs": 5},
        "phases": {
            "first": {"list": "full", "init": "pretrained", "teacher": "pretrained"},
            "member_1": {
                "list": "sure",
                "init": "first",
                "teacher": "teacher",
                "objective": {"name": "distillation"},
                "optimizer": {"lr": 0.5},
            },
        },
        "members": ["member_1"],
        "ensemble": {"merge": "logits", "views": ["center"]},
    },
}
LOCK = {
    "stages": {
        "ingest": {"outs": [{"path": "data/photos/tiny", "md5": "photos.dir"}]},
        "split": {
            "deps": [{"path": "data/photos/tiny", "md5": "photos.dir"}],
            "outs": [{"path": "data/splits/tiny", "md5": "splits.dir"}],
        },
        "train@first": {
            "deps": [
                {"path": "data/splits/tiny", "md5": "splits.dir"},
                {"path": "training", "md5": "code.dir"},
            ],
            "outs": [
                {"path": "runs/first/bundle", "md5": "first.dir"},
                {"path": "runs/first/loss_log.parquet", "md5": "log"},
            ],
        },
        "train@member_1": {
            "deps": [{"path": "runs/first/bundle", "md5": "first.dir"}],
            "outs": [{"path": "runs/member_1/bundle", "md5": "member.dir"}],
        },
        "train@of_another_recipe": {"outs": [{"path": "runs/of_another_recipe/bundle", "md5": "other.dir"}]},
    }
}


def lines_of(node: Node) -> list[str]:
    return [node.title, *(line for child in node.children for line in lines_of(child))]


def files_of(root: Path, version: ModelVersion) -> Path:
    folder = evidence_of(Store.at(root), version).local
    assert folder is not None
    return folder


def store_record(root: Path, version: ModelVersion, **changes: Any) -> None:
    """Let a version's stored record be that of PARAMS and LOCK with counts."""
    values = record_of(PARAMS, lock=LOCK).model_dump(mode="json")
    values["lists"]["full"] |= {"num_photos": 100, "num_before": 100, "num_classes": 6, "num_unlabelled": 0}
    values["lists"]["low"] |= {
        "num_photos": 60,
        "num_before": 100,
        "num_classes": 6,
        "num_unlabelled": 0,
        "reasons": {"low_loss: rank # of #": 60},
    }
    values["weights"]["pretrained"] |= {
        "kind": "weights",
        "provenance": [
            {"source": "hub timm/x", "model": "resnet10t.c3", "licence": "apache-2.0", "sha256": SHA256}
        ],
    }
    values |= {"origin": {"commit": "c0ffee", "clean": False, "code_digest": "abc"}, **changes}
    Record.model_validate(values)
    (files_of(root, version) / LINEAGE_FILE).write_text(json.dumps(values))


def test_params_and_lock_say_how_phases_lists_and_weights_hang_together() -> None:
    record = record_of(PARAMS, lock=LOCK)
    assert record.init_chain("member_1") == ["member_1", "first", "pretrained"]
    assert record.phases["first"].teacher is None  # it only repeats init
    assert record.phases["member_1"].teacher == "teacher"
    assert record.phases["member_1"].differs == {
        "objective": {"name": "distillation"},
        "optimizer": {"lr": 0.5},
    }
    low, sure = record.lists["low"], record.lists["sure"]
    assert (low.base, low.settings) == ("full", {"keep": 30})
    assert low.evidence is not None
    assert (low.evidence.kind, low.evidence.phases) == ("loss log", ("first",))
    assert sure.evidence is not None
    assert (sure.evidence.kind, sure.evidence.phases, sure.evidence.lists) == (
        "out-of-fold predictions",
        ("first",),
        ("full",),
    )
    assert record.weights["pretrained"].path is None
    assert record.weights["teacher"].version == "product-recognizer-tiny/1"


def test_the_inputs_are_what_the_members_were_made_from_and_nothing_of_other_recipes() -> None:
    assert record_of(PARAMS, lock=LOCK).inputs == {
        "data/photos/tiny": "photos.dir",
        "data/splits/tiny": "splits.dir",
        "runs/first/bundle": "first.dir",
        "runs/first/loss_log.parquet": "log",
        "runs/member_1/bundle": "member.dir",
        "training": "code.dir",
    }


@pytest.mark.parametrize("params", [{}, {"recipe": None}, {"recipe": {"phases": {"a": None}}}])
def test_params_of_any_older_version_make_a_record(params: dict[str, Any]) -> None:
    assert record_of(params, lock={}).recipe is None


def test_the_tree_leads_from_members_through_phases_and_lists_to_weights_and_other_versions(
    root: Path, register: Register
) -> None:
    register(seeds=(0,))
    version = register(seeds=(1,), right=3).version
    store_record(root, version)
    lineage = load_lineage(Store.at(root), version=version)
    lines = lines_of(make_tree(lineage))
    assert lines[0] == ("product-recognizer-tiny version 2 (challenger): recipe plain on tiny, size tiny")
    text = "\n".join(lines)
    for expected in (
        "errors: test/mean_top1_error 0.5000",
        "member member_1, a phase",
        "differs from the recipe's defaults in: objective.name distillation, optimizer.lr 0.5",
        "starts from first, a phase",
        "starts from pretrained, weights of resnet10t: source auto",
        f"resnet10t.c3 from hub timm/x, licence apache-2.0, SHA-256 {SHA256}",
        "taught by teacher, weights of resnet10t: registered version product-recognizer-tiny/1",
        "product-recognizer-tiny version 1: recipe plain on tiny",
        "low: 60 of 100 photos, 6 classes, by rule low_loss (keep 30)",
        "60 x low_loss: rank # of #",
        "evidence: loss log of first (runs/first/loss_log.parquet)",
        "evidence: out-of-fold predictions of first about full (data/predictions/plain)",
        "commit c0ffee, with changes that git does not know",
        "md5 photos.dir",
    ):
        assert expected in text
    order = [
        next(i for i, line in enumerate(lines) if word in line) for word in ("member_1", "first, a phase")
    ]
    assert order == sorted(order)


def test_a_phase_that_two_members_start_from_is_described_once(root: Path, register: Register) -> None:
    version = register(seeds=(1,)).version
    phases = record_of(PARAMS, lock={}).model_dump()["phases"]
    phases |= {"member_2": {"list": "full", "init": "first"}}
    store_record(root, version, phases=phases, ensemble={"members": ["member_1", "member_2"]}, weights={})
    lines = lines_of(make_tree(load_lineage(Store.at(root), version=version)))
    assert sum("starts from first, a phase" in line for line in lines) == 2
    assert sum("learns from list full" in line for line in lines) == 2  # first and member_2, each once
    assert "starts from first, a phase (described above)" in lines


def test_what_is_not_known_is_said(root: Path, register: Register) -> None:
    version = register(seeds=(1,)).version
    weights = record_of(PARAMS, lock={}).model_dump()["weights"]
    weights["teacher"] |= {"version": "product-recognizer-tiny/7"}
    weights["other"] = {
        "backbone": "resnet10t",
        "source": "file",
        "path": "/models/bundle",
        "kind": "member",
        "provenance": [{"source": "random"}],
    }
    store_record(root, version, weights=weights)
    unknown = "\n".join(load_lineage(Store.at(root), version=version).unknown)
    for expected in (
        "how many photos the list sure has",
        "the photo store's counts",
        "the fingerprint of phase first",
        "where the weights pretrained came from",
        "which photos the model in /models/bundle, from which other was taken, had learnt from",
        "how product-recognizer-tiny/7 was made, which phases start from: product-recognizer-tiny has no",
    ):
        assert expected in unknown
    assert "list full" not in unknown


def test_a_version_from_before_shows_what_its_files_and_tags_say(root: Path, register: Register) -> None:
    register(seeds=(0,))
    version = register(seeds=(1, 2)).version
    folder = files_of(root, version)
    (folder / LINEAGE_FILE).unlink()
    (folder / "evaluated_on.parquet").unlink()
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "dvc.lock").write_text(yaml.safe_dump(LOCK))
    splits = [{"split": "train", "photos": 9, "labelled": 8, "classes": 6}]
    review = {"method": "given", "splits": splits, "num_photos": 12, "num_refused": 2}
    (folder / "review.json").write_text(json.dumps(review))
    lineage = load_lineage(Store.at(root), version=version)
    record = lineage.record
    assert record.origin.commit == "c0ffee"
    assert record.origin.clean is True
    assert record.inputs["runs/member_1/bundle"] == "member.dir"
    assert record.splits is not None
    assert record.splits[0].labelled == 8
    assert (record.photos.num_photos, record.photos.num_rejected) == (12, 2)
    assert [origin.source for origin in record.weights["pretrained"].provenance] == [
        "random"
    ]  # of the bundle
    assert "registered before lineage.json was stored" in lineage.unknown[0]
    assert "low: unknown photos, unknown classes, by rule low_loss (keep 30)" in lines_of(make_tree(lineage))


def test_registering_again_completes_a_version_from_before_and_then_rewrites_nothing(
    root: Path, register: Register
) -> None:
    version = register().version
    folder = files_of(root, version)
    (folder / LINEAGE_FILE).unlink()
    again = register()
    assert (again.created, again.version.version) == (False, version.version)
    written = (folder / LINEAGE_FILE).stat().st_mtime_ns
    assert load_lineage(Store.at(root), version=again.version).unknown == (
        "the photo store's counts: it was not there at registration",
        "what the source had: the stage `source` had written nothing",
    )
    register()
    assert (folder / LINEAGE_FILE).stat().st_mtime_ns == written


def test_a_version_whose_files_are_gone_is_known_by_its_tags(root: Path, register: Register) -> None:
    version = register(seeds=(1, 2)).version
    shutil.rmtree(files_of(root, version))
    lineage = load_lineage(Store.at(root), version=version)
    assert lineage.record.ensemble.members == ("member_1", "member_2")
    assert lineage.record.origin.commit == "c0ffee"
    assert "gone from the artifact store" in lineage.unknown[0]
    bare = replace(version, tags={key: value for key, value in version.tags.items() if "evidence" not in key})
    assert "registered without files" in load_lineage(Store.at(root), version=bare).unknown[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"format_version": 2}', "format 1, received 2: a later version of Aisle wrote it"),
        ('{"format_version": 1, "phases": 3}', "received another content"),
        ("{", "received another content"),
        ("[]", "received another content"),
    ],
)
def test_a_record_that_aisle_did_not_write_is_refused(
    root: Path, register: Register, text: str, expected: str
) -> None:
    version = register().version
    (files_of(root, version) / LINEAGE_FILE).write_text(text)
    with pytest.raises(TrackingError, match=expected):
        load_lineage(Store.at(root), version=version)


def test_the_form_of_json_is_whole_and_stable(root: Path, register: Register) -> None:
    register(seeds=(0,))
    version = register(seeds=(1,)).version
    store_record(root, version)
    shown = load_lineage(Store.at(root), version=version).to_json()
    assert json.loads(json.dumps(shown)) == shown
    assert set(shown) == {
        "format_version",
        "model",
        "version",
        "aliases",
        "bundle_digest",
        "run_id",
        "registered_by",
        "registered_at",
        "metrics",
        "record",
        "parameters",
        "unknown",
        "started_from",
    }
    assert shown["record"] == {
        key: value
        for key, value in json.loads((files_of(root, version) / LINEAGE_FILE).read_text()).items()
        if not key.startswith("registered")
    }
    assert shown["parameters"] == "# params.yaml\n"
    assert list(shown["started_from"]) == ["product-recognizer-tiny/1"]


def test_the_page_needs_nothing_beside_it_and_escapes_what_came_from_outside(
    root: Path, register: Register
) -> None:
    version = register().version
    store_record(root, version, recipe="<script>alert(1)</script>", weights={})
    page = to_html(load_lineage(Store.at(root), version=version))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "runs/first/loss_log.parquet" in page
    for outside in ("http://", "https://", "src=", "<link"):
        assert outside not in page


def test_a_terminal_shows_names_in_brackets_as_they_are(root: Path, register: Register) -> None:
    version = register().version
    store_record(root, version, recipe="[red]plain[/red]", weights={})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(to_tree(make_tree(load_lineage(Store.at(root), version=version))))
    assert "recipe [red]plain[/red] on tiny" in console.export_text()
