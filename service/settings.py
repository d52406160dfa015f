"""What a person may set about the service, read once from AISLE_* variables or given by `aisle serve`."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from recognition.precision import Precision

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MIB = 1024 * 1024


class Settings(BaseSettings):
    """Settings of the service; the variable is the field's name after AISLE_, as in AISLE_PORT=8080."""

    model_config = SettingsConfigDict(
        env_prefix="AISLE_", extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    data: str | None = None
    """Serve the registered model of this data name."""
    alias: str = "champion"
    """Which version of it: an alias, or a version's number."""
    bundle: Path | None = None
    """Serve this bundle folder instead, without a registry."""
    precision: Precision = "auto"
    """Number format of the backbones: auto, float32 or bfloat16."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on."""
    max_photo_mb: int = Field(default=32, ge=1)
    """Largest photo, MiB."""
    max_request_mb: int = Field(default=128, ge=1)
    """Largest request, MiB, all photos together."""
    max_silence_s: float = Field(default=30, gt=0)
    """Longest wait for the next bytes of a request's body, seconds."""
    max_photos_per_request: int = Field(default=32, ge=1)
    """Most photos in one request."""
    max_pixels: int = Field(default=100_000_000, ge=1)
    """Largest width times height of a photo."""
    max_decoding_mb: int = Field(default=400, ge=1)
    """Most memory that decoding one photo may take, MB; each decoder may take as much."""
    top_k: int = Field(default=5, ge=1)
    """SKUs in an answer when the request does not say how many."""
    num_batchers: int = Field(default=CORES, ge=1)
    """Threads that compute, each on one core."""
    num_decoders: int = Field(default=CORES, ge=1)
    """Threads that turn files into pixels."""
    max_batch: int = Field(default=8, ge=1)
    """Most photos computed in one pass."""
    max_waiting: int = Field(default=256, ge=1)
    """Most photos in the house at once; a request beyond that is told to come back."""
