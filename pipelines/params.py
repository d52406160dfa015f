"""params.yaml as one checked object, so that a mistyped key stops the run before a stage does any work.

The values' meaning and defaults live beside their owners (`training.config`, `catalog.splits`, ...); this
module only puts them together, checks what one room cannot know of another, and makes the schema of it all.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from contracts.values import Split
from imaging.config import Config
from imaging.config_errors import describe_errors, near_match
from pipelines import paths
from pipelines.names import Name, check_distinct
from pipelines.params_data import DataParams
from pipelines.params_recipe import RecipeParams
from pipelines.paths import NO_FILE
from pipelines.resolution import follow_init, says_it_itself
from recognition.provenance import ALLOWED_LICENCES
from recognition.views import resolve_views
from tracking.gates.config import DEFAULT_GATES, GatesConfig
from training.config import PhaseConfig
from training.config.job import NUM_SEEDS
from training.config.objectives import DistillationConfig
from training.config.phase import needs_validation

PARAMS_FILE = "params.yaml"
SCHEMA_FILE = "conf/params.schema.json"

# libyaml reads params.yaml ten times as fast as Python does.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ParamsError(ValueError):
    """params.yaml cannot be run as it stands; the message lists every key and what was expected there."""


class SizeParams(Config):
    """Scale of an experiment; what it changes in the recipe, conf/size/ and conf/adjust/ have put there."""

    name: Name
    """The file of conf/size/."""

    backbone: str | None = None
    """The backbone of all weights in the place of the report's; null leaves those."""


class CommonWeightsParams(Config):
    """What the recipe's weights have in common."""

    source: str
    """Where the size takes them from; entries of recipe.weights repeat it."""

    missing: str
    """What the size does when they are unavailable; entries of recipe.weights repeat it."""

    allowed_licences: tuple[str, ...] = ALLOWED_LICENCES
    """SPDX ids in lower case; another licence, or an unknown one, is named at training, and
    refused by the gate `licence`."""


class EvaluationParams(Config):
    """On which photos errors are reported, and how exactly."""

    split: Split | None
    """The labelled split that predictions.parquet holds and the gate compares on. null: nothing is evaluated,
    the ensemble is made and registered without errors; `aisle predict --split` scores unlabelled photos."""

    validation_split: Split | None
    """What training watches after each epoch; never `split`. null: nothing, and no schedule goes by it."""

    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """float32 is exact; bfloat16 is faster where the device multiplies it fast."""

    batch_size: int = Field(default=64, ge=1)
    """Photos embedded at a time."""

    num_workers: int = Field(default=0, ge=0)
    """Processes that decode photos beside the model."""


class Params(Config):
    """Everything that params.yaml says."""

    seed: int = Field(ge=0, lt=NUM_SEEDS)
    """Every draw of every stage follows from this number."""

    experiment: str | None = None
    """The file of conf/experiment/ that this was composed from, a row of a report; null for none."""

    weights: CommonWeightsParams
    data: DataParams
    size: SizeParams
    recipe: RecipeParams
    evaluation: EvaluationParams

    gates: GatesConfig = DEFAULT_GATES
    """What a challenger must keep to become champion; no stage depends on it."""

    @model_validator(mode="after")
    def _names_are_distinct_files(self) -> Self:
        recipe = self.recipe
        for kind in ("predictions", "phases", "members"):
            check_distinct(getattr(recipe, kind), kind=f"recipe.{kind}")
        check_distinct([*recipe.lists, *recipe.refinements], kind="recipe.lists and recipe.refinements")
        return self

    @model_validator(mode="after")
    def _what_is_named_is_made_by_a_stage(self) -> Self:
        recipe = self.recipe
        phases, names = list(recipe.phases), [*recipe.lists, *recipe.refinements]
        for name, phase in recipe.phases.items():
            _require_known(phase.list, names, key=f"recipe.phases.{name}.list")
            _check_start(name, recipe)
        for name, prediction in recipe.predictions.items():
            _require_known(prediction.phase, phases, key=f"recipe.predictions.{name}.phase")
            _require_known(prediction.list, names, key=f"recipe.predictions.{name}.list")
        for name in recipe.members:
            _require_known(name, phases, key="recipe.members")
        lists = [paths.list_file(self.data.name, name) for name in names]
        evidence = [paths.loss_log(name) for name in phases]
        evidence += [paths.out_of_fold_file(recipe.name, name) for name in recipe.predictions]
        evidence += [paths.out_of_fold_folder(recipe.name)] if recipe.predictions else []
        evidence += [paths.duplicates_folder(self.data.name), *lists]
        for name, refinement in recipe.refinements.items():
            _require_known(refinement.base, [*lists, NO_FILE], key=f"recipe.refinements.{name}.base")
            _require_known(refinement.evidence, evidence, key=f"recipe.refinements.{name}.evidence")
        if self.evaluation.split is not None and self.evaluation.split == self.evaluation.validation_split:
            raise ValueError(
                "evaluation.validation_split: expected another split than evaluation.split, received "
                f"{self.evaluation.split!r} for both; errors on photos that training watched mean nothing"
            )
        return self

    @model_validator(mode="after")
    def _what_goes_by_validation_has_some(self) -> Self:
        if self.evaluation.validation_split is None:
            for name, config in self.recipe.configs.items():
                if keys := needs_validation(config):
                    raise ValueError(
                        "evaluation.validation_split: expected a split, received null; "
                        f"recipe.phases.{name} has {', '.join(keys)}, which goes by the error on it"
                    )
        return self

    @model_validator(mode="after")
    def _views_fit_the_members_and_the_store(self) -> Self:
        """A photo that came small is enlarged anyway; one that the store shrank must not be."""
        sizes = {
            f"recipe.phases.{name}.resize": config.resize for name, config in self.recipe.configs.items()
        }
        for name in self.recipe.members:
            config, views = self.recipe.configs[name], self.recipe.ensemble.views
            try:
                resolved = resolve_views(views, input_size=config.input_size, resize=config.resize)
            except ValueError as error:
                raise ValueError(f"recipe.ensemble.views: member {name}: {error}") from error
            largest = max(view.crop.resize for view in resolved)
            sizes[f"recipe.ensemble.views ({', '.join(views)}) for member {name}"] = largest
        kept = self.data.storage.max_side
        too_large = {key: size for key, size in sizes.items() if size > kept}
        if too_large:
            key, needed = max(too_large.items(), key=lambda item: item[1])
            raise ValueError(
                f"data.storage.max_side: expected {needed} pixels or more, since {key} resizes photos to "
                f"{needed}, received {kept}: photos that the store has shrunk would be enlarged again. Set "
                f"data.storage.max_side={needed} (photos are then ingested again), or smaller sizes there"
            )
        return self


def _check_start(name: str, recipe: RecipeParams) -> None:
    """Refuse a phase whose init or teacher no stage makes, or is of a kind that cannot be it."""
    key, phase = f"recipe.phases.{name}", recipe.phases[name]
    if name in recipe.weights:
        raise ValueError(
            f"{key}: expected a name that none of recipe.weights has, received {name!r} for both; "
            f"both would write {paths.phase_bundle(name)}"
        )
    starts = [*recipe.weights, *(each for each in recipe.phases if each != name)]
    _require_known(phase.init, starts, key=f"{key}.init")
    _require_known(phase.teacher, starts, key=f"{key}.teacher")
    chain = follow_init(name, phases={each: {"init": other.init} for each, other in recipe.phases.items()})
    if chain[-1] in recipe.phases:
        raise ValueError(
            f"{key}.init: expected phases that begin at one of recipe.weights, received a circle: "
            f"{' from '.join(chain)}"
        )
    if not isinstance(recipe.configs[name].objective, DistillationConfig):
        if phase.teacher != phase.init:
            raise ValueError(
                f"{key}.teacher: expected init again ({phase.init!r}), for nothing is distilled, "
                f"received {phase.teacher!r}"
            )
    elif phase.teacher in recipe.weights and recipe.weights[phase.teacher].source not in ("registry", "file"):
        raise ValueError(
            f"{key}.teacher: expected a trained model beside objective distillation, "
            f"received {phase.teacher!r}, weights without classes"
        )


def _require_known(value: str, known: list[str], *, key: str) -> None:
    if value not in known:
        raise ValueError(f"{key}: expected one of {known}, received {value!r}{near_match(value, known)}")


def load_params(root: Path = Path()) -> Params:
    """Read and check params.yaml; ParamsError names every wrong key, what was expected and received."""
    path = root / PARAMS_FILE
    if not path.exists():
        raise ParamsError(
            f"Expected {path}, found none. Make it with: aisle use recipe=loss_guided data=synthetic"
        )
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_YamlLoader)
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {error}") from error
    return check_params(values, where=str(path))


def check_params(values: Any, *, where: str) -> Params:
    """Check what params.yaml says or would say; ParamsError as of `load_params`, about `where`."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = list(dict.fromkeys(_as_written(line, values) for line in describe_errors(error, kind=Params)))
        raise ParamsError(
            "\n  ".join([f"{where} cannot be run ({len(lines)} problem{'s' * (len(lines) > 1)}):", *lines])
        ) from error


def _as_written(line: str, values: Any) -> str:
    """The sentence about a phase's complete configuration with the key where params.yaml says the value."""
    found = re.match(r"recipe\.configs\.([^.:]+)\.?([\w.]*)(.*)", line, re.DOTALL)
    if found is None:
        return line
    name, path, rest = found[1], found[2].split(".") if found[2] else [], found[3]
    recipe = values["recipe"]
    defaults = recipe.get("defaults")
    is_default = path and isinstance(defaults, dict) and path[0] in defaults
    if is_default and not says_it_itself(recipe, phase=name, path=path):
        return f"{'.'.join(['recipe.defaults', *path])}{rest}"
    return f"{'.'.join(['recipe.phases', name, *path])}{rest}"


def make_schema() -> str:
    """JSON schema of params.yaml, for editors: completion, checking, and help from the docstrings."""
    schema = Params.model_json_schema()
    _allow_differences(schema["$defs"])
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Aisle's params.yaml"
    return json.dumps(schema, indent=2) + "\n"


def _allow_differences(defs: dict[str, Any]) -> None:
    """Let `recipe.defaults` and a phase have any of a phase's keys, each as far as it differs."""
    of_phases = TypeAdapter(PhaseConfig).json_schema(ref_template="#/$defs/{model}")
    tables = {**of_phases.pop("$defs"), "PhaseConfig": of_phases}
    del of_phases["properties"]["backbone"]
    for table in tables.values():
        table.pop("required", None)
        for value in table["properties"].values():
            value.pop("discriminator", None)
            if "oneOf" in value:  # a difference without `name` may be one of several choices
                value["anyOf"] = value.pop("oneOf")
    defs.update(tables)
    defs["PhaseParams"]["properties"] |= of_phases["properties"]
    defs["PhaseParams"]["additionalProperties"] = False
    defaults = defs["RecipeParams"]["properties"]["defaults"]
    del defaults["additionalProperties"]
    defaults["$ref"] = "#/$defs/PhaseConfig"
