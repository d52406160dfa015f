"""A version's lineage as a tree of lines: what a person reads first, in which words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tracking.lineage.record import Evidence, MadeList, Record, Weights
from tracking.lineage.tree import VersionLineage
from tracking.registry.versions import DIGEST_TAG
from tracking.runs.run_log import flatten


@dataclass(frozen=True)
class Node:
    """One line of the tree and what lies below it."""

    title: str
    children: tuple[Node, ...] = ()


def make_tree(lineage: VersionLineage) -> Node:
    """The version as a tree: members, phases, lists, data, code, environment, and what is not known."""
    version, record = lineage.version, lineage.record
    aliases = f" ({', '.join(sorted(version.aliases))})" if version.aliases else ""
    children = [
        Node(
            f"registered by {_or_unknown(record.registered_by)} at {_or_unknown(record.registered_at)}, "
            f"bundle {version.tags.get(DIGEST_TAG, 'unknown')[:12]}"
        ),
        Node(_errors(lineage.metrics)),
        _Phases(lineage).ensemble(),
        Node("lists", tuple(_list(name, each) for name, each in record.lists.items())),
        Node("data", tuple(_data(record))),
        Node("code", tuple(_code(lineage))),
        _environment(record),
    ]
    if lineage.unknown:
        children.append(Node("not known", tuple(Node(sentence) for sentence in lineage.unknown)))
    what = (
        f"recipe {_or_unknown(record.recipe)} on {_or_unknown(record.data)}, size {_or_unknown(record.size)}"
    )
    return Node(f"{version.name} version {version.version}{aliases}: {what}", tuple(children))


class _Phases:
    """The phases from the members back to the weights; each is described once."""

    def __init__(self, lineage: VersionLineage) -> None:
        self._lineage, self._record = lineage, lineage.record
        self._shown = set[str]()

    def ensemble(self) -> Node:
        ensemble = self._record.ensemble
        how = [
            f"merge {_or_unknown(ensemble.merge)}",
            f"views {', '.join(ensemble.views) or 'unknown'}",
            f"{_count(ensemble.num_classes)} classes",
        ]
        members = [self.start(name, role="member") for name in ensemble.members]
        gave = {
            phase for made in self._record.lists.values() if made.evidence for phase in made.evidence.phases
        }
        others = [
            self.start(name, role="evidence by" if name in gave else "unused")
            for name in self._record.phases
            if name not in self._shown
        ]
        apart = (Node("phases that no member starts from", tuple(others)),) if others else ()
        return Node(
            f"ensemble of {len(members)} member{'s' * (len(members) != 1)}: {', '.join(how)}",
            (*members, *apart),
        )

    def start(self, name: str, *, role: str) -> Node:
        """A phase or weights, with what it starts and learns from."""
        if name in self._record.weights:
            return self._weights(name, role=role)
        phase = self._record.phases.get(name)
        if phase is None:
            return Node(f"{role} {name}: how it was made is not known")
        if name in self._shown:
            return Node(f"{role} {name}, a phase (described above)")
        self._shown.add(name)
        children = []
        if phase.differs:
            values = flatten({key: value for key, value in phase.differs.items() if value != {}})
            differences = ", ".join(f"{key} {value}" for key, value in values.items())
            children.append(Node(f"differs from the recipe's defaults in: {differences}"))
        if phase.fingerprint:
            children.append(Node(f"fingerprint {phase.fingerprint[:12]}"))
        children.append(Node(f"learns from list {phase.list}: {self._size(phase.list)}"))
        if phase.teacher:
            children.append(self.start(phase.teacher, role="taught by"))
        children.append(self.start(phase.init, role="starts from"))
        settings = f": {_settings(phase.config)}" if phase.config else ""
        return Node(f"{role} {name}, a phase{settings}", tuple(children))

    def _size(self, name: str) -> str:
        made = self._record.lists.get(name)
        return "unknown" if made is None else _photos_of(made)

    def _weights(self, name: str, *, role: str) -> Node:
        weights = self._record.weights[name]
        title = f"{role} {name}, weights of {weights.backbone}: {_origin_of(weights)}"
        below = [Node(_provenance(each.model_dump())) for each in weights.provenance]
        source = "/".join((weights.version or "").split("/")[:2])
        if source in self._lineage.started_from and name not in self._shown:
            below.append(make_tree(self._lineage.started_from[source]))
        self._shown.add(name)
        return Node(title, tuple(below))


def _settings(config: Mapping[str, Any]) -> str:
    """What a person asks first of a phase."""
    optimizer, loss = config.get("optimizer", {}), config.get("loss", {})
    parts = [
        f"{config.get('backbone')} at {config.get('input_size')} px",
        f"{config.get('epochs')} epochs",
        f"batch {config.get('batch_size')}",
        f"{optimizer.get('name')} lr {optimizer.get('lr')}",
        f"objective {config.get('objective', {}).get('name')}",
        f"loss {loss.get('name')}",
        f"sampler {config.get('sampler', {}).get('name')}",
    ]
    return ", ".join(parts)


def _origin_of(weights: Weights) -> str:
    if weights.version:
        return f"registered version {weights.version}"
    return f"source {weights.source}{f', file {weights.path}' if weights.path else ''}"


def _provenance(origin: Mapping[str, str]) -> str:
    if origin["source"] == "random":
        return "random weights"
    return (
        f"{origin['model'] or 'weights'} from {origin['source']}, licence {origin['licence'] or 'unknown'}, "
        f"SHA-256 {origin['sha256'] or 'unknown'}"
    )


def _photos_of(made: MadeList) -> str:
    of = "" if made.num_before is None else f" of {made.num_before:,}"
    without = f", {made.num_unlabelled:,} without a label" if made.num_unlabelled else ""
    return f"{_count(made.num_photos)}{of} photos, {_count(made.num_classes)} classes{without}"


def _list(name: str, made: MadeList) -> Node:
    settings = ", ".join(f"{key} {value}" for key, value in flatten(made.settings).items())
    rule = f"rule {made.rule}{f' ({settings})' if settings else ''}"
    children = [Node(f"{count:,} x {reason}") for reason, count in (made.reasons or {}).items()]
    if made.base is not None:
        children.insert(0, Node(f"made from list {made.base}"))
    if made.evidence is not None:
        children.append(Node(_evidence(made.evidence)))
    return Node(f"{name}: {_photos_of(made)}, by {rule}", tuple(children))


def _evidence(evidence: Evidence) -> str:
    by = f" of {', '.join(evidence.phases)}" if evidence.phases else ""
    about = f" about {', '.join(evidence.lists)}" if evidence.lists else ""
    return f"evidence: {evidence.kind}{by}{about} ({evidence.path})"


def _data(record: Record) -> Iterator[Node]:
    parts = [
        Node(f"{each.split}: {each.photos:,} photos, {each.labelled:,} labelled, {each.classes:,} classes")
        for each in record.splits or ()
    ]
    uses = (
        f"evaluated on {record.evaluation_split or 'none'}, validated on {record.validation_split or 'none'}"
    )
    yield Node(
        f"splits ({record.split_method or 'method unknown'}; {uses}){_md5(record, 'data/splits/')}",
        tuple(parts) or (Node("counts unknown"),),
    )
    photos = record.photos
    reasons = tuple(Node(f"{count:,} x {reason}") for reason, count in (photos.rejected or {}).items())
    yield Node(
        f"photo store: {_count(photos.num_photos)} photos, {_count(photos.num_rejected)} files rejected"
        f"{_md5(record, 'data/photos/')}",
        reasons,
    )
    source = record.source
    where = source.root or ("drawn by Aisle" if source.layout == "synthetic" else "root unknown")
    yield Node(f"source: layout {_or_unknown(source.layout)}, {where}{_md5(record, 'data/sources/')}")


def _code(lineage: VersionLineage) -> Iterator[Node]:
    record, origin = lineage.record, lineage.record.origin
    state = {
        True: "clean: git knows every file but params.yaml and dvc.lock, which are stored",
        False: "with changes that git does not know",
        None: "not known whether clean",
    }
    yield Node(f"commit {_or_unknown(origin.commit)}, {state[origin.clean]}")
    yield Node(f"code digest {_or_unknown(origin.code_digest)}")
    stored = "stored" if lineage.params else "not known"
    yield Node(f"parameters: params.yaml {stored} (--json, --html), seed {_or_unknown(record.seed)}")
    yield Node(f"inputs: DVC's md5 of {len(record.inputs)} (--json, --html)")


def _environment(record: Record) -> Node:
    machine = record.environment
    if machine is None:
        return Node("environment: unknown")
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return Node(
        f"environment of the registration: Python {machine.python}, {machine.platform}, {machine.device}",
        (Node(packages),),
    )


def _errors(metrics: Mapping[str, float]) -> str:
    shown = [f"{key} {value:.4f}" for key, value in metrics.items() if key.endswith("_error")]
    return f"errors: {', '.join(shown)}" if shown else "errors: none stored"


def _md5(record: Record, prefix: str) -> str:
    found = [md5 for path, md5 in record.inputs.items() if path.startswith(prefix)]
    return f", md5 {found[0]}" if found else ", md5 unknown"


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)
