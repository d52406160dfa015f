"""Stage `source`: look at what data.watch names and write a digest of it, on which `ingest` depends.

DVC cannot watch the photos itself: it stops at a dangling link and at a name that is not UTF-8, and hashes
every file of millions. This stage runs at every `dvc repro`; only where its out changes does ingest run.
"""

import json
import logging
from pathlib import Path
from typing import Any

from imaging.atomic_write import atomic_write
from pipelines import paths
from pipelines.params import load_params
from pipelines.params_data import DataParams
from pipelines.paths import NO_FILE
from pipelines.stage import run_stage

logger = logging.getLogger(__name__)


def describe(data: DataParams) -> dict[str, Any]:
    """Layout and root as params.yaml has them, and what is at data.watch now.

    Raises FileNotFoundError or RemoteError where that is unavailable.
    """
    from catalog.sources.watch import describe_watched

    known: dict[str, Any] = {"layout": data.layout, "root": data.root, "watch": data.watch}
    return known if data.watch == NO_FILE else known | describe_watched(data.watch)


def is_of(path: Path, data: DataParams) -> bool:
    """Whether a file of this stage tells of the source that params.yaml names now."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return bool(
            [written[key] for key in ("layout", "root", "watch")] == [data.layout, data.root, data.watch]
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def main() -> None:
    """Write data/sources/<data>.json.

    Where the source is unavailable on this machine, such as in a clone that pulled the photo store, what was
    written before stays, and so does the store.
    """
    from catalog.sources.remote import RemoteError

    data = load_params().data
    out = Path(paths.source_file(data.name))
    try:
        described = describe(data)
    except (FileNotFoundError, RemoteError) as error:
        if not is_of(out, data):
            raise
        logger.warning("The source is unavailable here, the photo store stays as it is. (%s)", error)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as file:
        file.write((json.dumps(described, indent=2) + "\n").encode())


if __name__ == "__main__":
    run_stage(main)
