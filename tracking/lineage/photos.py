"""Which registered versions learnt from a photo, and through which lists: someone may ask to be removed.

A photo is its content: the SHA-256 of its original bytes is looked for in the tables that are stored with
each version. The answer says as well what those tables cannot know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.compute as pc

from contracts.evaluation import EVALUATED_ON, PREDICTIONS, TRAINED_ON
from contracts.keyed import Lookup
from contracts.table import TableError
from tracking.artifacts import Artifacts, MissingArtifactsError
from tracking.lineage.record import LINEAGE_FILE
from tracking.registry.listing import list_versions
from tracking.registry.versions import (
    EVIDENCE_TAG,
    ModelVersion,
    fetch_evidence,
)
from tracking.store import Store

_RUNS_PER_CALL = 100
_NUM_SHOWN = 20
_TRAINED_MODEL = re.compile(r'"kind":\s*"(member|ensemble)"')


@dataclass(frozen=True, kw_only=True)
class SoughtPhoto:
    """What is looked for."""

    name: str
    """Its file's name: of versions that know names alone, photos of this name are told."""
    source_sha256: bytes
    perceptual_hash: int | None = None


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """Another photo that looks like it."""

    photo_id: str
    distance: int
    """Bits of 64 in which their perceptual hashes differ."""
    lists: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class PhotoUse:
    """What one version had to do with the photo."""

    model: str
    version: str
    aliases: tuple[str, ...] = ()
    recipe: str = ""
    learnt: bool = False
    photo_ids: tuple[str, ...] = ()
    """What the photo is called there."""
    lists: tuple[str, ...] | None = ()
    """The lists of its own recipe through which it was learnt; None: not known."""
    lists_of_others: Mapping[str, tuple[str, ...] | None] | None = None
    """The lists of registered versions that it started or learnt from, by <model>/<version>."""
    evaluated: tuple[str, ...] = ()
    """"validation" and "evaluation", as far as it is in those splits."""
    near: tuple[NearDuplicate, ...] = ()
    named_alike: tuple[str, ...] = ()
    """Photos of the file's name among those of which only names are known: perhaps it is one of them."""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PhotoReport:
    """All versions that were asked, and what could not be asked."""

    photo: SoughtPhoto
    near: int | None
    """Bits that were let differ, None where near-duplicates were not looked for."""
    uses: tuple[PhotoUse, ...]
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The form that docs/lineage.md describes."""
        return {
            "format_version": 1,
            "photo": {
                "name": self.photo.name,
                "source_sha256": self.photo.source_sha256.hex(),
                "perceptual_hash": self.photo.perceptual_hash,
            },
            "near": self.near,
            "num_versions": len(self.uses),
            "versions": [asdict(use) for use in self.uses],
            "unknown": list(self.unknown),
        }


def find_photo(
    store: Store,
    photo: SoughtPhoto,
    *,
    data: str | None = None,
    near: int | None = None,
    on_version: Callable[[int], object] = lambda _: None,
) -> PhotoReport:
    """Ask every registered version, or those of one data name.

    near: also tell photos whose perceptual hash differs in at most so many bits, for which a column of every
    file is read. on_version is called with the number of versions after each one whose files were fetched.
    Raises TrackingError when the store cannot be reached.
    """
    versions = sorted(list_versions(store, data=data), key=lambda each: (each.name, int(each.version)))
    with store.explain_failure(doing="look up the files of registered versions"):
        evidence = _find_evidence(store, versions)
    uses = []
    for version in versions:  # in threads they would wait for each other: a version is milliseconds of Python
        folder, problem = _fetch(store, version, evidence.get(version.run_id))
        uses.append(_ask(version, folder, problem, photo=photo, near=near))
        on_version(len(versions))
    return PhotoReport(photo=photo, near=near, uses=tuple(uses), unknown=tuple(_deleted(versions)))


def _find_evidence(store: Store, versions: Collection[ModelVersion]) -> dict[str, Artifacts]:
    """The folders of what versions were made from, by their runs, in a call for a hundred of them."""
    from mlflow.entities import ViewType

    folders = {each.run_id: each.tags[EVIDENCE_TAG] for each in versions if EVIDENCE_TAG in each.tags}
    run_ids, found = list(folders), dict[str, Artifacts]()
    experiments = [each.experiment_id for each in store.client.search_experiments(view_type=ViewType.ALL)]
    for first in range(0, len(run_ids), _RUNS_PER_CALL):
        part = run_ids[first : first + _RUNS_PER_CALL]
        runs = store.client.search_runs(
            experiments,
            filter_string="attributes.run_id IN ({})".format(", ".join(f"'{run_id}'" for run_id in part)),
            run_view_type=ViewType.ALL,
            max_results=_RUNS_PER_CALL,
        )
        for run in runs:
            folder = folders[run.info.run_id]
            found[run.info.run_id] = Artifacts(store, f"{run.info.artifact_uri}/{folder}")
    return found


def _fetch(store: Store, version: ModelVersion, evidence: Artifacts | None) -> tuple[Path | None, str]:
    """A version's files on this machine, or why they are not here."""
    if EVIDENCE_TAG not in version.tags:
        return None, "what it learnt from: it was registered without files that say so"
    if evidence is None:
        return None, "what it learnt from: its run is gone from the store"
    try:
        required, wanted = ["trained_on.parquet"], ["evaluated_on.parquet"]
        folder = fetch_evidence(store, version=version, found=evidence, required=required, wanted=wanted)
    except MissingArtifactsError as error:
        return None, f"what it learnt from: {error}"
    return folder, ""


def _ask(
    version: ModelVersion, folder: Path | None, problem: str, *, photo: SoughtPhoto, near: int | None
) -> PhotoUse:
    """What one version had to do with the photo."""
    use = PhotoUse(
        model=version.name,
        version=version.version,
        aliases=tuple(sorted(version.aliases)),
        recipe=version.tags.get("aisle.recipe", ""),
    )
    if folder is None:
        return replace(use, unknown=(problem,))
    try:
        with TRAINED_ON.lookup(folder / "trained_on.parquet") as lookup:
            use = _learnt(lookup, use, photo=photo, near=near)
    except (OSError, TableError) as error:
        return replace(use, unknown=(f"what it learnt from: {error}",))
    try:
        evaluated, unknown = _evaluated(folder, photo)
    except (OSError, TableError) as error:
        evaluated, unknown = (), (f"what it was evaluated on: {error}",)
    return replace(
        use, evaluated=evaluated, unknown=(*use.unknown, *unknown, *_models_from_elsewhere(folder))
    )


def _learnt(lookup: Lookup, use: PhotoUse, *, photo: SoughtPhoto, near: int | None) -> PhotoUse:
    rows = lookup.find(photo.source_sha256, ["photo_id", "lists"])
    own, others = _by_version(rows["lists"].to_pylist() if "lists" in lookup.names else [None] * len(rows))
    unknown, alike = list[str](), list[str]()
    if lookup.num_without_key:
        names = pl.Series(lookup.without_key(["photo_id"])["photo_id"])
        alike = names.filter(names.str.split("/").list.last() == photo.name).to_list()
        unknown.append(
            f"whether the photo is one of {lookup.num_without_key:,} of which only names are known, from "
            "before versions kept their photos' content"
        )
    if len(rows) and own is None:
        unknown.append("through which lists it was learnt: registered before lists were kept")
    neighbours: list[NearDuplicate] = []
    if near is not None:
        if "perceptual_hash" in lookup.names:
            neighbours = _near(lookup, photo, near=near)
        else:
            unknown.append("near-duplicates: registered before perceptual hashes were kept")
    return replace(
        use,
        learnt=len(rows) > 0,
        photo_ids=tuple(rows["photo_id"].to_pylist()),
        lists=own,
        lists_of_others=others,
        near=tuple(neighbours),
        named_alike=tuple(alike[:_NUM_SHOWN]),
        unknown=tuple(unknown),
    )


def _by_version(
    lists: list[list[str] | None],
) -> tuple[tuple[str, ...] | None, dict[str, tuple[str, ...] | None]]:
    """The names of a row's lists as those of its own and those of versions it started from."""
    own, others = list[str](), dict[str, list[str] | None]()
    for name in [name for names in lists for name in names or ()]:
        version, _, inherited = name.rpartition(":")
        if "/" not in name:
            own.append(name)
        elif not version:
            others[name] = None
        else:
            others[version] = [*(others.get(version) or ()), inherited]
    is_known = all(names is not None for names in lists)
    return tuple(dict.fromkeys(own)) if is_known else None, {
        version: None if names is None else tuple(names) for version, names in others.items()
    }


def _near(lookup: Lookup, photo: SoughtPhoto, *, near: int) -> list[NearDuplicate]:
    """Photos that look alike and are not the photo itself, nearest first."""
    if photo.perceptual_hash is None:
        return []
    column = lookup.column("perceptual_hash")
    hashes = pc.fill_null(column, 0).to_numpy()
    distances = np.bitwise_count(hashes ^ np.uint64(photo.perceptual_hash))
    places = np.flatnonzero((distances <= near) & pc.is_valid(column).to_numpy(zero_copy_only=False))
    found = [
        NearDuplicate(
            photo_id=row["photo_id"],
            distance=int(distance),
            lists=None if row.get("lists") is None else tuple(row["lists"]),
        )
        for row, distance in zip(lookup.take(places).to_pylist(), distances[places], strict=True)
        if row.get("source_sha256") != photo.source_sha256
    ]
    return sorted(found, key=lambda each: (each.distance, each.photo_id))


def _evaluated(folder: Path, photo: SoughtPhoto) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What else the photo was used for, and what is not known of it."""
    path = folder / "evaluated_on.parquet"
    if path.is_file():
        with EVALUATED_ON.lookup(path) as lookup:
            uses = lookup.find(photo.source_sha256, ["use"])["use"].to_pylist()
            return tuple(sorted(set(uses))), ()
    unknown = "whether it was validated on the photo: registered before that was kept"
    answers = PREDICTIONS.read(folder / "predictions.parquet", ["source_sha256"])
    if "source_sha256" not in answers.column_names:
        return (), (unknown, "whether it was evaluated on the photo: its evaluation kept names alone")
    is_in = pc.index(answers["source_sha256"], photo.source_sha256).as_py() >= 0
    return ("evaluation",) if is_in else (), (unknown,)


def _models_from_elsewhere(folder: Path) -> Iterator[str]:
    """A sentence for each trained model that a phase began with and whose photos nobody here knows."""
    path = folder / LINEAGE_FILE
    if not path.is_file():
        yield "whether a phase began with a model of its own that is no registered version: not kept then"
        return
    text = path.read_text(encoding="utf-8")
    if not _TRAINED_MODEL.search(text):  # most versions: parsing 200 records would take half a second
        return
    for name, weights in json.loads(text)["weights"].items():
        if weights["kind"] in ("member", "ensemble") and not weights["version"]:
            yield f"what the model in {weights['path']} had learnt from, with which phases began as {name}"


def _deleted(versions: Collection[ModelVersion]) -> Iterator[str]:
    """A sentence for each model of which versions are missing in the registry."""
    numbers: dict[str, set[int]] = {}
    for version in versions:
        numbers.setdefault(version.name, set()).add(int(version.version))
    for model, found in sorted(numbers.items()):
        missing = sorted(set(range(1, max(found))) - found)
        if missing:
            yield (
                f"what version {', '.join(map(str, missing))} of {model} learnt from: deleted from the "
                "registry, its files may still be in the artifact store"
            )
