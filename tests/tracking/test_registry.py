import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recognition.bundle import digest
from recognition.recognizer import Recognizer
from tests.tracking.tiny_bundle import draw_photo
from tracking.gates.check import check
from tracking.gates.report import GateAnswer, GateReport, Outcome
from tracking.history.history import History
from tracking.project import TrackingError
from tracking.promotion import promote
from tracking.registry.registration import Registered
from tracking.registry.versions import MissingAlias, download, file_digest, get_version, load_candidate
from tracking.store import Store

Register = Callable[..., Registered]

PREDICT_ELSEWHERE = """
import base64, json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
photos = [base64.b64decode(line) for line in sys.stdin]
rows = [photos[0], *(base64.b64encode(photo).decode() for photo in photos[1:])]
table = model.predict(pd.DataFrame({"photo": rows}), params={"top_k": 3})
import recognition
print("RESULT" + json.dumps([table.to_dict("list"), recognition.__file__]))
"""


def test_a_version_holds_all_that_judges_and_rebuilds_it(root: Path, register: Register) -> None:
    registered = register(seeds=(1, 2), right=3)
    version = registered.version
    assert registered.created
    assert (version.name, version.version, version.aliases) == (
        "product-recognizer-tiny",
        "1",
        ("challenger",),
    )
    assert version.tags["aisle.git_commit"] == "c0ffee"
    facts = Store.at(root).client.get_run(version.run_id).data.tags
    assert json.loads(facts["aisle.members"]) == {
        "member_1": "fingerprint-1",
        "member_2": "fingerprint-2",
    }
    assert version.tags["aisle.mean_top1_error"] == "0.5000"
    candidate = load_candidate(Store.at(root), version=version)
    evidence = {path.name: path for path in candidate.predictions.parent.iterdir()}
    assert set(evidence) == {
        "predictions.parquet",
        "trained_on.parquet",
        "evaluated_on.parquet",
        "lineage.json",
        "metrics.json",
        "params.yaml",
        "dvc.lock",
        "digests.json",
    }
    digests = json.loads(evidence["digests.json"].read_text())
    assert digests == {name: file_digest(path) for name, path in evidence.items() if name != "digests.json"}
    assert json.loads(evidence["metrics.json"].read_text()) == {"test/mean_top1_error": 0.5}
    assert evidence["dvc.lock"].read_text() == "# dvc.lock\n"
    assert Store.at(root).client.get_run(version.run_id).data.tags["aisle.kind"] == "ensemble"


def test_the_same_bundle_keeps_its_version_and_takes_a_new_evaluation(root: Path, register: Register) -> None:
    first, other, again = register(right=6), register(seeds=(2,)), register(right=3)
    assert (first.version.version, other.version.version, again.version.version) == ("1", "2", "1")
    assert not again.created
    assert again.version.aliases == ("challenger",)
    assert again.version.tags["aisle.mean_top1_error"] == "0.5000"
    result = check(
        load_candidate(Store.at(root), version=other.version),
        load_candidate(Store.at(root), version=again.version),
        score_missing=lambda *_: pytest.fail("nothing is missing"),
    )
    assert "no worse than the 0.5000 of the champion (version 1)" in result.answer("error").sentence


def test_a_local_store_is_used_in_place_and_what_changed_there_is_not_served(
    root: Path, register: Register
) -> None:
    version = register().version
    bundle = download(Store.at(root), version=version)
    assert bundle.is_relative_to(root / "mlartifacts")
    assert digest(bundle) == version.bundle_digest
    weights = bundle / "members" / "member_1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(TrackingError, match="expected bundle"):
        download(Store.at(root), version=version)


def test_a_missing_version_says_what_to_run(root: Path, register: Register) -> None:
    with pytest.raises(MissingAlias, match="run `dvc repro` to make one"):
        get_version(Store.at(root), data="tiny", which="champion")
    register()
    with pytest.raises(MissingAlias, match="has no champion yet; run `aisle promote`"):
        get_version(Store.at(root), data="tiny", which="champion")
    with pytest.raises(MissingAlias, match="has no version 7; it has 1"):
        get_version(Store.at(root), data="tiny", which="7")
    assert get_version(Store.at(root), data="tiny", which="1") == get_version(
        Store.at(root), data="tiny", which="challenger"
    )


def test_a_dead_server_is_a_sentence_and_not_a_traceback(
    root: Path, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for action in (register, lambda: get_version(Store.at(root), data="tiny", which="champion")):
        with pytest.raises(TrackingError, match=r"MLflow at http://127.0.0.1:9 .* start the server"):
            action()


def test_the_registered_model_answers_like_the_recognizer_in_another_process_and_folder(
    root: Path, register: Register, tmp_path: Path
) -> None:
    version = register(seeds=(1, 2)).version
    uri = Store.at(root).client.get_model_version_download_uri(version.name, version.version)
    photos = [draw_photo(seed) for seed in range(4)]
    expected = Recognizer(download(Store.at(root), version=version)).predict(photos, top_k=3)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(root / "made")  # only what was logged may be needed
    done = subprocess.run(
        [sys.executable, "-I", "-c", PREDICT_ELSEWHERE, uri],
        input="\n".join(base64.b64encode(photo).decode() for photo in photos),
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    table, code = json.loads(done.stdout.split("RESULT")[1])
    assert code.startswith(uri.removeprefix("file://"))
    best = [answer.predictions[0] for answer in expected]
    assert table["class_index"] == [prediction.class_index for prediction in best]
    assert table["class_name"] == [prediction.name for prediction in best]
    assert table["probability"] == pytest.approx([prediction.probability for prediction in best], abs=1e-6)
    assert [len(row) for row in table["top_k_class_name"]] == [3, 3, 3, 3]


def _report(challenger: str, champion: str | None, *, outcome: Outcome, sentence: str) -> GateReport:
    whole = GateAnswer(gate="integrity", outcome="pass", sentence="it is whole")
    answers = (GateAnswer(gate="error", outcome=outcome, sentence=sentence), whole)
    return GateReport(challenger=challenger, champion=champion, answers=answers)


def _passed(challenger: str, champion: str | None) -> GateReport:
    return _report(challenger, champion, outcome="pass", sentence="it is good")


def test_a_promotion_moves_the_alias_and_leaves_its_trace(root: Path, register: Register) -> None:
    register(seeds=(1,))
    assert promote(Store.at(root), data="tiny", gate_result=_passed("1", None), by="anna").moved
    register(seeds=(2,))
    promotion = promote(Store.at(root), data="tiny", gate_result=_passed("2", "1"), by="bert")
    assert (promotion.moved, promotion.version, promotion.previous_champion) == (True, "2", "1")
    champion = get_version(Store.at(root), data="tiny", which="champion")
    assert champion.version == "2"
    history = History.at(Store.at(root))
    events = [event for event in history.events(champion.name) if event.action == "promote"]
    assert [event.kind for event in events] == ["intent", "result", "intent", "result"]
    assert (events[3].by, events[3].version, events[3].previous_version) == ("bert", "2", "1")
    assert [answer["sentence"] for answer in events[2].details["gates"].values()] == [
        "it is good",
        "it is whole",
    ]
    assert abs((datetime.now(UTC) - events[3].at).total_seconds()) < 60
    assert events[1].previous_version is None
    assert history.verify(champion.name) == []


def test_a_refused_gate_moves_nothing(root: Path, register: Register) -> None:
    register()
    refused = _report("1", None, outcome="fail", sentence="it is worse")
    promotion = promote(Store.at(root), data="tiny", gate_result=refused, by="anna")
    assert (promotion.moved, promotion.reasons) == (False, ["it is worse", "it is whole"])
    with pytest.raises(MissingAlias):
        get_version(Store.at(root), data="tiny", which="champion")


def test_a_challenger_that_came_after_the_gate_is_not_promoted_unseen(root: Path, register: Register) -> None:
    register(seeds=(1,))
    register(seeds=(2,))
    with pytest.raises(TrackingError, match="run `aisle promote` again"):
        promote(Store.at(root), data="tiny", gate_result=_passed("1", None), by="anna")
