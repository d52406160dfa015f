"""Promotion with a photo store at hand, on a real registry: whose content the gate has scored."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from aisle.promote import promote_challenger
from catalog.content import CONTENT
from catalog.ingest.run import ingest
from catalog.photo_store import PHOTOS_FILE
from catalog.sources import make_source
from pipelines.params import EvaluationParams
from tests.tracking.conftest import new_store, register, root  # noqa: F401  fixtures
from tests.tracking.tiny_bundle import draw_photo
from tracking.artifacts import Artifacts
from tracking.gates.config import GatesConfig
from tracking.gates.page import GATE_REPORT_TAG
from tracking.gates.report import GateReport
from tracking.registry.registration import Registered
from tracking.registry.versions import (
    DIGESTS_FILE,
    PREDICTIONS_TAG,
    file_digest,
    get_version,
    load_candidate,
)
from tracking.store import Store

EVALUATION = EvaluationParams(split="test", validation_split="val")
# The tiny bundle's probabilities mean nothing; one photo shows that latency is measured.
GATES = GatesConfig(num_latency_photos=1, max_calibration_regression=None)

Register = Callable[..., Registered]


def _ingest(project: Path, *, first_seed: int) -> pl.DataFrame:
    """Six photos fruit/p0.jpg to fruit/p5.jpg in data/photos/tiny; what photos.parquet says of them."""
    folder = project / "raw" / "fruit"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(6):
        (folder / f"p{number}.jpg").write_bytes(draw_photo(first_seed + number))
    store = project / "data/photos/tiny"
    ingest(make_source("image_folder", root=project / "raw"), store, num_workers=0, progress=False)
    return pl.read_parquet(store / PHOTOS_FILE).select("photo_id", *CONTENT)


def _evaluated_on(project: Path, registered: Registered, photos: pl.DataFrame) -> None:
    """Let a version's stored predictions be of these photos."""
    store, version = Store.at(project), registered.version
    path = load_candidate(store, version=version).predictions
    pl.read_parquet(path).with_columns(photos).write_parquet(path)
    _accept(store, version.name, version.version, path)


def _accept(store: Store, name: str, version: str, predictions: Path) -> None:
    """Let a version be registered with these predictions, which the gate `integrity` compares."""
    store.client.set_model_version_tag(name, version, PREDICTIONS_TAG, file_digest(predictions))
    digests = predictions.with_name(DIGESTS_FILE)
    kept = json.loads(digests.read_text())
    kept["trained_on.parquet"] = file_digest(predictions.with_name("trained_on.parquet"))
    digests.write_text(json.dumps(kept))


def _promote(project: Path) -> tuple[bool, list[str]]:
    """Whether the champion moved, and what the gate `error` said."""
    store = Store.at(project)
    done = promote_challenger(store, data="tiny", evaluation=EVALUATION, by="tester", gates=GATES)
    error = stored_report(store, done.version).answer("error")
    return done.moved, [*error.details, error.sentence]


def stored_report(store: Store, number: str) -> GateReport:
    """The latest report among the artifacts of a version's run."""
    version = get_version(store, data="tiny", which=number)
    run = store.client.get_run(version.run_id)
    folder = Artifacts(store, f"{run.info.artifact_uri}/{run.data.tags[GATE_REPORT_TAG]}").local
    assert folder is not None
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    return GateReport.from_json((folder / "report.json").read_text())


def test_photos_shot_again_are_scored_by_the_champion_on_the_store(root: Path, register: Register) -> None:  # noqa: F811
    _evaluated_on(root, register(seeds=(1,), right=6), _ingest(root, first_seed=0))
    assert _promote(root)[0]
    _evaluated_on(root, register(seeds=(2,), right=5), _ingest(root, first_seed=50))
    moved, reasons = _promote(root)
    assert reasons[1] == (
        "0 photos are matched by content with the champion's stored answers, 6 are scored with the "
        "champion's bundle"
    )
    assert moved  # by its stored answers, the champion would have no error; on noise it has


def test_photos_that_changed_after_the_evaluation_stop_the_promotion(
    root: Path,  # noqa: F811
    register: Register,  # noqa: F811
) -> None:
    _evaluated_on(root, register(seeds=(1,)), _ingest(root, first_seed=0))
    _promote(root)
    _evaluated_on(root, register(seeds=(2,)), _ingest(root, first_seed=50))
    _ingest(root, first_seed=99)
    with pytest.raises(ValueError, match=r"other content under the same names for 6 of 6.*Run `dvc repro`"):
        _promote(root)


def test_a_champion_from_before_contents_is_scored_and_never_refused(root: Path, register: Register) -> None:  # noqa: F811
    photos = _ingest(root, first_seed=0)
    champion = register(seeds=(1,), right=6)
    _promote(root)
    for path in (
        (found := load_candidate(Store.at(root), version=champion.version)).predictions,
        found.trained_on,
    ):
        pl.read_parquet(path).drop(*CONTENT).write_parquet(path)
    _accept(Store.at(root), champion.version.name, "1", found.predictions)
    _evaluated_on(root, register(seeds=(2,), right=6), photos)
    moved, reasons = _promote(root)
    assert moved
    assert "all 6 photos are scored with the champion's bundle" in reasons[1]
    assert "is 0.0000, no worse than" in reasons[-1]
