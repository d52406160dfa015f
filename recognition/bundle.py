"""Bundles: the folders that serving needs, and nothing else.

A member's bundle holds one model, an ensemble's holds members' bundles. They are safetensors and JSON, never
a pickle (which executes code), and free of times and ids, so that the same training gives the same bytes:
DVC then skips what follows, and registration is idempotent by `digest`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from imaging.atomic_write import atomic_folder
from recognition.backbones import LoadedWeights, Model, load_weights_file, make_model
from recognition.heads import LinearHead
from recognition.preprocessing import Preprocessing
from recognition.provenance import Provenance
from recognition.views import check_views

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"
MEMBERS_FOLDER = "members"

Merge = Literal["logits", "probabilities", "vote"]

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class MemberConfig:
    """What a member's bundle says beside its weights."""

    name: str
    """The phase that made it."""
    backbone: str
    num_classes: int
    num_features: int
    class_names: tuple[str, ...]
    """Index order."""
    preprocessing: Preprocessing
    initial_weights: Provenance
    """What the weights were before any training of ours, and under which licence."""
    fingerprint: str
    """Hash of everything that determined the training run."""
    normalize_features: bool = False
    """Whether the head wants features of length 1, as heads do that compare directions."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "initial_weights", Provenance.of(self.initial_weights))
        if len(self.class_names) != self.num_classes:
            raise ValueError(
                f"Expected {self.num_classes} class names in member {self.name!r}, "
                f"received {len(self.class_names)}."
            )


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """What a bundle of pretrained weights says: a backbone to start from, without a head or classes.

    Random weights have a config and no weights file: each phase draws its own from its seed, so that members
    of different seeds differ.
    """

    name: str
    """The recipe's entry that it was made for."""
    backbone: str
    initial_weights: Provenance

    def __post_init__(self) -> None:
        object.__setattr__(self, "initial_weights", Provenance.of(self.initial_weights))


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """What an ensemble's bundle says beside its members."""

    recipe: str
    merge: Merge
    views: tuple[str, ...]
    class_names: tuple[str, ...]
    members: tuple[str, ...]
    """In the order in which they are merged."""

    def __post_init__(self) -> None:
        for name in ("views", "class_names", "members"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.merge not in get_args(Merge):
            raise ValueError(f"Expected a merge of {', '.join(get_args(Merge))}, received {self.merge!r}.")
        check_views(self.views)
        if not self.members:
            raise ValueError(f"Expected at least one member in the ensemble of recipe {self.recipe!r}.")


def save_member(path: Path, *, model: Model, config: MemberConfig) -> None:
    """Write a member's bundle; ValueError where the model's head is not linear or does not fit the config."""
    head = model.linear_head()
    received = (head.num_features, head.num_classes, head.normalize_features)
    expected = (config.num_features, config.num_classes, config.normalize_features)
    if received != expected:
        raise ValueError(
            f"The head of member {config.name!r} is {received}, its config says {expected} (features, "
            "classes, whether features are brought to length 1)."
        )
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    values = {**asdict(config), "preprocessing": config.preprocessing.to_dict()}
    with atomic_folder(path) as folder:
        save_file(state, folder / WEIGHTS_FILE)
        _write_config(folder, kind="member", values=values)


def save_pretrained(path: Path, *, config: WeightsConfig, model: Model | None) -> None:
    """Write a bundle that phases start from: the backbone's weights under timm's names, or none if random."""
    path.mkdir(parents=True, exist_ok=True)
    (path / WEIGHTS_FILE).unlink(missing_ok=True)
    if model is not None:
        state = {name: t.detach().cpu().contiguous() for name, t in model.backbone.state_dict().items()}
        save_file(state, path / WEIGHTS_FILE)
    _write_config(path, kind="weights", values=asdict(config))


def load_weights_config(path: Path) -> WeightsConfig:
    """Read what a bundle of pretrained weights says; ValueError where the folder is none."""
    return WeightsConfig(**_read_config(path, kind="weights", known=WeightsConfig))


def find_provenance(path: Path) -> list[Provenance]:
    """Return what the weights of any bundle began from, one for each of its members."""
    kind = bundle_kind(path)
    if kind == "weights":
        return [load_weights_config(path).initial_weights]
    if kind == "member":
        return [load_member_config(path).initial_weights]
    members = load_ensemble_config(path).members
    return [load_member_config(path / MEMBERS_FOLDER / name).initial_weights for name in members]


def load_member(path: Path) -> tuple[Model, MemberConfig]:
    """Read a member's bundle; the model is on the CPU in evaluation mode.

    ValueError where the folder is no member's bundle or its weights do not fit its config.
    """
    config = load_member_config(path)
    model = make_model(
        config.backbone,
        num_classes=config.num_classes,
        initial_weights="random",
        input_size=config.preprocessing.input_size,
        seed=0,
    )
    try:
        model.load_state_dict(load_file(path / WEIGHTS_FILE))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The weights of bundle {path} do not fit its config: {error}") from error
    model.normalize_features = config.normalize_features
    return model.eval(), config


def load_head(path: Path) -> LinearHead:
    """Read the head alone out of a member's bundle, on the CPU; ValueError where there is none."""
    config = load_member_config(path)
    try:
        with safe_open(path / WEIGHTS_FILE, framework="pt") as weights:
            weight, bias = (weights.get_tensor(f"head.{name}") for name in ("weight", "bias"))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"Expected a head in the weights of bundle {path}: {error}") from error
    return LinearHead(weight, bias, normalize_features=config.normalize_features)


def load_member_config(path: Path) -> MemberConfig:
    """Read what a member's bundle says, without its weights."""
    values = _read_config(path, kind="member", known=MemberConfig)
    return MemberConfig(**{**values, "preprocessing": Preprocessing.from_dict(values["preprocessing"])})


def make_ensemble(
    path: Path, *, members: Mapping[str, Path], recipe: str, merge: Merge, views: tuple[str, ...]
) -> EnsembleConfig:
    """Write an ensemble's bundle by copying its members' bundles; members of an older one at `path` go.

    ValueError where a member's class names differ from the first one's, its input is too large for a view, or
    a name is no plain folder name.
    """
    configs = {name: load_member_config(bundle) for name, bundle in members.items()}
    for name in configs:
        if not _PLAIN_NAME.fullmatch(name):
            raise ValueError(f"Expected a member name of letters, digits, '_', '.', '-', received {name!r}.")
    _check_same_classes(configs)
    class_names = next(iter(configs.values())).class_names if configs else ()
    config = EnsembleConfig(
        recipe=recipe, merge=merge, views=views, class_names=class_names, members=tuple(configs)
    )
    for member in configs.values():
        member.preprocessing.views(views)
    with atomic_folder(path) as folder:
        for name, bundle in members.items():
            copy_member(bundle, folder / MEMBERS_FOLDER / name)
        _write_config(folder, kind="ensemble", values=asdict(config))
    return config


def copy_member(bundle: Path, path: Path) -> None:
    """Copy a member's bundle file by file, so that nothing else lying there comes along."""
    path.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(bundle / name, path / name)


def load_ensemble_config(path: Path) -> EnsembleConfig:
    """Read what an ensemble's bundle says; ValueError where the folder is none."""
    return EnsembleConfig(**_read_config(path, kind="ensemble", known=EnsembleConfig))


def load_bundle_config(bundle_dir: Path) -> EnsembleConfig:
    """Read an ensemble's config, or make the one of an ensemble that is a single member."""
    if bundle_kind(bundle_dir) != "member":
        return load_ensemble_config(bundle_dir)
    config = load_member_config(bundle_dir)
    return EnsembleConfig(
        recipe="", merge="logits", views=("center",), class_names=config.class_names, members=(config.name,)
    )


def find_member(bundle_dir: Path, member: str | None) -> Path:
    """Return the folder of one member: in an ensemble's bundle the named one, which an only one need not be.

    A member's own bundle is found without a name, or by its own. ValueError lists the members there are.
    """
    if bundle_kind(bundle_dir) == "member":
        members: tuple[str, ...] = (load_member_config(bundle_dir).name,)
        folder = bundle_dir
    else:
        members = load_ensemble_config(bundle_dir).members
        folder = bundle_dir / MEMBERS_FOLDER / (member or members[0])
    if member not in members and (member is not None or len(members) > 1):
        raise ValueError(
            f"Expected the name of a member of {bundle_dir}, one of {', '.join(members)}; received "
            f"{'none' if member is None else repr(member)}."
        )
    return folder


def load_weights_from(model: Model, path: Path, *, take_head: bool = True) -> LoadedWeights:
    """Copy weights from a member's bundle, or from a file as `load_weights_file` does, into a model.

    With a bundle's head comes its `normalize_features`. ValueError for an ensemble of several members.
    """
    if not path.is_dir():
        return load_weights_file(model, path, take_head=take_head)
    bundle = find_member(path, None)
    loaded = load_weights_file(model, bundle / WEIGHTS_FILE, take_head=take_head)
    if loaded.head_taken:
        model.normalize_features = load_member_config(bundle).normalize_features
    return loaded


def bundle_kind(path: Path) -> str:
    """Return "member", "ensemble" or "weights"; ValueError where the folder is no bundle."""
    return str(_read_json(path).get("kind"))


def digest(path: Path) -> str:
    """Return the sha256 (hex) over the sorted relative names and contents of all files of a bundle."""
    total = hashlib.sha256()
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    if not files:
        raise ValueError(f"Expected a bundle at {path}, found no file.")
    for name in sorted(files):
        with files[name].open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()


def _check_same_classes(configs: Mapping[str, MemberConfig]) -> None:
    first_name, first = next(iter(configs.items()), ("", None))
    for name, config in configs.items():
        if first is None or config.class_names == first.class_names:
            continue
        difference = (
            f"{config.num_classes} classes instead of {first.num_classes}"
            if config.num_classes != first.num_classes
            else next(
                f"class {index} is {mine!r} instead of {other!r}"
                for index, (mine, other) in enumerate(zip(config.class_names, first.class_names, strict=True))
                if mine != other
            )
        )
        raise ValueError(
            f"Members must agree on the class names: {name!r} differs from {first_name!r}: {difference}."
        )


def _write_config(path: Path, *, kind: str, values: Mapping[str, Any]) -> None:
    text = json.dumps({"kind": kind, **values}, indent=2, sort_keys=True, ensure_ascii=False)
    (path / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected a bundle with a {CONFIG_FILE} at {path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"Expected an object in {path / CONFIG_FILE}, received {type(values).__name__}.")
    return values


def _read_config(path: Path, *, kind: str, known: type) -> dict[str, Any]:
    values = _read_json(path)
    received = values.pop("kind", None)
    if received != kind:
        raise ValueError(f"Expected the bundle of one {kind} at {path}, received kind {received!r}.")
    names = {item.name for item in fields(known)}
    if set(values) != names:
        raise ValueError(
            f"Expected the keys {sorted(names)} in {path / CONFIG_FILE}, received {sorted(values)}."
        )
    return values
