"""Registered versions as a beginning: a phase may start from one, or learn from one as its teacher.

A version's number never means other weights, and the bundle's digest goes into the phase's fingerprint, so a
phase that begins at the registry can be repeated like one that begins at another phase.
"""

from dataclasses import dataclass
from pathlib import Path

from recognition.bundle import find_member
from tracking.registry import MODEL_PREFIX, ModelVersion, download, get_version, load_candidate
from training.config import PhaseConfig


@dataclass(frozen=True)
class RegisteredBundle:
    """What `<model>/<version>` or `<model>/<version>/<member>` names."""

    version: ModelVersion
    member: str | None

    @property
    def digest(self) -> str:
        """The digest of the version's bundle, and the member."""
        return f"{self.version.bundle_digest}/{self.member or ''}"

    def fetch(self, root: Path, *, one_member: bool) -> Path:
        """The folder of the version's bundle, or of its member's.

        one_member: an ensemble will not do; ValueError lists its members where none is named.
        """
        bundle = download(root, version=self.version)
        return find_member(bundle, self.member) if self.member or one_member else bundle

    def trained_on(self, root: Path) -> Path:
        """The table of the photos that the version was trained on."""
        return load_candidate(root, version=self.version).trained_on


def find_registered(root: Path, *, named: str) -> RegisteredBundle:
    """Look a version up.

    Raises ValueError for a name that is none, MissingAlias where there is no such version, TrackingError when
    the store cannot be reached.
    """
    model, version, *member = named.split("/")
    if not model.startswith(MODEL_PREFIX) or not version.isdigit():
        raise ValueError(
            f"Expected a registered version such as {MODEL_PREFIX}grocery/3, or with a member behind it, "
            f"received {named!r}. An alias moves, so name the number: `aisle ui` shows them."
        )
    found = get_version(root, data=model.removeprefix(MODEL_PREFIX), which=version)
    return RegisteredBundle(version=found, member=member[0] if member else None)


def registered_beginnings(root: Path, *, phase: PhaseConfig) -> dict[str, RegisteredBundle]:
    """The versions that a phase starts or learns from, by their folder in the job: init, teacher."""
    named = {"init": phase.init_version, "teacher": phase.teacher_version}
    return {folder: find_registered(root, named=name) for folder, name in named.items() if name}
