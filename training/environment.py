"""Where a phase computes: device, number format and threads, and their names for the checkpoint."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from recognition.precision import resolve_precision
from training.config import PhaseConfig


@dataclass(frozen=True)
class Environment:
    """The device of a phase and how it computes there."""

    accelerator: Accelerator
    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        """Return the context in which the model runs forward.

        Not Accelerate's own: that fixes one precision for the whole process at its first use.
        """
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

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
        }


def make_environment(phase: PhaseConfig) -> Environment:
    """Choose the device (a GPU where there is one, unless ACCELERATE_USE_CPU=1) and set the threads."""
    if phase.num_threads:
        torch.set_num_threads(phase.num_threads)
    accelerator = Accelerator(mixed_precision="no")
    if accelerator.num_processes > 1:
        raise ValueError(
            f"Expected one process a phase, received {accelerator.num_processes}. Start `python -m training` "
            "itself, not through a distributed launcher."
        )
    device: torch.device = accelerator.device
    return Environment(
        accelerator=accelerator, device=device, dtype=resolve_precision(phase.precision, device)
    )
