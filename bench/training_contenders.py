"""The ways to train that bench.training compares, each run in a process of its own.

They share one clock: a hook after every optimiser's step, whoever calls it, and one around every DataLoader's
next batch. So nothing of ours or timm's is changed to be timed.
"""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import timm.data
import torch
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import dataloader

from recognition.memory import keep_freed_memory
from recognition.precision import resolve_precision
from training.config import load_job
from training.job import run_job

NUM_PRELOADED = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every contender does; `job_dir` holds our job, `files_dir` the same photos as files."""

    job_dir: Path
    files_dir: Path
    warmup_steps: int
    timed_steps: int
    num_repeats: int
    """How often an epoch shows each photo, so that no epoch ends while the clock runs."""


@dataclass(frozen=True)
class Round:
    """One round's timed steps, in seconds."""

    seconds: float
    waiting: float
    """Part of it in which the loop waited for the loader's next batch."""
    peak_memory: int
    """The most the process has held, loader processes aside, in MiB."""


class _Finished(BaseException):
    """Ends a contender from within its optimiser's step."""


@dataclass
class _Clock:
    """Counts steps; after a round it reports and waits for the word to go on."""

    plan: Plan
    pipe: Connection
    step: int = 0
    started: float = 0.0
    waited: float = 0.0
    waited_before: float = field(default=0.0, init=False)

    def tick(self, *_: Any) -> None:
        """Take note of a finished step."""
        self.step += 1
        in_round = (self.step - 1) % (self.plan.warmup_steps + self.plan.timed_steps) + 1
        if in_round == self.plan.warmup_steps:
            self.started, self.waited_before = _now(), self.waited
        elif in_round == self.plan.warmup_steps + self.plan.timed_steps:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            self.pipe.send(Round(_now() - self.started, self.waited - self.waited_before, peak))
            if not self.pipe.recv():
                raise _Finished


def _now() -> float:
    """Return the time at which the device has done all it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _running(clock: _Clock) -> Iterator[None]:
    """Let the clock see every step and every wait of this process."""
    kind = dataloader._BaseDataLoaderIter
    original = kind.__next__

    def timed(iterator: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(iterator)
        finally:
            clock.waited += time.perf_counter() - started

    kind.__next__ = timed
    handle = register_optimizer_step_post_hook(clock.tick)
    try:
        yield
    except _Finished:
        pass
    finally:
        handle.remove()
        kind.__next__ = original


def run_contender(name: str, plan: Plan, pipe: Connection) -> None:
    """Train until told to stop: what a contender's process does."""
    torch.backends.cudnn.benchmark = True  # as timm's train.py, for all
    with _running(_Clock(plan, pipe)):
        CONTENDERS[name](plan)


def _train_ours(plan: Plan) -> None:
    """The product's own run of a job: sampler, loader, augmentation, objective, loss log, optimiser."""
    run_job(plan.job_dir)


@dataclass(frozen=True)
class _Peer:
    """What timm's way and the bare step share: the model, the optimiser and the number format of our job."""

    model: nn.Module
    optimizer: Optimizer
    device: torch.device
    autocast: Callable[[], torch.autocast]


def _make_peer(plan: Plan) -> _Peer:
    job = load_job(plan.job_dir / "job.json")
    phase = job.phase
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = timm.create_model(phase.backbone, num_classes=len(job.class_names))
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = create_optimizer_v2(
        model, opt="sgd", lr=phase.optimizer.lr, weight_decay=phase.optimizer.weight_decay, momentum=0.9
    )
    dtype = resolve_precision(phase.precision, device)
    return _Peer(
        model, optimizer, device, lambda: torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    )


def _train_timms(plan: Plan) -> None:
    """timm's recipe: its folder dataset, loader and prefetcher, and the order of work of its train.py."""
    peer = _make_peer(plan)
    loader, losses = _make_timms_loader(plan, peer), AverageMeter()
    peer.optimizer.zero_grad()
    for photos, labels in loader:
        photos = photos.contiguous(memory_format=torch.channels_last)
        with peer.autocast():
            loss = F.cross_entropy(peer.model(photos), labels)
        loss.backward()
        peer.optimizer.step()
        losses.update(loss.item(), photos.size(0))
        peer.optimizer.zero_grad()


def _make_timms_loader(plan: Plan, peer: _Peer) -> Any:
    phase = load_job(plan.job_dir / "job.json").phase
    dataset = timm.data.create_dataset("", root=str(plan.files_dir), is_training=True)
    dataset.reader.samples = dataset.reader.samples * plan.num_repeats
    statistics = timm.data.resolve_model_data_config(peer.model)
    return timm.data.create_loader(
        dataset,
        input_size=(3, phase.input_size, phase.input_size),
        batch_size=phase.batch_size,
        is_training=True,
        scale=phase.augmentation.scale,
        ratio=phase.augmentation.ratio,
        color_jitter=0.0,
        interpolation="bilinear",  # as ours, and faster than its default, which is bicubic half of the time
        mean=statistics["mean"],
        std=statistics["std"],
        num_workers=phase.num_workers,
        pin_memory=peer.device.type == "cuda",
        device=peer.device,
    )


def _train_timms_kept(plan: Plan) -> None:
    """The same in a process that keeps freed memory, as ours does on the CPU."""
    keep_freed_memory()
    _train_timms(plan)


def _train_bare(plan: Plan) -> None:
    """The step alone, on tensors that are there already: what a loop can reach at best."""
    keep_freed_memory()
    peer, phase = _make_peer(plan), load_job(plan.job_dir / "job.json").phase
    num_classes = len(load_job(plan.job_dir / "job.json").class_names)
    for photos, labels in itertools.cycle(
        _preload(phase.batch_size, phase.input_size, num_classes, peer.device)
    ):
        with peer.autocast():
            loss = F.cross_entropy(peer.model(photos), labels)
        loss.backward()
        peer.optimizer.step()
        peer.optimizer.zero_grad()


def _preload(
    batch_size: int, side: int, num_classes: int, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(NUM_PRELOADED):
        photos = torch.randn(batch_size, 3, side, side, generator=generator)
        labels = torch.randint(num_classes, (batch_size,), generator=generator)
        batches.append((photos.to(device, memory_format=torch.channels_last), labels.to(device)))
    return batches


OURS, TIMM, BARE = "ours", "timm's recipe", "bare step"
TIMM_KEPT = "timm's recipe, memory kept"
CONTENDERS: dict[str, Callable[[Plan], None]] = {
    BARE: _train_bare,
    TIMM: _train_timms,
    TIMM_KEPT: _train_timms_kept,
    OURS: _train_ours,
}
