"""One small experiment for real: from photos through `dvc repro` to a champion that answers over HTTP.

The commands are those of the README, run in a copy of this checkout with fewer products and epochs.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import polars as pl
import pytest
import yaml

from catalog.sources.synthetic import SyntheticConfig, draw_photo
from tests.project import ROOT, Project, copy_checkout

pytestmark = pytest.mark.e2e

SMALL = [
    "+data.options.num_skus=6",
    "+data.options.skus_per_brand=3",
    "+data.options.photos_head=24",
    "+data.options.photos_tail=1",  # a class with one photo goes the whole way
    "+data.options.photos_val=2",
    "+data.options.photos_test=4",
    "recipe.defaults.input_size=32",
    "recipe.defaults.resize=32",
    "recipe.phases.*.epochs=1",
    "recipe.defaults.num_threads=1",
    *(f"recipe.phases.converge_{letter}.epochs=3" for letter in "abc"),
    *(f"recipe.refinements.{name}.keep=8" for name in ("low_loss", "low_loss_2")),
    "weights.source=random",
    "size.backbone=resnet10t",
]
CHOICES = ["recipe=loss_guided", "data=synthetic", "size=tiny", *SMALL]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> Project:
    return copy_checkout(tmp_path_factory.mktemp("clone") / "aisle", python_folder=python_folder)


@pytest.fixture(scope="module")
def trained(project: Project) -> Project:
    """The project after `aisle use` and `dvc repro`."""
    project.aisle("use", *CHOICES)
    project.run("dvc", "repro")
    return project


@pytest.fixture(scope="module")
def champion(trained: Project) -> Project:
    """The project after the first promotion, and after the checks of what stands before it."""
    for command in (["serve", "--port", "1"], ["predict", "README.md"]):
        assert "run `aisle promote`" in trained.aisle(*command, code=1)
    said = trained.aisle("promote")
    assert "version 1 is the champion now" in said
    assert "there is no champion yet" in said
    return trained


@pytest.fixture(scope="module")
def service(champion: Project) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "aisle", "serve", "--precision", "float32", "--port", port]
    process = subprocess.Popen(command, cwd=champion.folder, env=champion.environment)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def use(project: Project, *choices: str) -> None:
    """Compose and resolve the phases, for a stage that is then run by itself."""
    project.aisle("use", *CHOICES, *choices)
    project.run("python", "-m", "pipelines.phases")


def restore(project: Project, params: str) -> None:
    (project.folder / "params.yaml").write_text(params, encoding="utf-8")
    project.run("python", "-m", "pipelines.phases")


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError("the service did not become ready")


def test_a_typing_error_in_params_stops_before_any_work(project: Project) -> None:
    path = project.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("seed: 0", "seeed: 0"), encoding="utf-8")
    said = project.aisle("params", "show", "record", code=1)
    path.write_text(text, encoding="utf-8")
    assert "seeed: no such key" in said
    assert "seed: this key is missing" in said


def test_the_pipeline_leaves_metrics_with_the_promised_keys(trained: Project) -> None:
    metrics = json.loads(trained.run("dvc", "metrics", "show", "--json"))
    values = metrics[""]["data"]["data/evaluations/loss_guided/metrics.json"]["data"]
    keys = {f"{group}_top1_error" for group in ("mean", "head", "medium", "tail")} | {
        "top1_error",
        "top5_error",
    }
    assert set(values["ensemble"]) == keys
    assert set(values["members"]) == {"refined_2a", "refined_2b", "refined_2c"}


def test_repro_a_second_time_only_looks_at_the_source(trained: Project) -> None:
    lock = (trained.folder / "dvc.lock").read_bytes()
    assert re.findall(r"Running stage '(.+)'", trained.run("dvc", "repro")) == ["source"]
    assert (trained.folder / "dvc.lock").read_bytes() == lock


def test_an_edited_docstring_retrains_nothing(trained: Project) -> None:
    path = trained.folder / "training/losses/cross_entropy.py"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"""', '"""Otherwise said. ', 1), encoding="utf-8"
    )
    said = trained.run("dvc", "repro", "--dry")
    assert "pipelines.code" in said
    trained.run("dvc", "repro", "code")
    assert "pipelines.train" not in trained.run("dvc", "repro", "--dry")


def test_every_phase_and_evaluation_is_a_run_that_says_what_it_was_made_from(trained: Project) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{trained.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("aisle-synthetic")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    phases = ("converge_a", "record", "refined_b", "evaluation of refined_2a")
    assert {f"loss_guided/{name}" for name in phases} <= set(runs)
    parent = runs["loss_guided, seed 0, tiny"]
    assert {runs[f"loss_guided/{name}"].data.tags["mlflow.parentRunId"] for name in phases} == {
        parent.info.run_id
    }
    assert parent.info.status == "FINISHED"
    refined, lock = runs["loss_guided/refined_b"], yaml.safe_load((trained.folder / "dvc.lock").read_text())
    inputs = {item.dataset.name: item.dataset.digest for item in refined.inputs.dataset_inputs}
    (named,) = (name for name in inputs if name.startswith("low_loss ("))
    assert inputs[named] == lock["stages"]["refine@low_loss"]["outs"][0]["md5"]
    assert inputs["init"] == lock["stages"]["train@converge_b"]["outs"][0]["md5"]
    assert refined.data.params["loss.smoothing"] == "0.2"
    assert "val/mean_top1_error" in refined.data.metrics
    assert {"test/mean_top1_error", "test_members/mean_top1_error/refined_2a"} <= set(parent.data.metrics)


def test_the_bundle_names_the_fingerprint_by_which_its_phase_is_found(trained: Project) -> None:
    config = json.loads((trained.folder / "runs/refined_a/bundle/config.json").read_text(encoding="utf-8"))
    client = mlflow.MlflowClient(f"sqlite:///{trained.folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`aisle.fingerprint` = '{config['fingerprint']}'")
    assert [run.info.run_name for run in found] == ["loss_guided/refined_a"]


def test_the_list_says_how_many_wrong_labels_it_dropped(trained: Project) -> None:
    assert "wrong labels" in trained.aisle("lists", "score", "low_loss")


def test_a_truth_about_wrong_labels_reaches_no_table_of_training(trained: Project) -> None:
    for table in (trained.folder / "data").rglob("*.parquet"):
        columns = pl.read_parquet_schema(table)
        assert ("true_label" in columns) == (table.name == "photos.parquet" and "photos" in table.parts)


def test_the_table_of_results_shows_members_and_ensemble(trained: Project) -> None:
    rows = [line.split()[:4] for line in trained.aisle("results").splitlines()]
    assert ["loss_guided", "tiny", "0", "ensemble"] in rows
    assert ["loss_guided", "tiny", "0", "refined_2b"] in rows


def test_registering_again_finds_the_version_by_its_digest(champion: Project) -> None:
    assert "was registered before, it is product-recognizer-synthetic version 1" in champion.aisle("register")


def test_the_champions_lineage_is_whole_and_counts_what_its_lists_hold(champion: Project) -> None:
    shown = json.loads(champion.aisle("lineage", "--json"))
    record, data = shown["record"], champion.folder / "data"
    assert (shown["aliases"], shown["unknown"]) == (["challenger", "champion"], [])
    low, full = (pl.read_parquet(data / f"lists/synthetic/{name}.parquet") for name in ("low_loss", "full"))
    counted = record["lists"]["low_loss"]
    assert (counted["num_photos"], counted["num_before"]) == (low.height, full.height)
    assert counted["evidence"]["phases"] == ["record"]
    assert record["weights"]["pretrained"]["provenance"][0]["source"] == "random"
    assert {"data/photos/synthetic", "runs/record/loss_log.parquet"} <= set(record["inputs"])
    assert sum(part["photos"] for part in record["splits"]) == record["photos"]["num_photos"]
    assert "seed: 0" in shown["parameters"]


def test_promoting_the_champion_again_changes_nothing(champion: Project) -> None:
    assert "is the champion already" in champion.aisle("promote")


def test_the_service_answers_what_the_evaluation_said(champion: Project, service: str) -> None:
    parity = ["python", "-m", "bench.parity", "--url", service]
    assert "24 of 24 top-1 equal" in champion.run(*parity)
    assert "6 of 6 top-1 equal" in champion.run(*parity, "--count", "6", "--upscale", "1100")


def test_predict_without_a_server_says_the_same_as_the_service(champion: Project, service: str) -> None:
    config = SyntheticConfig(num_skus=6, skus_per_brand=3, photos_head=24, photos_tail=1)
    photo = champion.folder / "unseen.jpg"
    photo.write_bytes(draw_photo(config, sku=2, seed=9))
    answer = httpx.post(f"{service}/predict", files={"photos": photo.open("rb")}, timeout=30).json()
    assert answer["model"]["version"] == "1"
    said = champion.aisle("predict", str(photo), "--precision", "float32")
    for best in answer["results"][0]["predictions"]:
        assert f"{best['probability']:6.1%}  {best['sku']}" in said


def test_predict_names_the_photos_it_cannot_read_and_answers_the_others(champion: Project) -> None:
    photo, text = champion.folder / "good.jpg", champion.folder / "text.jpg"
    photo.write_bytes(draw_photo(SyntheticConfig(), sku=0, seed=1))
    text.write_text("no photo", encoding="utf-8")
    said = champion.aisle("predict", str(text), str(photo), code=1)
    assert "text.jpg: " in said
    assert "%  " in said
    assert "1 of 2 photos could not be read" in said


def test_a_stage_goes_on_without_its_tracking_server_and_sync_sends_its_run_later(trained: Project) -> None:
    said = trained.run_without_server("python", "-m", "pipelines.evaluate")
    assert "mean top-1 error" in said
    assert said.count("metrics are kept in .aisle/spool") == 1
    assert "4 runs sent, 0 waiting" in trained.aisle("sync")


def test_registering_without_the_tracking_server_fails_in_words(trained: Project) -> None:
    said = trained.run_without_server("python", "-m", "pipelines.register", code=1)
    assert "127.0.0.1:9" in said
    assert "Traceback" not in said


def test_a_list_that_names_an_unknown_photo_stops_the_phase_in_words(trained: Project) -> None:
    path = trained.folder / "data/lists/synthetic/low_loss.parquet"
    kept = path.read_bytes()
    rows = pl.read_parquet(path)
    path.unlink()
    rows.with_columns(photo_id=pl.lit("train/nowhere.jpg") + pl.col("photo_id")).write_parquet(path)
    said = trained.run("python", "-m", "pipelines.train", "refined_a", code=1)
    path.write_bytes(kept)
    assert "train/nowhere.jpg" in said
    assert "Traceback" not in said


def test_an_unknown_backbone_is_refused_with_near_matches(trained: Project) -> None:
    params = (trained.folder / "params.yaml").read_text(encoding="utf-8")
    use(trained, "size.backbone=resnet10")
    said = trained.run("python", "-m", "pipelines.train", "converge_a", code=1)
    restore(trained, params)
    assert "resnet10t" in said
    assert "Traceback" not in said


def test_a_phase_starts_from_a_registered_version(champion: Project) -> None:
    params = (champion.folder / "params.yaml").read_text(encoding="utf-8")
    version = "product-recognizer-synthetic/1/refined_2b"
    entry = "recipe.weights.pretrained"
    champion.aisle("use", *CHOICES, f"{entry}.source=registry", f"+{entry}.version={version}")
    champion.run("python", "-m", "pipelines.weights", "pretrained")
    said = champion.run("python", "-m", "pipelines.train", "converge_a")
    (champion.folder / "params.yaml").write_text(params, encoding="utf-8")
    assert "head of 6 classes taken" in said
    config = json.loads((champion.folder / "runs/converge_a/bundle/config.json").read_text(encoding="utf-8"))
    assert config["initial_weights"]["source"] == "random"  # as that version's own


def test_a_stage_that_is_told_to_stop_ends_with_a_code_of_its_own_and_goes_on(trained: Project) -> None:
    params = (trained.folder / "params.yaml").read_text(encoding="utf-8")
    use(trained, "recipe.phases.converge_b.epochs=8")
    command = ["python", "-m", "pipelines.train", "converge_b"]
    process = subprocess.Popen(
        command, cwd=trained.folder, env=trained.environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 75, rest
    assert "the same command goes on" in rest
    assert "Resumed after step" in trained.run(*command)
    restore(trained, params)


def test_a_worse_challenger_is_refused_in_words_with_exit_code_three(champion: Project) -> None:
    """Comes last: it registers another bundle, with answers that are all wrong, as the new challenger."""
    bundle = champion.folder / "data/ensembles/loss_guided/config.json"
    bundle.write_text(bundle.read_text(encoding="utf-8").replace('"logits"', '"vote"'), encoding="utf-8")
    path = champion.folder / "data/evaluations/loss_guided/predictions.parquet"
    wrong = pl.concat_list(*[((pl.col("label") + 1 + shift) % 6).cast(pl.Int32) for shift in range(5)])
    pl.read_parquet(path).with_columns(classes=wrong).write_parquet(path)
    champion.run("python", "-m", "pipelines.register")
    said = champion.aisle("promote", code=3)
    assert "version 2 is not promoted" in said
    assert "worse than" in said


def test_help_imports_no_room_and_so_answers_at_once() -> None:
    code = "import sys, aisle\ntry: aisle.main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "aisle" in loaded
    assert not loaded & {"torch", "mlflow", "dvc", "polars", "pydantic", "numpy", "recognition", "pipelines"}
