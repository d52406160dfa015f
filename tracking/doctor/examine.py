"""All checks in order, and the fixes after them until nothing is left that can be fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tracking.doctor.files import check_files
from tracking.doctor.finding import Finding, out_of_reach
from tracking.doctor.registry import check_registry, find_models, recorded_models
from tracking.doctor.runs import check_runs, check_spools
from tracking.doctor.stores import check_place, check_schemas
from tracking.history.database import find_url
from tracking.project import TrackingError
from tracking.registry.listing import list_versions
from tracking.registry.versions import MODEL_PREFIX, ModelVersion
from tracking.store import Store, all_errors

_NUM_ROUNDS = 3  # a reverted operation may leave a move to record
OnVersion = Callable[[int, int], None]
"""Told how many versions of how many were hashed."""


@dataclass
class Examination:
    """What was found. `notes` are no faults; `fixed` was found and mended, `findings` are left."""

    findings: list[Finding] = field(default_factory=list)
    fixed: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine(
    store: Store, *, fix: bool = False, every_version: bool = False, on_version: OnVersion | None = None
) -> Examination:
    """Look at everything; files of versions behind an alias, or of every version.

    With `fix` what is safe to mend is mended, and looked at again. Never raises because a store is down: that
    is a finding.
    """
    examination = Examination()
    found, versions = _check_all(store, examination)
    if fix:
        for _ in range(_NUM_ROUNDS):
            if not _mend(found, examination):
                break
            found, versions = _check_all(store, examination)
    examination.findings += found
    wanted = [each for each in versions if each.aliases or every_version]
    for number, version in enumerate(wanted, start=1):
        with out_of_reach(store, examination.findings, doing=f"look at version {version.version}"):
            examination.findings += check_files(store, version)
        if on_version is not None:
            on_version(number, len(wanted))
    if len(wanted) < len(versions):
        examination.notes.append(
            f"The files of {len(versions) - len(wanted)} versions without an alias were not looked at: --all"
        )
    return examination


def _mend(found: list[Finding], examination: Examination) -> bool:
    """Fix what can be; whether anything was."""
    done = 0
    for finding in found:
        if finding.fix is None or finding.sentence in {each.sentence for each in examination.fixed}:
            continue
        try:
            finding.fix()
        except all_errors() as error:
            examination.notes.append(f"Not fixed: {finding.sentence}: {error}")
            continue
        examination.fixed.append(finding)
        done += 1
    return done > 0


def _check_all(store: Store, examination: Examination) -> tuple[list[Finding], list[ModelVersion]]:
    """Everything but files; the versions that exist."""
    found: list[Finding] = []
    versions: list[ModelVersion] = []
    models: list[str] = []
    with out_of_reach(store, found, doing="look at the databases"):
        found += check_schemas(store)
        found += check_place(store)
    found += check_spools(store)
    if any(finding.kind == "schema" for finding in found):
        return found, versions  # opening them would fail, or upgrade them
    with out_of_reach(store, found, doing="look for orphaned runs"):
        found += check_runs(store)
    with out_of_reach(store, found, doing="look at the registered models"):
        for model in find_models(store):
            versions += list_versions(store, data=model.removeprefix(MODEL_PREFIX))
            models.append(model)
    if _has_history(store, examination):
        with out_of_reach(store, found, doing="list the models in the history"):
            models += [model for model in recorded_models(store) if model not in models]
        for model in models:
            numbers = {version.version for version in versions if version.name == model}
            with out_of_reach(store, found, doing=f"look at {model}"):
                found += check_registry(store, model, versions=numbers)
    return found, versions


def _has_history(store: Store, examination: Examination) -> bool:
    """Whether there is a database for the history; a machine that only trains beside a server needs none."""
    try:
        find_url(store)
    except TrackingError as error:
        note = f"The history was not looked at: {error}"
        if note not in examination.notes:
            examination.notes.append(note)
        return False
    return True
