"""Which bundle is served and under which name: found first, since nothing may start without; loaded after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imaging.limits import Limits
from recognition.bundle import bundle_kind, digest
from recognition.recognizer import Recognizer
from service.batching import Batcher
from service.settings import MIB, Settings
from tracking.registry.versions import download, get_version
from tracking.store import find_store

# The smallest PNG there is: one grey pixel, to warm up decoder and model.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
)


@dataclass(frozen=True)
class Source:
    """A bundle and what it is called in answers; of a bundle folder, `version` is the digest's beginning."""

    bundle: Path
    name: str
    version: str
    aliases: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class LoadedModel:
    """A model that answers."""

    source: Source
    recognizer: Recognizer
    batcher: Batcher


def find_source(settings: Settings) -> Source:
    """The bundle that the settings name.

    Raises MissingAlias or TrackingError with what to run, ValueError when the settings name none.
    """
    if settings.bundle is not None:
        folder = settings.bundle.resolve()
        bundle_kind(folder)
        found = digest(folder)
        return Source(folder, name=folder.name, version=found[:12], aliases=(), digest=found)
    if settings.data is None:
        raise ValueError(
            "expected the data name whose champion is to be served, or a bundle folder; set AISLE_DATA or "
            "AISLE_BUNDLE (aisle serve --data or --bundle)"
        )
    store = find_store()
    version = get_version(store, data=settings.data, which=settings.alias)
    return Source(
        bundle=download(store, version=version),
        name=version.name,
        version=version.version,
        aliases=version.aliases,
        digest=version.bundle_digest,
    )


def load_model(source: Source, *, settings: Settings) -> LoadedModel:
    """Load a bundle and warm it up; it answers at full speed when this returns."""
    limits = Limits(
        max_bytes=settings.max_photo_mb * MIB,
        max_pixels=settings.max_pixels,
        max_decoding_bytes=settings.max_decoding_mb * 1_000_000,
    )
    recognizer = Recognizer(source.bundle, precision=settings.precision, limits=limits)
    batcher = Batcher(
        recognizer,
        num_threads=settings.num_batchers,
        max_batch=settings.max_batch,
        max_waiting=settings.max_waiting,
    )
    batcher.start(warm_up=recognizer.prepare(_PIXEL))
    return LoadedModel(source=source, recognizer=recognizer, batcher=batcher)
