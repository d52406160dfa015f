"""The gates `calibration`, `latency` and `size`: what a caller of the service notices beside errors."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from recognition.calibration import calibration_error
from recognition.recognizer import Recognizer
from tracking.gates.config import GatesConfig
from tracking.gates.photos import Comparison
from tracking.gates.report import GateAnswer, Number
from tracking.registry.versions import Candidate

_PHOTO_SIZE = (640, 480)
_MAX_SECONDS = 5.0
_MIN_PHOTOS = 3


def judge_calibration(comparison: Comparison, *, gates: GatesConfig) -> GateAnswer:
    """Judge how much higher the expected calibration error is, on the photos that errors are compared on."""
    error = calibration_error(comparison.probability, ~comparison.wrong)
    other_error = calibration_error(comparison.other_probability, ~comparison.other_wrong)
    return _judge(
        "calibration",
        value=error - other_error,
        limit=gates.max_calibration_regression,
        key="gates.max_calibration_regression",
        found=f"expected calibration error of version {comparison.challenger} is {error:.4f}, that of "
        f"{comparison.other} {other_error:.4f}, on the same {len(comparison.labels)} photos: difference "
        f"{error - other_error:+.4f}",
        todo="train it with less smoothing or longer, or raise the limit where nobody reads probabilities",
        numbers={"error": error, "champion_error": other_error, "difference": error - other_error},
    )


def judge_latency(
    challenger: Candidate, champion: Candidate | None, *, other: str, gates: GatesConfig
) -> GateAnswer:
    """Judge the median time for a photo, of both bundles in turn; a bundle that does not load fails."""
    bundles = [candidate.bundle for candidate in (challenger, champion) if candidate is not None]
    try:
        seconds = measure_latency(bundles, num_photos=gates.num_latency_photos)
    except (OSError, ValueError, RuntimeError) as error:
        return GateAnswer(
            gate="latency",
            outcome="fail",
            sentence=f"expected the versions to answer a photo, received an error: {error}; register a "
            "bundle that this version of Aisle can load",
        )
    found = f"version {challenger.version} takes {1000 * seconds[0]:.1f} ms for a photo on this machine's CPU"
    if champion is None:
        return GateAnswer(
            gate="latency",
            outcome="not applicable",
            sentence=f"{found}; there is no champion to compare it with",
            numbers={"ms": 1000 * seconds[0]},
        )
    ratio = seconds[0] / seconds[1]
    return _judge(
        "latency",
        value=ratio,
        limit=gates.max_latency_ratio,
        key="gates.max_latency_ratio",
        found=f"{found}, {other} {1000 * seconds[1]:.1f} ms: {ratio:.2f} times as long",
        todo="take fewer members or views, or raise the limit",
        numbers={"ms": 1000 * seconds[0], "champion_ms": 1000 * seconds[1], "ratio": ratio},
    )


def judge_size(
    challenger: Candidate, champion: Candidate | None, *, other: str, gates: GatesConfig
) -> GateAnswer:
    """Judge the bundle's bytes."""
    size = _num_bytes(challenger.bundle)
    found = f"the bundle of version {challenger.version} has {size / 1e6:,.1f} MB"
    if champion is None:
        return GateAnswer(
            gate="size",
            outcome="not applicable",
            sentence=f"{found}; there is no champion to compare it with",
            numbers={"bytes": size},
        )
    other_size = _num_bytes(champion.bundle)
    ratio = size / other_size
    return _judge(
        "size",
        value=ratio,
        limit=gates.max_size_ratio,
        key="gates.max_size_ratio",
        found=f"{found}, that of {other} {other_size / 1e6:,.1f} MB: {ratio:.2f} times as many",
        todo="take fewer members or a smaller backbone, or raise the limit",
        numbers={"bytes": size, "champion_bytes": other_size, "ratio": ratio},
    )


def measure_latency(bundles: Sequence[Path], *, num_photos: int) -> list[float]:
    """The median seconds in which each bundle answers one photo, decoding included, as the service would.

    The bundles take turns at each photo, so that a busy moment slows all alike. Drawn photos: the time
    depends on their size, not on what they show.
    """
    recognizers = [Recognizer(bundle) for bundle in bundles]
    seconds: list[list[float]] = [[] for _ in recognizers]
    deadline = None
    for number in range(-1, num_photos):  # the first one warms up and does not count
        photo = _draw_photo(number + 1)
        order = range(len(recognizers)) if number % 2 else range(len(recognizers) - 1, -1, -1)
        for index in order:
            start = time.perf_counter()
            recognizers[index].predict([photo])
            if number >= 0:
                seconds[index].append(time.perf_counter() - start)
        deadline = deadline or time.perf_counter() + _MAX_SECONDS
        if number + 1 >= _MIN_PHOTOS and time.perf_counter() > deadline:
            break
    return [statistics.median(times) for times in seconds]


def _draw_photo(seed: int) -> bytes:
    blocks = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(blocks).resize(_PHOTO_SIZE, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _num_bytes(bundle: Path) -> int:
    return sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())


def _judge(
    gate: str,
    *,
    value: float,
    limit: float | None,
    key: str,
    found: str,
    todo: str,
    numbers: dict[str, Number],
) -> GateAnswer:
    """Compare a value with its limit."""
    numbers = numbers | {"limit": limit}
    if limit is None:
        sentence = f"{found}; {key} is null, so this is not judged"
        return GateAnswer(gate=gate, outcome="not applicable", sentence=sentence, numbers=numbers)
    if value <= limit:
        sentence = f"{found}, within the {limit:g} of {key}"
        return GateAnswer(gate=gate, outcome="pass", sentence=sentence, numbers=numbers)
    sentence = f"{found}, more than the {limit:g} of {key}: {todo}"
    return GateAnswer(gate=gate, outcome="fail", sentence=sentence, numbers=numbers)
