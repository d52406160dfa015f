"""Where a phase computes: device, number format, threads and the processes beside it."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from timm.layers import convert_sync_batchnorm
from torch import Tensor, distributed, nn

from recognition.memory import keep_freed_memory
from recognition.precision import resolve_precision
from training.config import PhaseConfig

_T = TypeVar("_T")
_STORE_SECONDS = 5
_FIRST_TO_FAIL = "aisle/num_failed"


@dataclass(frozen=True)
class Environment:
    """The device of one process of a phase, how it computes there, and how it speaks to the others."""

    accelerator: Accelerator
    device: torch.device
    dtype: torch.dtype

    @property
    def num_processes(self) -> int:
        """Processes that share each batch."""
        return int(self.accelerator.num_processes)

    @property
    def process_index(self) -> int:
        """This process among them."""
        return int(self.accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes files and prints."""
        return self.process_index == 0

    def autocast(self) -> torch.autocast:
        """Return the context in which the model runs forward.

        Not Accelerate's own: that fixes one precision for the whole Python process at its first use.
        """
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def no_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return the context in which backward keeps its gradients to this process."""
        context: AbstractContextManager[None] = self.accelerator.no_sync(module)
        return context

    def gather(self, value: _T) -> list[_T]:
        """Return every process's value, in their order; all of them must call it."""
        if self.num_processes == 1:
            return [value]
        gathered: list[_T] = gather_object([value])
        return gathered

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of every process's tensor; all of them must call it."""
        total: Tensor = self.accelerator.reduce(value, reduction="sum")
        return total

    def wait(self) -> None:
        """Wait until every process has come here."""
        self.accelerator.wait_for_everyone()

    def leave(self) -> None:
        """Meet the other processes no more, once all have come here: NCCL warns where a process just ends."""
        if self.num_processes > 1:
            self.wait()
            distributed.destroy_process_group()

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's buffers: batch norm without synchronisation lets them drift."""
        if self.num_processes > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)

    def wrap(self, module: nn.Module, *, sync_batch_norm: bool) -> nn.Module:
        """Return a module on the device whose backward pass meets the other processes'.

        sync_batch_norm: on GPUs only, where torch has it. Freeze parts before, and build the optimiser.
        """
        module.to(self.device)
        if self.num_processes > 1 and sync_batch_norm and self.device.type == "cuda":
            module = convert_sync_batchnorm(module)  # torch's own would drop timm's activations
        wrapped: nn.Module = self.accelerator.prepare_model(module)
        return wrapped

    def identity(self) -> dict[str, str]:
        """Name what changes the last bits of a result."""
        if self.device.type == "cuda":
            device = f"cuda {torch.cuda.get_device_name(self.device)}"
        else:
            device = f"{self.device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        return {
            "torch": torch.__version__,
            "device": device,
            "precision": str(self.dtype).removeprefix("torch."),
            "num_threads": str(torch.get_num_threads()),
            "num_processes": str(self.num_processes),
        }


def make_environment(phase: PhaseConfig) -> Environment:
    """Choose the device (a GPU where there is one, unless ACCELERATE_USE_CPU=1), meet the other processes and
    set threads and memory.

    ValueError where there are more or fewer processes than the phase says: each would train on its own, or
    on other batches.
    """
    num_started = int(os.environ.get("WORLD_SIZE", "1"))
    if num_started != phase.num_processes:
        raise ValueError(
            f"phase.num_processes: expected {phase.num_processes} processes, received {num_started}. Start "
            f"torchrun --nproc-per-node {phase.num_processes} -m training JOB_DIR, or set num_processes."
        )
    without_gpu = num_started > 1 and not torch.cuda.is_available()  # else Accelerate would start no group
    accelerator = Accelerator(cpu=without_gpu, mixed_precision="no")
    if phase.num_threads:
        torch.set_num_threads(phase.num_threads)
    device: torch.device = accelerator.device
    if device.type == "cpu":
        keep_freed_memory()
    return Environment(
        accelerator=accelerator, device=device, dtype=resolve_precision(phase.precision, device)
    )


def fails_first() -> bool:
    """Say whether no other process of this phase has said so before: one sentence is enough for all.

    When a process ends, its neighbours' next exchange fails; what they then say explains nothing.
    """
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if os.environ.get("WORLD_SIZE", "1") == "1" or not address or not port:
        return True
    try:
        patience = timedelta(seconds=_STORE_SECONDS)
        store = distributed.TCPStore(  # type: ignore[attr-defined]  # public in the manual
            address, int(port), is_master=False, wait_for_workers=False, timeout=patience
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return int(store.add(f"{_FIRST_TO_FAIL}/{attempt}", 1)) == 1
    except (RuntimeError, ValueError):  # nobody to ask: twice is better than never
        return True
