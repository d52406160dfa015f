"""The pipeline of params.yaml as MLflow's parent run: what it is, what it is called, what made it.

A pipeline is its recipe, data, size, seed and all parameters that decide a result, with the splits and the
code of training: another photo or another loss is another pipeline, and its errors stand in another row.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.lists import LIST
from pipelines import paths
from pipelines.params import Params
from pipelines.resolution import WIRING
from recognition.bundle import load_member_config
from tracking.lineage.origin import InputDataset, locked_outs
from tracking.runs.pipeline_run import PIPELINE, PipelineRun
from tracking.runs.run_log import flatten
from training.config import PhaseConfig

DECIDES_NOTHING: Any = {
    "experiment": True,
    "weights": True,
    "data": {"config": True, "root": True, "watch": True, "review": True},
    "evaluation": {"batch_size": True, "num_workers": True},
    "recipe": {"config": True, "defaults": True, "phases": True},
}
"""Names of files, places of the same photos, what is only about speed; phases count as they are resolved."""
PHASE_DECIDES_NOTHING = ("num_workers", "num_threads", "checkpoint_steps")
ALWAYS_SHOWN = (
    "backbone",
    "epochs",
    "batch_size",
    "input_size",
    "optimizer.name",
    "optimizer.lr",
    "loss.name",
)
"""Parameters of a phase that people compare by, also where they are the library's."""


def pipeline_run(params: Params) -> PipelineRun:
    """The parent of all runs of params.yaml, as it stands after the stage `split`."""
    recipe, seed = params.recipe, params.seed
    return PipelineRun(
        experiment=f"aisle-{params.data.name}",
        name=f"{recipe.name}, seed {seed}, {params.size.name}",
        fingerprint=_fingerprint(params),
        params=flatten(
            {
                "recipe": recipe.name,
                "size": params.size.name,
                "seed": seed,
                "members": ", ".join(recipe.members),
                "merge": recipe.ensemble.merge,
                "views": ", ".join(recipe.ensemble.views),
                "evaluation.split": params.evaluation.split,
                **({"experiment": params.experiment} if params.experiment else {}),
                "backbone": ", ".join(dict.fromkeys(each.backbone for each in recipe.configs.values())),
                **{key: value for key, value in recipe.defaults.items() if key not in PHASE_DECIDES_NOTHING},
                "list": {name: _describe_rule(params, name) for name in (*recipe.lists, *recipe.refinements)},
                "phase": {name: _describe_phase(params, name) for name in recipe.phases},
            }
        ),
        tags={
            "aisle.kind": PIPELINE,
            "aisle.model": "ensemble",
            "aisle.recipe": recipe.name,
            "aisle.size": params.size.name,
            "aisle.data": params.data.name,
            "aisle.seed": str(seed),
        },
    )


def phase_params(phase: PhaseConfig) -> dict[str, Any]:
    """What MLflow shows of a phase: what differs from the library's defaults, and what people compare by."""
    shown = flatten(_with_names(phase, phase.model_dump(mode="json", exclude_defaults=True)))
    everything = flatten(phase.model_dump(mode="json"))
    return shown | {key: everything[key] for key in ALWAYS_SHOWN if key in everything}


def list_inputs(params: Params) -> list[InputDataset]:
    """The lists of the recipe's phases, named with their number of photos."""
    md5, named = locked_outs(Path()), list[InputDataset]()
    for name in dict.fromkeys(phase.list for phase in params.recipe.phases.values()):
        path = paths.list_file(params.data.name, name)
        if path in md5:
            named.append(InputDataset(name_list(path), path=path, md5=md5[path], context="train"))
    return named


def name_list(path: str) -> str:
    """A list as MLflow's UI shows it, `low_loss (1,204 photos)`; without the number where it is not there."""
    number = count_rows(Path(path))
    return Path(path).stem + ("" if number is None else f" ({number:,} photo{'s' * (number != 1)})")


def count_rows(path: Path) -> int | None:
    """Photos of a list, None where it is not there."""
    return int(LIST.read(path, ["photo_id"]).num_rows) if path.is_file() else None


def phases_made(params: Params) -> dict[str, str]:
    """The fingerprints of the recipe's phases whose bundles are here, however they came here."""
    found = {}
    for name in params.recipe.phases:
        bundle = Path(paths.phase_bundle(name))
        if (bundle / "config.json").is_file():
            found[name] = load_member_config(bundle).fingerprint
    return found


def _fingerprint(params: Params) -> str:
    values = params.model_dump(mode="json", exclude=DECIDES_NOTHING)
    for config in values["recipe"]["configs"].values():
        for key in PHASE_DECIDES_NOTHING:
            del config[key]
    wiring = {name: [phase.list, phase.init, phase.teacher] for name, phase in params.recipe.phases.items()}
    code = Path(paths.code_digest("train"))
    content = {
        "params": values,
        "wiring": wiring,
        "splits": locked_outs(Path()).get(paths.split_folder(params.data.name), ""),
        "code": hashlib.sha256(code.read_bytes()).hexdigest() if code.is_file() else "",
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _describe_phase(params: Params, name: str) -> str:
    """A phase in one line: what it learns from, and what differs from the recipe's defaults."""
    phase = params.recipe.phases[name]
    teacher = "" if phase.teacher == phase.init else f", taught by {phase.teacher}"
    own = {key: value for key, value in phase.model_dump(mode="json").items() if key not in WIRING}
    return f"{phase.list} from {phase.init}{teacher} {_shortly(own)}".rstrip()


def _describe_rule(params: Params, name: str) -> str:
    """A list's rule in one line, without what it says of files and what is the rule's default."""
    rule = (params.recipe.lists | params.recipe.refinements)[name]
    own = rule.model_dump(mode="json", exclude_defaults=True, exclude={"rule", "base", "evidence"})
    return f"{rule.rule} {_shortly(own)}".rstrip()


def _shortly(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in flatten(values).items())


def _with_names(phase: PhaseConfig, difference: dict[str, Any]) -> dict[str, Any]:
    """Leave no value without the choice that it belongs to: lr alone does not say of which optimiser."""
    for key, value in difference.items():
        name = getattr(getattr(phase, key), "name", None)
        if isinstance(value, dict) and name is not None:
            difference[key] = {"name": name, **value}
    return difference
