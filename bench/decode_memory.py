"""What decoding the largest photos takes in memory, and whether it comes back: `make bench`.

    python -m bench.decode_memory [--size 10000x10000] [--kind PNG]

makes photos of every kind that the decoder reads and puts each, in a process of its own, through `to_stored`
in a thread, as service and ingest do. Peak and rest are the process's resident memory beyond what it had
before it read the file (VmHWM and VmRSS of /proc, so Linux only). Exit code 1 where a photo took more than
the limit, was refused for another reason than its size, or left more than 64 MB behind.
"""

import argparse
import gc
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imaging.limits import Limits, PhotoError
from imaging.storage import to_stored

SIZES = ("10000x10000", "65000x1500", "100000x1000", "1x60000", "60000x1", "6000x4000")
LARGEST_REST = 64_000_000
# A PNG of one grey pixel.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
)
WEBP_SIDE, JPEG_SIDE, GIF_SIDE = 16_383, 65_500, 65_535


def measure(path: Path) -> dict[str, object]:
    """Put one photo through `to_stored`; bytes at the peak and afterwards, and what came of it."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(to_stored, _PIXEL).result()  # loads what decoding loads at its first use
        gc.collect()
        before = _status("VmRSS")
        outcome = pool.submit(_store, path).result()
        gc.collect()
        return {"peak": _status("VmHWM") - before, "rest": _status("VmRSS") - before, **outcome}


def _store(path: Path) -> dict[str, object]:
    try:
        stored = to_stored(path.read_bytes())
    except PhotoError as error:
        return {"reason": error.reason, "message": str(error)}
    return {"stored": f"{stored.width}x{stored.height}"}


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    """Measure each kind at each size and print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", action="append", help=f"WIDTHxHEIGHT, repeatable; default {', '.join(SIZES)}"
    )
    parser.add_argument("--kind", default="", help="only kinds whose name begins so")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    from bench.large_photos import KINDS  # not in the measuring process

    broken = []
    print(f"{'kind':<26}{'size':>14}{'file MB':>9}{'peak MB':>9}{'rest MB':>9}  outcome")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.size or SIZES:
            for kind, make in KINDS.items():
                width, height = (int(side) for side in size.split("x"))
                if not kind.startswith(options.kind) or not _can_hold(kind, width, height):
                    continue
                path = Path(folder) / "photo"
                path.write_bytes(make(width, height))
                command = [sys.executable, "-m", "bench.decode_memory", "--measure", str(path)]
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                if run.returncode:
                    sys.exit(f"{kind} {size}: {run.stderr}")
                found = json.loads(run.stdout)
                holds = _holds(found)
                broken += [] if holds else [f"{kind} {size}"]
                said = found.get("stored") or f"{found['reason']}: {found['message']}"
                print(
                    f"{kind:<26}{size:>14}{path.stat().st_size / 1e6:9.1f}{found['peak'] / 1e6:9.0f}"
                    f"{found['rest'] / 1e6:9.0f}  {'' if holds else 'BROKEN '}{said}",
                    flush=True,
                )
    print(f"\nThe bound is broken by: {', '.join(broken)}" if broken else "\nThe bound holds.")
    sys.exit(bool(broken))


def _can_hold(kind: str, width: int, height: int) -> bool:
    """Whether a file of this kind can have these sides at all."""
    largest = {"WEBP": WEBP_SIDE, "JPEG": JPEG_SIDE, "GIF": GIF_SIDE}.get(kind.split()[0], 2**31)
    if kind == "TIFF RGB JPEG":
        largest = JPEG_SIDE
    return max(width, height) <= largest


def _holds(found: dict[str, object]) -> bool:
    peak, rest = int(str(found["peak"])), int(str(found["rest"]))
    refused_by_size = found.get("reason") in (None, "too_many_pixels", "too_many_bytes")
    return peak <= Limits().max_decoding_bytes and rest <= LARGEST_REST and refused_by_size


if __name__ == "__main__":
    main()
