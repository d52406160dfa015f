"""params.yaml as one checked object, so that a mistyped key stops the run before a stage does any work.

The values' meaning and defaults live beside their owners (`training.config`, `catalog.splits`, ...); this
module only puts them together, checks what one room cannot know of another, and makes the schema of it all.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from catalog.list_rules import ListRule
from catalog.refinement import RefinementRule
from contracts.values import Split
from imaging.config import Config
from imaging.config_errors import describe_errors, near_match
from pipelines import paths
from pipelines.names import Name, check_distinct
from pipelines.params_data import DataParams
from pipelines.paths import NO_FILE
from pipelines.resolution import WIRING, first_weights, follow_init, resolve_phases, says_it_itself
from recognition.provenance import ALLOWED_LICENCES
from recognition.views import check_views, resolve_views
from training.config import PhaseConfig
from training.config.job import NUM_SEEDS
from training.config.objectives import DistillationConfig
from training.config.phase import needs_validation

PARAMS_FILE = "params.yaml"
SCHEMA_FILE = "conf/params.schema.json"

# libyaml reads params.yaml ten times as fast as Python does.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NO_BACKBONE = (
    "expected no backbone, received one: a phase has that of the weights which its chain of init begins at, "
    "recipe.weights.<name>.backbone"
)


class ParamsError(ValueError):
    """params.yaml cannot be run as it stands; the message lists every key and what was expected there."""


class SizeParams(Config):
    """Scale of an experiment; what it changes in the recipe, conf/size/ and conf/adjust/ have put there."""

    name: Name
    """The file of conf/size/."""

    backbone: str | None = None
    """The backbone of all weights in the place of the report's; null leaves those."""


class WeightsParams(Config):
    """Weights that phases may start from, as runs/<name>/bundle with their source, licence and SHA-256."""

    backbone: str
    """Any timm model name, with a tag where not timm's default weights are meant; that of the phases which
    start here."""

    source: Literal["auto", "file", "cache", "package", "hub", "registry", "random"] = "auto"
    """auto: `path` where it names a file, else timm's cache, installed packages, the hub, in this order;
    registry: `version`; random: each phase draws its own from its seed."""

    path: str
    """A weights file (safetensors, or torch's, read without executing anything in it) or a bundle's folder;
    conf/nothing.yaml where there is none."""

    version: str = ""
    """A registered version, <model>/<version> or <model>/<version>/<member>; an ensemble may only teach."""

    licence: str = ""
    """SPDX id of a file's licence, which a file does not say itself."""

    missing: Literal["stop", "random"] = "stop"
    """What to do when the weights are unavailable: stop, or start from random ones with a warning."""

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Self:
        for needed, given, words in (
            (
                self.source == "file",
                self.path != NO_FILE,
                "path: expected a file or bundle beside source: file",
            ),
            (self.source == "registry", bool(self.version), "version: expected one beside source: registry"),
        ):
            if needed and not given:
                raise ValueError(f"{words}, received none")
        if self.version and self.source != "registry":
            raise ValueError(
                f"version: expected none beside source: {self.source}, received {self.version!r}"
            )
        if self.path != NO_FILE and self.source not in ("auto", "file"):
            raise ValueError(f"path: expected {NO_FILE} beside source: {self.source}, received {self.path!r}")
        if self.version and not 2 <= len([part for part in self.version.split("/") if part]) <= 3:
            raise ValueError(
                "version: expected <model>/<version> or <model>/<version>/<member>, "
                f"received {self.version!r}"
            )
        return self


class CommonWeightsParams(Config):
    """What the recipe's weights have in common."""

    source: str
    """Where the size takes them from; entries of recipe.weights repeat it."""

    missing: str
    """What the size does when they are unavailable; entries of recipe.weights repeat it."""

    allowed_licences: tuple[str, ...] = ALLOWED_LICENCES
    """SPDX ids in lower case; another licence, or an unknown one, is named at training and at promotion."""


class PredictionParams(Config):
    """What a phase's model says of the photos of a list: evidence for refinement."""

    phase: str
    """The phase whose bundle predicts."""

    list: str
    """The list or refinement whose photos are predicted."""


class PhaseParams(Config):
    """A phase: what it learns from, and the values that differ from `defaults`."""

    model_config = ConfigDict(extra="allow")

    list: str
    """The list or refinement to train on."""

    init: str
    """Where it starts: another phase, or one of the recipe's weights."""

    teacher: str
    """What distillation learns from: another phase, or weights of a trained model or ensemble. It repeats
    `init` where nothing is distilled."""

    @model_validator(mode="before")
    @classmethod
    def _backbone_is_that_of_its_weights(cls, values: Any) -> Any:
        if isinstance(values, dict) and "backbone" in values:
            raise ValueError(NO_BACKBONE)
        return values


def _check_defaults(values: dict[str, Any]) -> dict[str, Any]:
    if "backbone" in values:
        raise ValueError(NO_BACKBONE)
    for key in WIRING:
        if key in values:
            raise ValueError(
                f"expected {key} in each phase of recipe.phases, received it for all: move it there"
            )
    return values


class EnsembleParams(Config):
    """How members become one answer."""

    merge: Literal["logits", "probabilities", "vote"] = "logits"
    """logits: mean of logits; probabilities: mean of probabilities; vote: most members' first choice."""

    views: Annotated[tuple[str, ...], AfterValidator(check_views)] = ("center",)
    """Test-time views of a photo whose pooled features are averaged: center, flip, top_left, ..., with a size
    to resize to first, turned and mirrored as in center_288_rot90_flip; or d4, ten_crops, scales."""


class RecipeParams(Config):
    """A named set of phases and members."""

    config: str | None = None
    """The file of conf/recipe/ that this was composed from; null where it is that of the name."""

    name: Name
    """Name of the recipe in paths and in MLflow."""

    lists: dict[Name, Annotated[ListRule, Field(discriminator="rule")]]
    """Lists made by a rule from the splits, by name."""

    predictions: dict[Name, PredictionParams]
    """Out-of-fold predictions that refinements read, by name."""

    refinements: dict[Name, Annotated[RefinementRule, Field(discriminator="rule")]]
    """Lists made from another list and evidence about its photos, by name."""

    weights: dict[Name, WeightsParams]
    """Weights that phases start from, by name; no phase may have the same name."""

    defaults: Annotated[dict[str, Any], AfterValidator(_check_defaults)]
    """What all phases share."""

    phases: dict[Name, PhaseParams] = Field(min_length=1)
    """Training runs, by name."""

    members: tuple[Name, ...] = Field(min_length=1)
    """The phases whose bundles go into the ensemble."""

    ensemble: EnsembleParams = EnsembleParams()
    """How the members become one answer."""

    configs: SkipJsonSchema[dict[str, PhaseConfig]]
    """Each phase's complete configuration, made of `defaults`, `phases` and `weights`."""

    @model_validator(mode="before")
    @classmethod
    def _resolve_phases(cls, values: Any) -> Any:
        """Make `configs`, so that pydantic checks each phase as if it were written out."""
        if not isinstance(values, dict):
            return values
        if "configs" in values:
            raise ValueError("configs: no such key. params.schema.json lists the keys of this place.")
        return values | {"configs": resolve_phases(values)}

    def first_weights(self, phase: str) -> str | None:
        """The name of the weights that a phase's chain of `init` begins at, None where it begins at none."""
        wiring = {name: {"init": each.init} for name, each in self.phases.items()}
        return first_weights(phase, phases=wiring, weights=self.weights)


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
