"""What does each loss cost at a catalogue's number of classes? Time and memory against F.cross_entropy.

    python -m bench.losses               # wall time, torch's own number of threads
    python -m bench.losses --fresh       # malloc as the C library has it
    python -m bench.losses --threads 1   # CPU time of one thread, which a busy neighbour hardly changes

measures one forward and one backward pass of every loss on the same logits [512, 50030], then, with a head
2048 -> 50030 in front, of some losses and of every head that has a part in the loss: there the head's
products are most of the time, and what a loss saves hardly shows. Rounds are interleaved, so that a busy
moment meets all arms, and medians count. The last row of the first table is no loss: it is what the loss log
reads of a batch.

Extra memory is the most that a pass held at once beside the logits (or the features and weights), gradients
included. All arms use the same allocator; on a GPU its own counter says, on a CPU torch's
profiler lists every allocation, also those inside an operation. Measured is each arm's first pass, so that a
buffer which a loss kept between passes would count, and show as "kept".

On a CPU the process keeps freed memory for all arms, as training does (recognition.memory). With --fresh each
pass faults its buffers in anew, which is more than half the time of F.cross_entropy's three.

Exit code 1 where a promise does not hold. Of F.cross_entropy's time and extra memory: cross entropy,
symmetric and balanced symmetric 0.6 and 0.5; of its time: bi-tempered 20; A-softmax, ArcFace, hierarchy and
BBN 1.2 a head, with the head in front.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from recognition.backbones import Model
from recognition.memory import keep_freed_memory
from training.classification import Classification, CoarseHead
from training.config.heads import ArcFaceConfig, ASoftmaxConfig, HeadConfig
from training.config.losses import (
    AccuracyConfig,
    BalancedSoftmaxConfig,
    BiTemperedConfig,
    CrossEntropyConfig,
    FocalConfig,
    LogitAdjustedConfig,
    LossConfig,
    SymmetricConfig,
)
from training.heads import make_head
from training.loss_log import measure
from training.losses.factory import make_loss
from training.margins import make_margin
from training.objectives.bbn import BbnObjective
from training.objectives.objective import Batch

PEER = "F.cross_entropy"
NUM_FEATURES = 2048
NUM_COARSE = 50
FAST = (0.6, 0.5)


Promise = tuple[float | None, float | None]
"""At most so much of the peer's time and of its extra memory."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row: a pass, what it leaves behind, and what is promised of it."""

    name: str
    run: Callable[[], Tensor]
    """Forward; a scalar that needs a gradient is followed by the backward pass."""
    leaves: Sequence[Tensor]
    """What gets gradients, which are dropped after each pass."""
    heads: int = 1
    """The time is divided by it."""
    promise: Promise = (None, None)

    def __call__(self) -> None:
        """Run one pass."""
        out = self.run()
        if out.requires_grad:
            torch.autograd.backward(out)
        for leaf in self.leaves:
            leaf.grad = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an arm took."""

    seconds: float
    extra: int
    kept: int


LOSSES: dict[str, tuple[LossConfig, Promise]] = {
    "cross entropy": (CrossEntropyConfig(), FAST),
    "cross entropy, smoothed": (CrossEntropyConfig(smoothing=0.2), (None, None)),
    "balanced cross entropy": (CrossEntropyConfig(class_weights="inverse"), FAST),
    "effective number": (CrossEntropyConfig(class_weights="effective_number"), (None, None)),
    "symmetric": (SymmetricConfig(), FAST),
    "balanced symmetric": (SymmetricConfig(class_weights="inverse"), FAST),
    "accuracy, probability": (AccuracyConfig(), (None, None)),
    "accuracy, precision": (AccuracyConfig(reading="precision"), (None, None)),
    "focal": (FocalConfig(), (None, None)),
    "logit adjusted": (LogitAdjustedConfig(), (None, None)),
    "balanced softmax": (BalancedSoftmaxConfig(), (None, None)),
    "bi-tempered": (BiTemperedConfig(), (20.0, None)),
    "bi-tempered, smoothed": (BiTemperedConfig(smoothing=0.1), (20.0, None)),
}
BEHIND_A_HEAD = ("cross entropy", "symmetric", "balanced symmetric", "bi-tempered")
MARGINS: dict[str, HeadConfig] = {"A-softmax": ASoftmaxConfig(), "ArcFace": ArcFaceConfig()}
A_HEAD = (1.2, None)


def loss_arms(*, batch: int, class_counts: Tensor, device: torch.device) -> list[Arm]:
    """The losses on logits that are there already."""
    generator = torch.Generator().manual_seed(0)
    num_classes = len(class_counts)
    logits = (3 * torch.randn(batch, num_classes, generator=generator)).to(device).requires_grad_()
    labels = torch.randint(num_classes, (batch,), generator=generator).to(device)

    def arm(name: str, loss: nn.Module, promise: Promise) -> Arm:
        return Arm(name=name, run=lambda: loss(logits, labels), leaves=[logits], promise=promise)

    return [
        Arm(name=PEER, run=lambda: F.cross_entropy(logits, labels), leaves=[logits]),
        *(
            arm(name, make_loss(config, class_counts=class_counts).to(device), promise)
            for name, (config, promise) in LOSSES.items()
        ),
        Arm(name="the loss log's statistics", run=lambda: measure(logits, labels), leaves=[]),
    ]


def head_arms(*, batch: int, class_counts: Tensor, device: torch.device) -> list[Arm]:
    """Losses behind a linear head, and heads that have a part in the loss, on pooled features."""
    generator = torch.Generator().manual_seed(0)
    num_classes = len(class_counts)
    features = torch.randn(batch, NUM_FEATURES, generator=generator).to(device).requires_grad_()
    labels = torch.randint(num_classes, (batch,), generator=generator).to(device)
    model = Model(nn.Identity(), name="none", num_features=NUM_FEATURES, num_classes=num_classes).to(device)
    linear, plain = model.head, make_loss(CrossEntropyConfig(), class_counts=class_counts)

    def arm(
        name: str, classification: Classification, head: nn.Module, *, promise: Promise = (None, None)
    ) -> Arm:
        def run() -> Tensor:
            model.head = head
            loss: Tensor = classification(model, features, labels, step=0)[0]
            return loss

        leaves = [features, *head.parameters(), *classification.parameters()]
        return Arm(name=name, run=run, leaves=leaves, promise=promise)

    arms = [
        Arm(
            name=PEER,
            run=lambda: F.cross_entropy(linear(features), labels),
            leaves=[features, *linear.parameters()],
        )
    ]
    for name in BEHIND_A_HEAD:
        loss = make_loss(LOSSES[name][0], class_counts=class_counts).to(device)
        arms.append(arm(name, Classification(loss), linear))
    for name, config in MARGINS.items():
        margin = Classification(plain, margin=make_margin(config))
        arms.append(arm(name, margin, make_head(config, head=linear).to(device), promise=A_HEAD))
    names = [str(k % NUM_COARSE) for k in range(num_classes)]
    coarse = CoarseHead(names, num_features=NUM_FEATURES, weight=1.0, seed=0)
    arms.append(arm("hierarchy", Classification(plain, coarse=coarse).to(device), linear, promise=A_HEAD))
    return [*arms, bbn_arm(model, features=features, labels=labels, loss=plain)]


def bbn_arm(model: Model, *, features: Tensor, labels: Tensor, loss: nn.Module) -> Arm:
    """BBN's two heads on as many features each."""
    branches = make_head(ArcFaceConfig(), head=model.head, branches=True).to(features.device)
    objective = BbnObjective(Classification(loss))
    batch = Batch(
        photos=torch.cat([features, features]).detach().requires_grad_(),
        labels=torch.cat([labels, labels.flip(0)]),
        positions=torch.arange(2 * len(labels)),
        num_anchors=len(labels),
        step=0,
        progress=0.5,
    )

    def run() -> Tensor:
        model.head = branches
        loss: Tensor = objective(model, batch)["loss"]
        return loss

    leaves = [batch.photos, *branches.parameters()]
    return Arm(name="BBN, two heads", run=run, leaves=leaves, heads=2, promise=A_HEAD)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the profiler's C++ writes to stderr at each start and end, and that there is no GPU."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def measure_memory(arm: Arm, *, device: torch.device) -> tuple[int, int]:
    """Bytes that one pass held at most beside what was there, and bytes that it left behind."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        arm()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        arm()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    held = peak = 0
    allocations = [event for event in events if event["name"] == "[memory]"]
    for event in sorted(allocations, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak, held


def measure_arms(arms: Sequence[Arm], *, rounds: int, device: torch.device) -> dict[str, Measured]:
    """Memory of each arm's first pass, then the median time of interleaved rounds."""
    memory = {arm.name: measure_memory(arm, device=device) for arm in arms}
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    now = time.process_time if is_alone else time.perf_counter
    seconds: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for _ in range(rounds):
        for arm in arms:
            start = now()
            arm()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[arm.name].append(now() - start)
    return {
        name: Measured(seconds=statistics.median(seconds[name]), extra=extra, kept=kept)
        for name, (extra, kept) in memory.items()
    }


def check(arms: Sequence[Arm], measured: dict[str, Measured], *, title: str, console: Console) -> bool:
    """Print the table; True where all promises hold."""
    table = Table(title=title)
    for heading in ("loss", "ms", "ratio", "MB", "ratio", "kept", "limits"):
        table.add_column(heading, justify="left" if heading == "loss" else "right", no_wrap=True)
    peer, broken = measured[PEER], list[str]()
    for arm in arms:
        took = measured[arm.name]
        ratios = (took.seconds / arm.heads / peer.seconds, took.extra / arm.heads / max(1, peer.extra))
        limits = [(ratio, most) for ratio, most in zip(ratios, arm.promise, strict=True) if most is not None]
        holds = all(ratio <= most for ratio, most in limits)
        table.add_row(
            arm.name,
            f"{1e3 * took.seconds:,.1f}",
            f"{ratios[0]:.2f}",
            f"{took.extra / 1e6:,.1f}",
            f"{ratios[1]:.2f}",
            f"{took.kept / 1e6:,.1f}",
            ", ".join(f"{most:g}" for _, most in limits),
        )
        if not holds:
            broken.append(arm.name)
    console.print(table)
    console.print(f"DOES NOT HOLD: {', '.join(broken)}\n" if broken else "All promises hold.\n")
    return not broken


def main() -> None:
    """Measure both tables; exit with 1 where a promise does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=50_030)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds without a head in front")
    parser.add_argument("--head-rounds", type=int, default=3, help="the same with one; 0 leaves them out")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--fresh", action="store_true", help="freed memory goes back to the kernel")
    options = parser.parse_args()
    if not options.fresh:
        keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU thread(s)"
    )
    size = f"[{options.batch}, {options.classes:,}], {where}"
    counts = torch.linspace(5, 8000, options.classes).long()  # the smallest and the largest of AliProducts
    console, held = Console(), True
    for title, make_arms, rounds in (
        ("Losses", loss_arms, options.rounds),
        (f"With a head {NUM_FEATURES} -> {options.classes:,}", head_arms, options.head_rounds),
    ):
        if rounds:
            arms = make_arms(batch=options.batch, class_counts=counts, device=device)
            measured = measure_arms(arms, rounds=rounds, device=device)
            held &= check(arms, measured, title=f"{title}, {size}", console=console)
    sys.exit(not held)


if __name__ == "__main__":
    main()
