"""Which number format a device computes in, decided once so that training, embedding and serving agree.

bf16 is worth 2.3x in training and up to 4x in serving where the hardware has units for it, and is slower than
float32 where it has not; so "auto" takes it only with AMX or AVX512-bf16, or a GPU of its own bf16 units.
"""

from __future__ import annotations

import copy
import logging
from typing import Literal, get_args

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "bfloat16"]


def has_bfloat16(device: torch.device | str) -> bool:
    """Say whether the device multiplies bf16 in hardware (emulation does not count)."""
    kind = torch.device(device).type
    if kind == "cpu":
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return False


def resolve_precision(precision: Precision, device: torch.device | str) -> torch.dtype:
    """Turn a configured precision into torch.float32 or torch.bfloat16.

    bf16 that the device lacks becomes float32 with one warning. ValueError for an unknown name.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"Expected a precision of {', '.join(get_args(Precision))}, received {precision!r}.")
    if precision == "float32":
        return torch.float32
    if has_bfloat16(device):
        return torch.bfloat16
    if precision == "bfloat16":
        logger.warning("bfloat16 was asked for but %s has no bf16 units: computing in float32.", device)
    return torch.float32


def choose_device(precision: Precision) -> tuple[torch.device, torch.dtype]:
    """Return the device that stages compute on, the accelerator if there is one, and the dtype there."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return device, resolve_precision(precision, device)


def cast_for_inference(module: nn.Module, *, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """Copy a backbone to a device in evaluation mode, channels-last, its weights cast once.

    Batch norms stay float32 (they take bf16 activations as they are): in bf16 a running mean keeps under
    three digits, and the error is systematic. The module given is left unchanged.
    """
    copied = copy.deepcopy(module).eval().requires_grad_(False).to(device)
    for part in copied.modules():
        if not isinstance(part, nn.modules.batchnorm._BatchNorm):
            _cast_own_tensors(part, dtype)
    return copied.to(memory_format=torch.channels_last)


def _cast_own_tensors(part: nn.Module, dtype: torch.dtype) -> None:
    """Cast the floating parameters and buffers of one module, not those of its children."""
    for parameter in part._parameters.values():
        if parameter is not None and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for name, buffer in part._buffers.items():
        if isinstance(buffer, Tensor) and buffer.is_floating_point():
            part._buffers[name] = buffer.to(dtype)
