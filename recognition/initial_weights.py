"""Where ImageNet weights come from, and how to learn within seconds that they cannot be had.

The hub's own client retries for minutes when there is no network; a bare GPU node has none. So the local
cache is asked first, then the server once, with a limit on the whole question (name look-ups have none of
their own), and only a server that answers is asked for the file.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from timm.models import load_state_dict
from torch import Tensor

PROBE_SECONDS = 5.0
HUB_FILE = "model.safetensors"


class WeightsError(RuntimeError):
    """Initial weights cannot be had; the message says which, why, and what to do."""


def find_imagenet_weights(backbone: str) -> Path:
    """Return the local file of a backbone's ImageNet weights, downloading it where a server answers.

    WeightsError, within about twice PROBE_SECONDS, where there is no such file or no server.
    """
    config = timm.get_pretrained_cfg(backbone)
    if config is not None and config.hf_hub_id:
        return _from_hub(backbone, config.hf_hub_id)
    if config is not None and config.url:
        return _from_url(backbone, config.url)
    raise WeightsError(f"timm has no ImageNet weights for {backbone}: start from random weights or a file.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors or torch file without executing anything in it; WeightsError where that fails."""
    try:
        return dict(load_state_dict(str(path), weights_only=True))
    except Exception as error:  # safetensors, zip and unpickling each raise their own
        raise WeightsError(f"{path} is not a readable weights file: {_one_line(error)}.") from error


def _from_hub(backbone: str, repo_id: str) -> Path:
    cached = try_to_load_from_cache(repo_id, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        _within_limit(lambda: get_hf_file_metadata(hf_hub_url(repo_id, HUB_FILE), timeout=PROBE_SECONDS))
        return Path(hf_hub_download(repo_id, HUB_FILE))
    except Exception as error:  # the client's transports raise types of their own
        raise _unreachable(backbone, error) from error


def _from_url(backbone: str, url: str) -> Path:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if cached.is_file():
        return cached
    request = urllib.request.Request(url, method="HEAD")
    try:
        _within_limit(lambda: urllib.request.urlopen(request, timeout=PROBE_SECONDS).close())
        torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise _unreachable(backbone, error) from error
    return cached


def _within_limit(ask: Callable[[], object]) -> None:
    """Run a question in a thread and raise what it raises, or TimeoutError after twice PROBE_SECONDS."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            ask()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(2 * PROBE_SECONDS)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {2 * PROBE_SECONDS:.0f} s")
    if failures:
        raise failures[0]


def _unreachable(backbone: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"ImageNet weights of {backbone} could not be downloaded ({_one_line(error)}): "
        "give a local file, or allow random weights."
    )


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200].rstrip(".")
