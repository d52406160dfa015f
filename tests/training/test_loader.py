"""Training photos: the same for any number of processes, and the same as in serving without augmentation."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from torch import Tensor

from catalog.ingest.preparation import prepare_photo
from catalog.photo_store import PhotoStore
from imaging.storage import to_stored
from recognition.preprocessing import Preprocessing, load_stored, to_canvas
from tests.training.conftest import MakeJob, broken_photo, write_store
from training.augmentation import make_augmentation
from training.config import AugmentationConfig
from training.config.samplers import SamplerConfig
from training.loader import LoadedPhotos, TrainingPhotos, make_training_loader
from training.samplers import Companions, Draw, EpochSampler

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(input_size=32, resize=40)
CROP = AugmentationConfig(
    name="crop", rotation=10, auto_augment="rand-m7-mstd0.5", color_jitter=0.4, erasing=0.5, cutout=4
)


def training_photos(path: Path, augmentation: AugmentationConfig = CROP) -> TrainingPhotos:
    store = PhotoStore(path)
    transform = make_augmentation(augmentation, preprocessing=PREPROCESSING)
    return TrainingPhotos(store, rows=np.arange(len(store)), augmentation=transform, seed=3)


def make_sampler(num_photos: int, *, parts: int = 1) -> EpochSampler:
    return EpochSampler(
        np.arange(num_photos) % 4,
        config=SamplerConfig(),
        companions=Companions("positives", 1),
        batch_size=6,
        epochs=2,
        seed=1,
        parts=parts,
    )


def load(photos: TrainingPhotos, *, num_workers: int) -> list[LoadedPhotos]:
    sampler = make_sampler(len(photos.rows))
    return list(make_training_loader(photos, sampler=sampler, num_workers=num_workers, device=CPU))


def canvas_of(photos: TrainingPhotos, *, epoch: int = 0, place: int = 0, position: int = 0) -> Tensor:
    _, canvas = photos[Draw(epoch, place, position)]
    assert isinstance(canvas, Tensor)
    return canvas


def test_batches_do_not_depend_on_the_number_of_processes(make_job: MakeJob) -> None:
    photos = training_photos(make_job() / "photos")
    alone, helped = load(photos, num_workers=0), load(photos, num_workers=2)
    assert len(alone) == len(helped) == 8
    for left, right in zip(alone, helped, strict=True):
        assert left.photos.dtype == torch.uint8
        assert left.photos.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(left.photos, right.photos)
        assert torch.equal(left.positions, right.positions)


def test_each_list_of_the_sampler_becomes_one_batch_in_its_order(make_job: MakeJob) -> None:
    photos = training_photos(make_job() / "photos")
    sampler = make_sampler(20, parts=2)
    loaded = list(make_training_loader(photos, sampler=sampler, num_workers=0, device=CPU))
    assert len(loaded) == len(sampler) == 16
    for batch, draws in zip(loaded, sampler, strict=True):
        assert batch.positions.tolist() == [draw.position for draw in draws]
        assert torch.equal(batch.photos[-1], photos[draws[-1]][1])


def test_a_photo_gives_the_same_tensor_in_training_and_in_serving(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, size=(90, 700, 3), dtype=np.uint8)
    upload = simplejpeg.encode_jpeg(noise)  # wider than the store keeps, so it is re-encoded
    write_store(tmp_path, [prepare_photo("a", upload, policy=PREPROCESSING.storage)])
    trained = canvas_of(training_photos(tmp_path, AugmentationConfig(name="none")))
    stored = to_stored(upload, policy=PREPROCESSING.storage).data
    served = to_canvas(load_stored(stored, preprocessing=PREPROCESSING), preprocessing=PREPROCESSING)
    assert torch.equal(trained, served)


def test_augmentation_changes_with_the_epoch_and_the_draw_and_with_nothing_else(make_job: MakeJob) -> None:
    photos = training_photos(make_job() / "photos")
    canvas = canvas_of(photos)
    assert torch.equal(canvas, canvas_of(photos))
    assert not torch.equal(canvas, canvas_of(photos, epoch=1))
    assert not torch.equal(canvas, canvas_of(photos, place=7))  # the same photo, drawn twice in an epoch


def test_a_photo_that_does_not_decode_comes_as_its_position_and_a_sentence(tmp_path: Path) -> None:
    write_store(tmp_path, [broken_photo("a")])
    (batch, _) = load(training_photos(tmp_path), num_workers=1)
    assert batch.failure is not None
    assert batch.failure.position == 0
    assert "JPEG" in batch.failure.message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_loader_processes_go_on_when_their_whole_job_is_signalled(
    make_job: MakeJob, number: signal.Signals
) -> None:
    photos = training_photos(make_job() / "photos")
    batches = iter(make_training_loader(photos, sampler=make_sampler(20), num_workers=2, device=CPU))
    first = next(batches)
    script = f"import os, sys; [os.kill(int(pid), {int(number)}) for pid in sys.argv[1:]]"
    pids = [str(child.pid) for child in multiprocessing.active_children()]
    subprocess.run([sys.executable, "-S", "-c", script, *pids], check=True)  # not from their main process
    assert len(pids) == 2
    assert len([first, *batches]) == 8


def test_a_loader_process_ends_when_its_main_process_terminates_it(make_job: MakeJob) -> None:
    photos = training_photos(make_job() / "photos")
    batches = iter(make_training_loader(photos, sampler=make_sampler(20), num_workers=1, device=CPU))
    next(batches)
    (child,) = multiprocessing.active_children()
    child.terminate()  # as Python does at exit, where it then waits
    child.join(timeout=10)
    assert child.exitcode == 0


def test_beside_a_cpu_that_trains_loader_processes_have_a_low_priority(make_job: MakeJob) -> None:
    photos = training_photos(make_job() / "photos")
    for device, priority in ((CPU, 10), (torch.device("meta"), os.getpriority(os.PRIO_PROCESS, 0))):
        loader = make_training_loader(photos, sampler=make_sampler(20), num_workers=1, device=device)
        batches = iter(loader)
        next(batches)
        (child,) = multiprocessing.active_children()
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == priority
        del batches
