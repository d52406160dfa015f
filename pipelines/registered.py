"""Registered versions as weights: a phase may start from one, or learn from one as its teacher.

A version's number never means other weights, and the stage `weights` copies its bundle, so a phase that
starts there can be repeated like one that starts from another phase.
"""

from dataclasses import dataclass
from pathlib import Path

from pipelines.params_recipe import RecipeParams
from recognition.bundle import find_member
from tracking.registry.versions import MODEL_PREFIX, ModelVersion, download, get_version, load_candidate
from tracking.store import Store


@dataclass(frozen=True)
class RegisteredBundle:
    """What `<model>/<version>` or `<model>/<version>/<member>` names."""

    store: Store
    version: ModelVersion
    member: str | None

    def fetch(self, *, one_member: bool) -> Path:
        """The folder of the version's bundle, or of its member's.

        one_member: an ensemble will not do; ValueError lists its members where none is named.
        """
        bundle = download(self.store, version=self.version)
        return find_member(bundle, self.member) if self.member or one_member else bundle

    def trained_on(self) -> Path:
        """The table of the photos that the version was trained on."""
        return load_candidate(self.store, version=self.version).trained_on


def find_registered(store: Store, *, named: str) -> RegisteredBundle:
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
    found = get_version(store, data=model.removeprefix(MODEL_PREFIX), which=version)
    return RegisteredBundle(store, version=found, member=member[0] if member else None)


def registered_sources(store: Store, *, recipe: RecipeParams) -> list[RegisteredBundle]:
    """The registered versions that a phase of the recipe starts or learns from, by way of its weights."""
    used = {name for phase in recipe.phases.values() for name in (phase.init, phase.teacher)}
    return [
        find_registered(store, named=entry.version)
        for name, entry in recipe.weights.items()
        if entry.source == "registry" and name in used
    ]
