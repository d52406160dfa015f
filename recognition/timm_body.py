"""A backbone out of timm for photos of one size, and without randomness that the phase does not ask for.

Many transformers are built for one size and refuse every other one unless they are told; the names of what
they want to hear differ, and so does what becomes of weights that were trained at another size. Some models
also bring a dropout or a stochastic depth of their own, which would add to the phase's without a word.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import sys
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.layers import PatchDropout
from torch import Tensor, nn

logger = logging.getLogger(__name__)

FARTHEST_SIZE = 64
"""Pixels up to which a neighbour of a refused input size is looked for: the largest stride of a backbone."""


def make_body(
    backbone: str,
    *,
    input_size: int | None = None,
    seed: int | None = None,
    is_trial: bool = False,
    **options: Any,
) -> nn.Module:
    """Build timm's model without a classifier, for square photos of `input_size` pixels.

    None leaves it at its own size. Where the model can, it resamples its position embedding in each forward
    pass: its weights then have the same shapes at every size. seed: given to the global generator, which the
    caller forks. options: what else `timm.create_model` is told. ValueError, with the sizes near it that fit,
    where the model cannot be built for the size; is_trial: what timm raises instead.
    """
    sizings: list[dict[str, Any]] = [{}]
    if input_size is not None:
        sizings = [{"dynamic_img_size": True}, {"img_size": input_size}, {}]
    for sizing in sizings:
        if seed is not None:
            torch.manual_seed(seed)  # for each attempt: a failed one may have drawn already
        try:
            body: nn.Module = timm.create_model(backbone, num_classes=0, **sizing, **options)
        except TypeError as error:
            if any(name in str(error) and "unexpected keyword" in str(error) for name in sizing):
                continue
            raise
        except Exception as error:
            if is_trial or "img_size" not in sizing or _can_take(None, sizing["img_size"], backbone=backbone):
                raise  # not because of the size
            raise _size_error(backbone, input_size=sizing["img_size"], error=error, body=None) from error
        remove_randomness(body)
        return body
    raise AssertionError("the last attempt names no size, so it returns or raises")


def remove_randomness(body: nn.Module) -> None:
    """Switch off every dropout, stochastic depth, drop block and patch dropout inside a backbone.

    legacy_senet154, legacy_seresnet*, rexnet, ghostnet and vgg drop a fifth of their pooled features where
    nobody says so, swin, nest and tiny_vit skip branches. What a phase drops is its `drop_rate` alone.
    """
    for module in body.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, PatchDropout):
            module.prob = 0.0
        for name, value in vars(module).items():
            # drop_rate of F.dropout in forward_head, drop_prob of DropPath, dropout of MultiheadAttention
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def trains_channels_last(body: nn.Module, device: torch.device) -> bool:
    """Say whether the backward pass works with the colours of a pixel side by side.

    FastViT's corrupts memory on a CPU (torch 2.15 ends with a double free at any input size); its forward
    pass, and the backward pass channel by channel, are sound.
    """
    return device.type != "cpu" or type(body).__name__ != "FastVit"


def check_input_size(body: nn.Module, *, backbone: str, input_size: int) -> None:
    """Raise ValueError, naming the nearest sizes that fit, where the backbone cannot take the size.

    It is asked with one black photo: rules differ (a multiple of the patch, of a window, at least a stride).
    """
    training = body.training
    try:
        _ask(body.eval(), input_size)
    except Exception as error:  # assertions, shape errors and division by zero, each model's own
        raise _size_error(backbone, input_size=input_size, error=error, body=body) from error
    finally:
        body.train(training)


def resample_positions(
    state: Mapping[str, Tensor], *, body: nn.Module, wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a state whose position tables, made at another input size, timm resampled to the body's.

    What is not a table of positions, or what timm cannot resample, stays as it is, for the caller to refuse.
    """
    differing = [name for name in state if name in wanted and state[name].shape != wanted[name].shape]
    convert = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)
    if convert is None or not differing or not all("pos" in name for name in differing):
        return dict(state)
    try:
        converted = convert(dict(state), body)
    except Exception as error:  # a converter expects the layout of the weights that were published
        logger.debug("%s could not resample %s: %s", convert.__module__, ", ".join(differing), error)
        return dict(state)
    return {**state, **{name: converted[name] for name in differing if name in converted}}


def _size_error(backbone: str, *, input_size: int, error: Exception, body: nn.Module | None) -> ValueError:
    """body: one to ask about other sizes, where there is one that was not built for its own."""
    if body is not None:
        accepts = inspect.signature(type(body)).parameters
        body = None if "img_size" in accepts and "dynamic_img_size" not in accepts else body
    sizes = []
    for direction in (-1, 1):
        candidates = [input_size + direction * distance for distance in range(1, FARTHEST_SIZE + 1)]
        # every size that a patch, a window or a stride asks for is a multiple of one of these
        plausible = [size for size in candidates if size > 0 and (size % 4 == 0 or size % 7 == 0)]
        fitting = (size for size in plausible if _can_take(body, size, backbone=backbone))
        sizes += [str(size) for size in itertools.islice(fitting, 1)]
    reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
    own = timm.get_pretrained_cfg(backbone)
    sizes = sizes or ([f"its own, {own.input_size[-1]}"] if own is not None else ["none found"])
    return ValueError(
        f"input_size: expected a size that backbone {backbone} can take, received {input_size} ({reason}). "
        f"The nearest that fit: {' and '.join(sizes)}."
    )


def _can_take(body: nn.Module | None, size: int, *, backbone: str) -> bool:
    """Without a body, one is built for the size."""
    try:
        if body is not None:
            _ask(body, size)
        else:
            with torch.device("meta"):  # shapes without numbers
                _ask(make_body(backbone, input_size=size, is_trial=True).eval(), size)
    except Exception:
        return False
    return True


@torch.no_grad()
def _ask(body: nn.Module, size: int) -> None:
    device = next(body.parameters()).device
    body(torch.zeros(1, 3, size, size, device=device))
