"""What a version was made from, as one record: `lineage.json` among the files that are stored with a version.

The stage `register` counts and writes it. Of a version from before, as much is known as its params.yaml, its
dvc.lock and the review of its data say; nothing here needs the data themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

LINEAGE_FILE = "lineage.json"
FORMAT_VERSION = 1
NO_FILE = "conf/nothing.yaml"
EvidenceKind = Literal["loss log", "out-of-fold predictions", "duplicates", "list"]


class _Part(BaseModel):
    """A part of the record; null means that it is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(_Part):
    """The code that made it."""

    commit: str | None = None
    clean: bool | None = None
    """Whether git knows every file as it was, but for params.yaml and dvc.lock."""
    code_digest: str | None = None


class Ensemble(_Part):
    """How members become one answer."""

    members: tuple[str, ...] = ()
    merge: str | None = None
    views: tuple[str, ...] = ()
    num_classes: int | None = None


class Phase(_Part):
    """A training run."""

    list: str
    init: str
    teacher: str | None = None
    """What distillation learns from; null where nothing is distilled."""
    differs: dict[str, Any] = {}
    """What the phase itself says in params.yaml, beside the recipe's defaults."""
    config: dict[str, Any] | None = None
    """Its complete configuration."""
    fingerprint: str | None = None


class Evidence(_Part):
    """What a refinement read about photos."""

    kind: EvidenceKind
    path: str
    phases: tuple[str, ...] = ()
    """The phases whose models, or whose training, gave it."""
    lists: tuple[str, ...] = ()
    """The lists whose photos were predicted, or the other list of a set operation."""


class MadeList(_Part):
    """A list or refinement list."""

    rule: str
    settings: dict[str, Any] = {}
    base: str | None = None
    """The list that a refinement filters or adds to; null for a rule's list, which comes from the splits."""
    evidence: Evidence | None = None
    num_photos: int | None = None
    num_unlabelled: int | None = None
    num_classes: int | None = None
    num_before: int | None = None
    """Photos of the base list, or of the split that the rule draws from."""
    reasons: dict[str, int] | None = None
    """Photos by their why with # for its numbers, most first."""


class Provenance(_Part):
    """What weights were before any training of ours (recognition.provenance)."""

    source: str
    model: str = ""
    licence: str = ""
    sha256: str = ""


class Weights(_Part):
    """What phases start or learn from that no phase of the recipe made."""

    backbone: str
    source: str
    path: str | None = None
    version: str | None = None
    """The registered version, <model>/<version> or <model>/<version>/<member>."""
    kind: str | None = None
    """weights: a backbone; member or ensemble: a trained model of ours."""
    provenance: tuple[Provenance, ...] = ()


class SplitCount(_Part):
    """Photos of a split."""

    split: str
    photos: int
    labelled: int
    classes: int


class Photos(_Part):
    """The photo store."""

    num_photos: int | None = None
    num_rejected: int | None = None
    rejected: dict[str, int] | None = None
    """Files and rows that ingest rejected, by reason."""
    num_shards: int | None = None


class Source(_Part):
    """Where the photos came from."""

    layout: str | None = None
    root: str | None = None
    options: dict[str, Any] = {}
    seen: dict[str, Any] | None = None
    """What the stage `source` saw there."""


class Environment(_Part):
    """The machine that registered it; phases may have been trained on another one."""

    python: str
    platform: str
    device: str
    packages: dict[str, str]


class Record(_Part):
    """What a version was made from."""

    format_version: Literal[1] = FORMAT_VERSION  # type: ignore[assignment]
    data: str | None = None
    recipe: str | None = None
    size: str | None = None
    seed: int | None = None
    origin: Origin = Origin()
    ensemble: Ensemble = Ensemble()
    phases: dict[str, Phase] = {}
    lists: dict[str, MadeList] = {}
    weights: dict[str, Weights] = {}
    evaluation_split: str | None = None
    validation_split: str | None = None
    splits: tuple[SplitCount, ...] | None = None
    split_method: str | None = None
    photos: Photos = Photos()
    source: Source = Source()
    inputs: dict[str, str] = {}
    """DVC's md5 of everything that the members were made from, by path."""
    environment: Environment | None = None
    registered_by: str | None = None
    registered_at: str | None = None

    def init_chain(self, phase: str) -> list[str]:
        """A phase, what it starts from, and so on to the weights."""
        chain = [phase]
        while chain[-1] in self.phases and self.phases[chain[-1]].init not in chain:
            chain.append(self.phases[chain[-1]].init)
        return chain


def bundle_path(name: str) -> str:
    """Where dvc.yaml puts the bundle of a phase, or of weights."""
    return f"runs/{name}/bundle"


def record_of(params: Mapping[str, Any], *, lock: Mapping[str, Any]) -> Record:
    """As much as a version's params.yaml and dvc.lock say, of any version of Aisle that wrote them."""
    data, recipe = _mapping(params.get("data")), _mapping(params.get("recipe"))
    phases = {name: _mapping(phase) for name, phase in _mapping(recipe.get("phases")).items()}
    ensemble, members = _mapping(recipe.get("ensemble")), tuple(recipe.get("members") or ())
    evaluation = _mapping(params.get("evaluation"))
    return Record(
        data=data.get("name"),
        recipe=recipe.get("name"),
        size=_mapping(params.get("size")).get("name"),
        seed=params.get("seed"),
        ensemble=Ensemble(
            members=members, merge=ensemble.get("merge"), views=tuple(ensemble.get("views") or ())
        ),
        phases={
            name: _phase(phase, defaults=_mapping(recipe.get("defaults"))) for name, phase in phases.items()
        },
        lists=dict(_lists(recipe)),
        weights={name: _weights(_mapping(each)) for name, each in _mapping(recipe.get("weights")).items()},
        evaluation_split=evaluation.get("split"),
        validation_split=evaluation.get("validation_split"),
        source=Source(
            layout=data.get("layout"), root=data.get("root"), options=dict(_mapping(data.get("options")))
        ),
        inputs=trace_inputs(lock, to=[bundle_path(name) for name in members]),
    )


def trace_inputs(lock: Mapping[str, Any], *, to: list[str]) -> dict[str, str]:
    """DVC's md5 of these paths and of everything that stages of dvc.lock made them from, by path."""
    stages = [_mapping(stage) for stage in _mapping(lock.get("stages")).values()]
    made_by = {out["path"]: stage for stage in stages for out in stage.get("outs") or ()}
    found: dict[str, str] = {}
    waiting = list(to)
    while waiting:
        path = waiting.pop()
        stage = made_by.get(path)
        if stage is None:
            continue
        for entry in [*stage["outs"], *(stage.get("deps") or ())]:
            if entry["path"] not in found and "md5" in entry:
                found[entry["path"]] = entry["md5"]
                waiting.append(entry["path"])
    return dict(sorted(found.items()))


def _phase(phase: Mapping[str, Any], *, defaults: Mapping[str, Any]) -> Phase:
    objective = _mapping(phase.get("objective") or defaults.get("objective"))
    distils = objective.get("name") == "distillation"
    return Phase(
        list=str(phase.get("list")),
        init=str(phase.get("init") or phase.get("init_path")),
        teacher=phase.get("teacher") if distils else None,
        differs={key: value for key, value in phase.items() if key not in ("list", "init", "teacher")},
    )


def _lists(recipe: Mapping[str, Any]) -> Iterator[tuple[str, MadeList]]:
    for kind in ("lists", "refinements"):
        for name, given in _mapping(recipe.get(kind)).items():
            values = dict(_mapping(given))
            rule, base = str(values.pop("rule", name)), values.pop("base", None)
            path = values.pop("evidence", None)
            yield (
                name,
                MadeList(
                    rule=rule,
                    settings=values,
                    base=_stem(base) if base and base != NO_FILE else None,
                    evidence=_evidence(str(path), values, recipe) if path else None,
                ),
            )


def _evidence(path: str, settings: Mapping[str, Any], recipe: Mapping[str, Any]) -> Evidence:
    """What an evidence path of params.yaml names (pipelines/paths.py)."""
    parts = path.split("/")
    if parts[0] == "runs":
        return Evidence(kind="loss log", path=path, phases=(parts[1],))
    if parts[:2] == ["data", "duplicates"]:
        return Evidence(kind="duplicates", path=path)
    if parts[:2] == ["data", "lists"]:
        return Evidence(kind="list", path=path, lists=(_stem(path),))
    known = _mapping(recipe.get("predictions"))
    names = [_stem(path)] if path.endswith(".parquet") else list(settings.get("members") or known)
    used = [_mapping(known[name]) for name in names if name in known]
    return Evidence(
        kind="out-of-fold predictions",
        path=path,
        phases=tuple(dict.fromkeys(str(each.get("phase")) for each in used)),
        lists=tuple(dict.fromkeys(str(each.get("list")) for each in used)),
    )


def _weights(entry: Mapping[str, Any]) -> Weights:
    path = entry.get("path")
    return Weights(
        backbone=str(entry.get("backbone", "unknown")),
        source=str(entry.get("source", "auto")),
        path=None if path == NO_FILE else path,
        version=entry.get("version") or None,
    )


def _stem(path: str) -> str:
    return path.rsplit("/", maxsplit=1)[-1].removesuffix(".parquet")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
