"""`python -m training JOB_DIR`: train one phase from a folder, without DVC, MLflow or a network."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

EXAMPLE = """
JOB_DIR holds
  job.json         name, seed, phase, class_names, storage, fingerprint
  photos/          a photo store (shard-*.arrow), or a link to one
  list.parquet     photo_id, class: the photos to train on
  val.parquet      photo_id, class: the photos to watch; may have no rows
  init/            the bundle to start from: of a phase, or of pretrained weights; without it, random weights
  teacher/         the bundle that objective distillation learns from
  init.safetensors in the place of init/, a backbone's weights under our names or timm's; also init.pth

and receives
  bundle/          weights.safetensors and config.json, all that embedding and serving need
  loss_log.parquet each photo's mean loss, variance and margin, which refinement reads
  metrics.jsonl    one line an epoch; history.csv the same as a table
  steps.jsonl      loss and learning rate every few steps, at most 1,000 lines
  checkpoint/      while it runs: start the same command again after a kill and it goes on, bit for bit
  not_finite.json  the photos of the batch whose loss was not finite, if that stopped it

SIGTERM or SIGUSR1 ends it after the step under way, with a checkpoint and exit code 75. With
phase.num_processes N start one process a GPU: torchrun --nproc-per-node N -m training JOB_DIR
(torchrun itself then ends with 1, after "checkpoint at step ... written").

The least that job.json must say:
  {"name": "first", "seed": 1, "fingerprint": "by hand", "class_names": ["apple", "pear"],
   "phase": {"backbone": "resnet18"}}
Every other key of the phase, its default and its meaning: training/config/phase.py.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one job, or one process's share; returns 0, 1 after a sentence on stderr that says what to do, or
    75 after a stop signal, with a checkpoint written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train one phase from a job folder.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("job_dir", metavar="JOB_DIR", type=Path, help="the job's folder")
    job_dir: Path = parser.parse_args(arguments).job_dir
    speaks = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if speaks else logging.ERROR, format="%(message)s", stream=sys.stderr
    )

    from recognition.initial_weights import WeightsError  # torch takes seconds to import; --help must not
    from training.environment import fails_first
    from training.job import run_job
    from training.signals import EXIT_CODE, Preempted
    from training.trainer import TrainingError

    try:
        result = run_job(job_dir)
    except Preempted as stop:
        if speaks:
            print(stop, file=sys.stderr)
        return EXIT_CODE
    except (ValueError, OSError, WeightsError, TrainingError) as error:
        if fails_first():
            print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except RuntimeError:  # also what an exchange with a process that has ended raises
        if fails_first():
            raise
        return 1
    if speaks:
        print(
            f"Trained {job_dir}: {result.bundle_dir.name}/ and {result.loss_log_path.name} are written there."
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
