"""One job folder on a GPU node: trained, killed, resumed, compared with an uninterrupted run, and served.

    python -m bench.gpu --prepare job.gpu    # here: draws photos, writes the job folder
    python -m bench.gpu --run job.gpu        # there: needs torch, timm, accelerate, pyarrow, pydantic

The node has no DVC, MLflow or polars. The first run is told to stop by SIGTERM after some steps and
must end with exit code 75 and a checkpoint; the same command resumes it. Then a copy of the folder is trained
without interruption, and the metrics of every epoch are compared: byte for byte on a CPU, within --tolerance
on a GPU, whose sums have no fixed order. At last the bundle answers photos, over HTTP where fastapi is at
hand. Exit code 1 where anything is not as it must be.
"""

import argparse
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

NUM_ASKED = 8
SECONDS_TO_STEP = 240
PREEMPTED = 75


def prepare(folder: Path, *, backbone: str, epochs: int, input_size: int) -> None:
    """Write folder/whole, a job of synthetic photos, and folder/ask with photos that it has not seen."""
    from bench.drawn_job import make_drawn_job
    from catalog.sources.synthetic import SyntheticConfig, SyntheticSource, draw_photo
    from recognition.backbones import make_model
    from recognition.bundle import WeightsConfig, save_pretrained
    from recognition.initial_weights import WeightsError, find_pretrained_weights
    from training.config import AugmentationConfig, PhaseConfig
    from training.config.optimizers import SgdConfig

    photos = SyntheticConfig(num_skus=20, photos_head=60, photos_tail=30, photos_val=10, photos_test=0)
    phase = PhaseConfig(
        backbone=backbone,
        input_size=input_size,
        resize=input_size,
        epochs=epochs,
        batch_size=64,
        num_workers=2,
        optimizer=SgdConfig(lr=0.03),
        augmentation=AugmentationConfig(name="resized_crop"),
        checkpoint_steps=10,
    )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make_drawn_job(folder / "whole", phase=phase, photos=photos)
    try:
        found = find_pretrained_weights(backbone)
        model = make_model(backbone, num_classes=1, weights_path=found.path, seed=0)
        config = WeightsConfig(name="pretrained", backbone=backbone, initial_weights=found.provenance())
        save_pretrained(folder / "whole/init", config=config, model=model)
        print(f"starts from {found.described}")
    except WeightsError as error:
        print(f"starts from random weights: {error}")
    (folder / "ask").mkdir()
    names = SyntheticSource(photos).class_names
    for sku in range(0, len(names), max(1, len(names) // NUM_ASKED)):
        (folder / "ask" / f"{names[sku]}.jpg").write_bytes(draw_photo(photos, sku=sku, seed=20_200_614 + sku))
    print(f"{folder} is ready: copy it and this checkout to the node, then --run {folder}")


def start(job_dir: Path) -> "subprocess.Popen[bytes]":
    """Train a job folder as any node does."""
    return subprocess.Popen([sys.executable, "-m", "training", str(job_dir)])


def stop_after_a_checkpoint(job_dir: Path) -> int:
    """Start the job, send SIGTERM once there is a checkpoint; its exit code."""
    process = start(job_dir)
    deadline = time.monotonic() + SECONDS_TO_STEP
    while not any(job_dir.glob("checkpoint/step-*")) and process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            sys.exit(f"gpu: no checkpoint within {SECONDS_TO_STEP} s")
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    return process.wait()


def read_metrics(job_dir: Path) -> list[dict[str, float]]:
    """What each epoch measured, without how fast it was."""
    lines = (job_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def largest_difference(first: Path, second: Path) -> float:
    """The largest difference between two runs' metrics; infinite where they have not the same epochs."""
    runs = [read_metrics(folder) for folder in (first, second)]
    if [sorted(epoch) for epoch in runs[0]] != [sorted(epoch) for epoch in runs[1]]:
        return float("inf")
    pairs = zip(*runs, strict=True)
    return max(abs(one[key] - other[key]) for one, other in pairs for key in one)


def serve(bundle: Path, photos: list[Path]) -> int:
    """Answer photos from the bundle, over HTTP where fastapi is at hand; how many answers are right."""
    if importlib.util.find_spec("fastapi") and importlib.util.find_spec("httpx"):
        from bench.service import running_service

        with running_service("--bundle", str(bundle)) as client:
            files = [("photos", (path.name, path.read_bytes(), "image/jpeg")) for path in photos]
            results = client.post("/predict", files=files).raise_for_status().json()["results"]
        said = [result["predictions"][0]["sku"] for result in results]
        how = "over HTTP"
    else:
        import torch

        from recognition.recognizer import Recognizer

        device = "cuda" if torch.cuda.is_available() else "cpu"
        answers = Recognizer(bundle, device=device).predict([path.read_bytes() for path in photos])
        said = [answer.predictions[0].name for answer in answers]
        how = f"in the process, on {device}: no fastapi here"
    right = sum(path.stem == name for path, name in zip(photos, said, strict=True))
    print(f"served {len(photos)} photos {how}: {right} right")
    return right


def run(folder: Path, *, tolerance: float) -> list[str]:
    """Train, stop, resume, compare, serve; what was not as it must be."""
    import torch

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    whole, stopped = folder / "whole", folder / "stopped"
    shutil.rmtree(stopped, ignore_errors=True)
    shutil.copytree(whole, stopped, ignore=shutil.ignore_patterns("checkpoint", "bundle"))
    started, problems = time.monotonic(), []
    code = stop_after_a_checkpoint(stopped)
    if code != PREEMPTED:
        problems.append(f"expected exit code {PREEMPTED} after SIGTERM, received {code}")
    for job_dir in (stopped, whole):
        if code := start(job_dir).wait():
            return [*problems, f"python -m training {job_dir} ended with {code}"]
    difference = largest_difference(whole, stopped)
    print(f"{where}: largest difference of any epoch's metric to the uninterrupted run: {difference:g}")
    if difference > (tolerance if torch.cuda.is_available() else 0.0):
        problems.append(f"the resumed run differs by {difference:g}")
    photos = sorted((folder / "ask").glob("*.jpg"))
    if serve(stopped / "bundle", photos) <= len(photos) // 4:
        problems.append("the bundle answers hardly better than by chance")
    print(f"{time.monotonic() - started:.0f} s on {where}")
    return problems


def main() -> int:
    """Prepare or run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prepare", type=Path, metavar="DIR", help="write the job folder")
    what.add_argument("--run", type=Path, metavar="DIR", help="train, stop, resume, compare and serve it")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--input-size", type=int, default=128)
    parser.add_argument("--tolerance", type=float, default=0.05, help="of a metric, on a GPU")
    options = parser.parse_args()
    if options.prepare:
        prepare(
            options.prepare,
            backbone=options.backbone,
            epochs=options.epochs,
            input_size=options.input_size,
        )
        return 0
    problems = run(options.run, tolerance=options.tolerance)
    for problem in problems:
        print(f"gpu: {problem}", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    raise SystemExit(main())
