"""Whole jobs: what they learn, write, repeat and refuse."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import save_file

from catalog.photo_store import STORE_FILE, PhotoStore, load_store_info, store_text
from imaging.storage import StoragePolicy
from recognition.backbones import make_model
from recognition.bundle import WeightsConfig, load_member, save_pretrained
from recognition.precision import has_bfloat16
from recognition.provenance import Provenance
from tests.training.conftest import CLASS_NAMES, MakeJob, broken_photo, write_list, write_store
from training.__main__ import main
from training.config import AugmentationConfig, load_job, save_job
from training.config.heads import HeadConfig, LwsConfig, NearestMeanConfig, TauNormalizedConfig
from training.config.losses import CrossEntropyConfig
from training.config.optimizers import RangerConfig, SgdConfig
from training.config.samplers import SamplerConfig
from training.config.schedules import CosineConfig
from training.job import run_job
from training.job_inputs import load_inputs
from training.progress import Curve, StepMetrics
from training.trainer import EpochMetrics, TrainingError

EVERYTHING: dict[str, Any] = {
    "num_photos": 21,
    "epochs": 2,
    "checkpoint_steps": 2,
    "drop_rate": 0.3,
    "optimizer": RangerConfig(lr=0.01),
    "ema_decay": 0.9,
    "sampler": SamplerConfig(name="progressive"),
    "accumulation": 2,
    "clip_norm": 1.0,
    "loss": CrossEntropyConfig(smoothing=0.1),
    "augmentation": AugmentationConfig(
        name="resized_crop", color_jitter=0.4, auto_augment="rand-m5", erasing=0.3
    ),
}
OUTS = (
    "bundle/weights.safetensors",
    "bundle/config.json",
    "loss_log.parquet",
    "metrics.jsonl",
    "history.csv",
)


def digests(job_dir: Path) -> dict[str, str]:
    return {name: hashlib.sha256((job_dir / name).read_bytes()).hexdigest() for name in OUTS}


def interrupt_after(num_epochs: int) -> Any:
    def on_epoch(metrics: EpochMetrics) -> None:
        if metrics.epoch == num_epochs:
            raise KeyboardInterrupt

    return on_epoch


def test_one_batch_can_be_learnt_by_heart(make_job: MakeJob) -> None:
    job_dir = make_job(
        num_photos=8, num_val=0, epochs=24, schedule=CosineConfig(warmup_epochs=4), precision="auto"
    )
    history = run_job(job_dir).history
    assert history[0].values["train/loss"] > 1
    assert history[-1].values["train/loss"] < 0.01
    assert history[-1].values["train/top1_error"] == 0


def test_a_job_leaves_its_outs_and_nothing_else(make_job: MakeJob) -> None:
    job_dir = make_job()
    before = {path.name for path in job_dir.iterdir()}
    result = run_job(job_dir)
    after = {path.name for path in job_dir.iterdir()}
    assert after - before == {"bundle", "loss_log.parquet", "metrics.jsonl", "steps.jsonl", "history.csv"}
    model, config = load_member(result.bundle_dir)
    assert model.head.out_features == 4
    assert (config.name, config.class_names, config.fingerprint) == ("tiny", CLASS_NAMES, "f00d")


def test_the_metrics_are_one_line_an_epoch_in_both_files(make_job: MakeJob) -> None:
    job_dir = make_job(num_photos=17, epochs=2)
    seen: list[EpochMetrics] = []
    result = run_job(job_dir, on_epoch=seen.append)
    lines = [json.loads(line) for line in (job_dir / "metrics.jsonl").read_text().splitlines()]
    assert lines == [metrics.to_dict() for metrics in seen] == [m.to_dict() for m in result.history]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 3), (2, 6)]
    keys = ["train/loss", "train/top1_error", "train/lr", "val/mean_top1_error", "val/top1_error", "val/loss"]
    assert list(lines[0]) == ["epoch", "step", *keys]
    with (job_dir / "history.csv").open() as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    assert rows == lines


def test_without_validation_photos_there_are_no_validation_metrics(make_job: MakeJob) -> None:
    history = run_job(make_job(num_val=0)).history
    assert list(history[0].values) == ["train/loss", "train/top1_error", "train/lr"]


def test_the_loss_log_has_a_row_a_list_row_seen_once_an_epoch(make_job: MakeJob) -> None:
    result = run_job(make_job(num_photos=11, epochs=3))
    table = pq.read_table(result.loss_log_path)
    assert table["photo_id"].to_pylist() == [f"shelf/{i}.jpg" for i in range(11)]
    assert table["class"].to_pylist() == [i % 4 for i in range(11)]
    assert table["num_seen"].to_pylist() == [3] * 11


def test_a_list_with_contents_is_compared_with_the_store_and_the_loss_log_says_what_was_seen(
    make_job: MakeJob,
) -> None:
    job_dir = make_job(epochs=1)
    store, path = PhotoStore(job_dir / "photos"), job_dir / "list.parquet"
    listed = pq.read_table(path)
    meant = store.source_sha256(store.rows_of(listed["photo_id"]))
    pq.write_table(listed.append_column("source_sha256", meant), path)
    assert pq.read_table(run_job(job_dir).loss_log_path)["source_sha256"].to_pylist() == meant.to_pylist()
    others = pa.array([*meant.to_pylist()[:-1], bytes(32)], pa.binary())
    pq.write_table(listed.append_column("source_sha256", others), path)
    with pytest.raises(ValueError, match=r"other content under the same names for 1 of 16, first 'shelf/15"):
        run_job(job_dir)


def test_without_smoothing_the_loss_log_averages_to_the_training_loss(make_job: MakeJob) -> None:
    result = run_job(make_job(num_photos=16, epochs=2))
    mean = sum(pq.read_table(result.loss_log_path)["mean_loss"].to_pylist()) / 16
    assert mean == pytest.approx(sum(m.values["train/loss"] for m in result.history) / 2, rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_job_equals_an_uninterrupted_one_bit_for_bit(make_job: MakeJob, precision: str) -> None:
    if precision == "bfloat16" and not has_bfloat16("cpu"):
        pytest.skip("this processor has no bf16 units")
    whole = make_job("whole", precision=precision, **EVERYTHING)
    cut = make_job("cut", precision=precision, **EVERYTHING)
    run_job(whole)
    for num_epochs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run_job(cut, on_epoch=interrupt_after(num_epochs))
        assert len(list((cut / "checkpoint").glob("step-*"))) == 1
    seen: list[EpochMetrics] = []
    result = run_job(cut, on_epoch=seen.append)
    assert digests(cut) == digests(whole)
    assert seen == result.history
    assert len(seen) == 2


def test_loader_processes_change_nothing(make_job: MakeJob) -> None:
    alone, helped = make_job("alone", **EVERYTHING), make_job("helped", num_workers=2, **EVERYTHING)
    run_job(alone)
    run_job(helped)
    assert digests(alone) == digests(helped)


def test_the_seed_offset_makes_another_member(make_job: MakeJob) -> None:
    first, second = make_job("first", epochs=1), make_job("second", epochs=1, seed_offset=1)
    run_job(first)
    run_job(second)
    assert digests(first)["bundle/weights.safetensors"] != digests(second)["bundle/weights.safetensors"]


def test_members_of_neighbouring_seeds_differ(make_job: MakeJob) -> None:
    member, neighbour = make_job("member", epochs=1, seed_offset=1), make_job("neighbour", epochs=1)
    job = load_job(neighbour / "job.json")
    save_job(neighbour / "job.json", job=job.replace(seed=job.seed + 1))
    run_job(member)
    run_job(neighbour)
    assert digests(member)["bundle/weights.safetensors"] != digests(neighbour)["bundle/weights.safetensors"]


def first_loss(make_job: MakeJob, name: str, source: Path, **phase: Any) -> float:
    """One batch is the whole epoch, so its loss is that of the initial weights."""
    job_dir = make_job(name, epochs=1, batch_size=16, seed_offset=1, num_val=0, **phase)
    if source.is_dir():
        shutil.copytree(source, job_dir / "init")
    else:
        shutil.copyfile(source, job_dir / "init.safetensors")
    if name == "other_classes":
        job = load_job(job_dir / "job.json")
        save_job(job_dir / "job.json", job=job.replace(class_names=("pear", "apple", "plum", "fig")))
    return run_job(job_dir).history[0].values["train/loss"]


def test_a_phase_starts_from_a_bundle_or_a_file_and_keeps_the_head_for_equal_classes_only(
    make_job: MakeJob,
) -> None:
    bundle = run_job(make_job("first", epochs=8, num_val=0)).bundle_dir
    assert first_loss(make_job, "phase", bundle) < 0.1
    assert first_loss(make_job, "file", bundle / "weights.safetensors") > 0.5
    assert first_loss(make_job, "other_classes", bundle) > 1


def test_pretrained_weights_come_from_a_local_file_and_the_bundle_says_so(make_job: MakeJob) -> None:
    job_dir = make_job(epochs=1, freeze=("backbone",))
    state = timm.create_model("test_resnet", num_classes=1000).state_dict()
    file = job_dir / "init.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    model, config = load_member(run_job(job_dir).bundle_dir)
    assert torch.equal(model.backbone.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert config.initial_weights.source == "file init.safetensors"
    assert config.initial_weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def write_random_entry(folder: Path) -> None:
    config = WeightsConfig(name="none", backbone="test_resnet", initial_weights=Provenance(source="random"))
    save_pretrained(folder, config=config, model=None)


def test_random_weights_are_drawn_from_each_phases_own_seed(make_job: MakeJob) -> None:
    losses = {}
    for name, offset in (("a", 0), ("again", 0), ("b", 1)):
        job_dir = make_job(name, epochs=1, batch_size=16, num_val=0, seed_offset=offset)
        write_random_entry(job_dir / "init")
        result = run_job(job_dir)
        losses[name] = result.history[0].values["train/loss"]
        assert load_member(result.bundle_dir)[1].initial_weights == Provenance(source="random")
    assert losses["a"] == losses["again"] != losses["b"]


def test_a_phase_inherits_what_the_phase_before_it_began_from(make_job: MakeJob) -> None:
    origin = Provenance(source="package p 1", model="test_resnet", licence="mit", sha256="ab")
    first = make_job("first", epochs=1)
    model = make_model("test_resnet", num_classes=1, initial_weights="random", seed=3)
    config = WeightsConfig(name="pretrained", backbone="test_resnet", initial_weights=origin)
    save_pretrained(first / "init", config=config, model=model)
    second = make_job("second", epochs=1)
    shutil.copytree(run_job(first).bundle_dir, second / "init")
    assert load_member(run_job(second).bundle_dir)[1].initial_weights == origin


def test_a_job_that_lost_its_initial_weights_does_not_start_from_random_ones(make_job: MakeJob) -> None:
    job_dir = make_job()
    job = load_job(job_dir / "job.json")
    assert load_inputs(job_dir).initial_weights.provenance.source == "random"
    save_job(job_dir / "job.json", job=job.replace(needs_init=True))
    with pytest.raises(ValueError, match=r"init/, found none\. .* job\.json says that it must be there"):
        load_inputs(job_dir)


def test_initial_weights_that_are_not_there_are_named(make_job: MakeJob) -> None:
    job_dir = make_job()
    (job_dir / "init").symlink_to("runs/first/bundle")
    with pytest.raises(ValueError, match=r"init/, found a link to runs/first/bundle, which is not there"):
        run_job(job_dir)


@pytest.mark.parametrize("head", [LwsConfig(), TauNormalizedConfig(), NearestMeanConfig()])
def test_a_head_of_a_trained_model_is_refused_without_one(make_job: MakeJob, head: HeadConfig) -> None:
    with pytest.raises(ValueError, match=rf"init/, found none.* head {head.name} needs a trained model"):
        run_job(make_job(head=head))


def test_a_list_that_names_an_unknown_photo_is_refused_before_training(make_job: MakeJob) -> None:
    job_dir = make_job()
    write_list(job_dir / "list.parquet", {"shelf/0.jpg": 0, "gone/1.jpg": 1, "gone/2.jpg": 1})
    with pytest.raises(ValueError, match=r"list\.parquet.* 2 photo ids .*'gone/1\.jpg'"):
        run_job(job_dir)
    assert not (job_dir / "checkpoint").exists()


def test_an_empty_list_a_missing_list_and_a_class_without_a_name_are_refused(make_job: MakeJob) -> None:
    job_dir = make_job()
    write_list(job_dir / "list.parquet", {})
    with pytest.raises(ValueError, match="has no photos: nothing to train on"):
        run_job(job_dir)
    write_list(job_dir / "list.parquet", {"shelf/0.jpg": 0, "shelf/1.jpg": 4})
    with pytest.raises(ValueError, match=r"expected classes 0\.\.3 .* 1 photos, first shelf/1\.jpg"):
        run_job(job_dir)
    (job_dir / "val.parquet").unlink()
    write_list(job_dir / "list.parquet", {"shelf/0.jpg": 0})
    with pytest.raises(ValueError, match=r"val\.parquet: expected a Parquet file"):
        run_job(job_dir)


def test_a_class_with_one_photo_and_a_batch_of_one_photo_train(make_job: MakeJob) -> None:
    job_dir = make_job(batch_size=4, input_size=64, resize=64)
    write_list(job_dir / "list.parquet", {f"shelf/{i}.jpg": min(i, 1) for i in range(9)})
    assert len(run_job(job_dir).history) == 2


def test_an_unknown_backbone_is_refused_with_near_matches(make_job: MakeJob) -> None:
    with pytest.raises(ValueError, match=r"received 'resnet19'.*resnet18"):
        run_job(make_job(backbone="resnet19"))


def test_a_storage_policy_other_than_the_stores_is_refused(make_job: MakeJob) -> None:
    job_dir = make_job()
    info = load_store_info(job_dir / "photos")
    other = replace(info, policy=StoragePolicy(max_side=300))
    (job_dir / "photos" / STORE_FILE).write_text(store_text(other), encoding="utf-8")
    with pytest.raises(ValueError, match=r"storage: expected the photo store's own policy.*300"):
        run_job(job_dir)


def test_a_loss_that_is_not_finite_stops_with_the_batchs_photos(make_job: MakeJob) -> None:
    job_dir = make_job(num_photos=12, batch_size=12, optimizer=SgdConfig(lr=1e30), epochs=9)
    with pytest.raises(
        TrainingError, match=r"(loss|weights) became (nan|inf).* epoch .*shelf/\d+\.jpg.* and 2 more"
    ):
        run_job(job_dir)


def test_a_photo_that_does_not_decode_is_named(make_job: MakeJob) -> None:
    job_dir = make_job(num_photos=4, num_val=0, num_workers=1)
    (job_dir / "photos" / "shard-00000.arrow").unlink()
    write_store(job_dir / "photos", [broken_photo(f"shelf/{number}.jpg") for number in range(4)])
    with pytest.raises(TrainingError, match=r"Photo 'shelf/\d\.jpg' of list\.parquet cannot be read"):
        run_job(job_dir)


def test_the_command_says_what_is_wrong_and_fails(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job_dir = make_job()
    job = json.loads((job_dir / "job.json").read_text())
    (job_dir / "job.json").write_text(json.dumps(job | {"epoch": 3}))
    assert main([str(job_dir)]) == 1
    assert "job.json: epoch: no such key" in capsys.readouterr().err
    assert main([str(job_dir / "nowhere")]) == 1
    assert "Expected a job folder with a job.json" in capsys.readouterr().err


def test_the_help_shows_a_job_that_is_complete(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    example = text[text.index("  {") : text.rindex("}}") + 2]
    (tmp_path / "job.json").write_text(example)
    assert load_job(tmp_path / "job.json").class_names == ("apple", "pear")


@pytest.mark.parametrize("head", [LwsConfig(), TauNormalizedConfig()])
def test_a_head_that_rescales_a_trained_one_is_refused_without_it(
    make_job: MakeJob, head: HeadConfig
) -> None:
    first = make_job("first")
    run_job(first)
    job_dir = make_job("second", head=head)
    bundle = shutil.copytree(first / "bundle", job_dir / "init")
    config = json.loads((bundle / "config.json").read_text())
    config["class_names"] = ["other", *CLASS_NAMES[1:]]
    (bundle / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="re-scales a trained one"):
        run_job(job_dir)


def test_curves_have_every_step_of_a_short_phase_with_means_and_rates(make_job: MakeJob) -> None:
    points: list[StepMetrics] = []
    job_dir = make_job(num_photos=16, epochs=3)
    result = run_job(job_dir, on_step=points.append)
    assert [point.step for point in points] == list(range(1, result.history[-1].step + 1))
    per_epoch = len(points) // 3
    for number, epoch in enumerate(result.history):
        own = points[number * per_epoch : (number + 1) * per_epoch]
        # Batches of an epoch differ by a photo at most, so the epoch's mean is near the mean of its steps.
        mean = sum(point.values["train/step_loss"] for point in own) / len(own)
        assert mean == pytest.approx(epoch.values["train/loss"], rel=0.05)
        assert own[-1].values["train/lr"] == epoch.values["train/lr"]
    lines = [json.loads(line) for line in (job_dir / "steps.jsonl").read_text().splitlines()]
    assert lines == [point.to_dict() for point in points]


def test_curves_of_a_long_phase_have_at_most_a_thousand_points() -> None:
    curve = Curve(2500)
    points = []
    for step in range(2500):
        curve.note_rate(step, 0.1)
        points.append(curve.add(step, float(step)))
    kept = [point for point in points if point is not None]
    assert [point.step for point in kept[:2]] == [3, 6]
    assert kept[0].values == {"train/step_loss": 1.0, "train/lr": 0.1}
    assert len(kept) == 833
