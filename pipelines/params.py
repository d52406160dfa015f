"""params.yaml as one checked object, so that a mistyped key stops the run before a stage does any work.

The values' meaning and defaults live beside their owners (`training.config`, `catalog.splits`, ...); this
module only puts them together, checks what one room cannot know of another, and makes the schema of it all.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from catalog.list_rules import ListRule
from catalog.refinement import RefinementRule
from imaging.config import Config
from imaging.config_errors import describe_errors, near_match
from pipelines import paths
from pipelines.names import Name, check_distinct
from pipelines.params_data import DataParams
from recognition.provenance import ALLOWED_LICENCES
from recognition.views import check_views, resolve_views
from tables.values import Split
from training.config import PhaseConfig
from training.config.job import NUM_SEEDS
from training.config.objectives import DistillationConfig
from training.config.phase import NO_FILE, needs_validation

PARAMS_FILE = "params.yaml"
SCHEMA_FILE = "conf/params.schema.json"

# libyaml reads params.yaml ten times as fast as Python does.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ParamsError(ValueError):
    """params.yaml cannot be run as it stands; the message lists every key and what was expected there."""


class SizeParams(Config):
    """Scale of an experiment: recipes read these values by interpolation, and have the full-size ones.

    A key that a size leaves out stays at what the recipe says, the report's value.
    """

    config: str | None = None
    """The file of conf/size/ that this was composed from; null where it is that of the name."""

    name: Name
    weights_source: str
    """Where the recipes' weights come from: auto or random, see recipe.weights."""

    missing_weights: str
    num_workers: int
    num_threads: int
    backbones: dict[str, str] = Field(default_factory=dict)
    """The backbone to use in the place of a report's, by the name in the recipe."""

    input_size: int | None = None
    resize: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    """Epochs of phases that learn from the initial weights."""

    record_epochs: int | None = None
    """Epochs that loss_guided records."""

    fine_tune_epochs: int | None = None
    accuracy_epochs: int | None = None
    """Epochs with the accuracy loss."""

    first_milestone: float | None = None
    """Epoch after which a stepped or manual rate falls first."""

    second_milestone: float | None = None
    third_milestone: float | None = None
    fine_tune_milestone: float | None = None
    """Epoch of a fine-tuning after which its rate falls."""

    warmup_epochs: float | None = None
    first_augmentation: str | None = None
    """Augmentation of phases that the reports train without: few photos need one."""

    smallest_crop: float | None = None
    """Smallest share of the photo's area that resized_crop keeps."""

    auto_augment: str | None = None
    cutout: int | None = None
    lr: float | None = None
    fine_tune_lr: float | None = None
    own_heads_lr: float | None = None
    """Rate of the objectives DCL and LIO, whose heads learn ten times as fast."""

    ranger_lr: float | None = None
    ranger_fine_tune_lr: float | None = None
    keep: int | None = None
    """Photos of each class that a refinement list keeps."""

    max_mean_loss: float | None = None
    balanced_per_class: int | None = None
    dcl_input_size: int | None = None
    dcl_resize: int | None = None
    dcl_batch_size: int | None = None
    lio_batch_size: int | None = None
    view: str | None = None
    """The one view of recipes that have many at full size."""


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


class LicenceParams(Config):
    """Which pretrained weights may be built on without a warning."""

    allowed_licences: tuple[str, ...] = ALLOWED_LICENCES
    """SPDX ids in lower case; another licence, or an unknown one, is named at training and at promotion."""


class PredictionParams(Config):
    """What a phase's model says of the photos of a list: evidence for refinement."""

    phase: str
    """The phase whose bundle predicts."""

    list: str
    """Path of the list whose photos are predicted, data/lists/<data>/<name>.parquet."""


class MemberParams(Config):
    """A member of the ensemble."""

    phase: str
    """The phase whose bundle goes into the ensemble."""


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
    """Predictions that refinements read, by name."""

    refinements: dict[Name, Annotated[RefinementRule, Field(discriminator="rule")]]
    """Lists made from another list and evidence about its photos, by name."""

    weights: dict[Name, WeightsParams]
    """Weights that phases start from, by name; no phase may have the same name."""

    phases: dict[Name, PhaseConfig] = Field(min_length=1)
    """Training runs, by name."""

    members: dict[Name, MemberParams] = Field(min_length=1)
    """Members of the ensemble, by name."""

    ensemble: EnsembleParams = EnsembleParams()
    """How the members become one answer."""


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

    weights: LicenceParams = LicenceParams()
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
    def _paths_are_made_by_a_stage(self) -> Self:
        recipe = self.recipe
        lists = [paths.list_file(self.data.name, name) for name in (*recipe.lists, *recipe.refinements)]
        logs = [paths.loss_log(name) for name in recipe.phases]
        for name, phase in recipe.phases.items():
            _require_known(phase.list, lists, key=f"recipe.phases.{name}.list")
            self._check_start(name, phase)
        for name, prediction in recipe.predictions.items():
            _require_known(prediction.phase, list(recipe.phases), key=f"recipe.predictions.{name}.phase")
            _require_known(prediction.list, lists, key=f"recipe.predictions.{name}.list")
        evidence = [*logs, *(paths.out_of_fold_file(recipe.name, name) for name in recipe.predictions)]
        evidence += [paths.out_of_fold_folder(recipe.name)] if recipe.predictions else []
        evidence += [paths.duplicates_folder(self.data.name), *lists]
        for name, refinement in recipe.refinements.items():
            _require_known(refinement.base, [*lists, NO_FILE], key=f"recipe.refinements.{name}.base")
            _require_known(refinement.evidence, evidence, key=f"recipe.refinements.{name}.evidence")
        for name, member in recipe.members.items():
            _require_known(member.phase, list(recipe.phases), key=f"recipe.members.{name}.phase")
        if self.evaluation.split is not None and self.evaluation.split == self.evaluation.validation_split:
            raise ValueError(
                "evaluation.validation_split: expected another split than evaluation.split, received "
                f"{self.evaluation.split!r} for both; errors on photos that training watched mean nothing"
            )
        return self

    def _check_start(self, name: str, phase: PhaseConfig) -> None:
        """Refuse a phase whose init or teacher no stage makes, or is of a kind that cannot be it."""
        key, recipe = f"recipe.phases.{name}", self.recipe
        if name in recipe.weights:
            raise ValueError(
                f"{key}: expected a name that none of recipe.weights has, received {name!r} for both; "
                f"both would write {paths.phase_bundle(name)}"
            )
        entries = {paths.phase_bundle(each): entry for each, entry in recipe.weights.items()}
        bundles = [*entries, *(paths.phase_bundle(each) for each in recipe.phases if each != name)]
        _require_known(phase.init_path, bundles, key=f"{key}.init_path")
        _require_known(phase.teacher_path, bundles, key=f"{key}.teacher_path")
        entry = entries.get(phase.init_path)
        if entry is not None and entry.backbone != phase.backbone:
            raise ValueError(
                f"{key}.backbone: expected that of {phase.init_path}, {entry.backbone!r}, "
                f"received {phase.backbone!r}"
            )
        teacher = entries.get(phase.teacher_path)
        distils = isinstance(phase.objective, DistillationConfig)
        if distils and teacher is not None and teacher.source not in ("registry", "file"):
            raise ValueError(
                f"{key}.teacher_path: expected a trained model's bundle beside objective distillation, "
                f"received {phase.teacher_path!r}, weights without classes"
            )

    @model_validator(mode="after")
    def _what_goes_by_validation_has_some(self) -> Self:
        if self.evaluation.validation_split is None:
            for name, phase in self.recipe.phases.items():
                if keys := needs_validation(phase):
                    raise ValueError(
                        "evaluation.validation_split: expected a split, received null; "
                        f"recipe.phases.{name} has {', '.join(keys)}, which goes by the error on it"
                    )
        return self

    @model_validator(mode="after")
    def _views_fit_the_members_and_the_store(self) -> Self:
        """A photo that came small is enlarged anyway; one that the store shrank must not be."""
        sizes = {f"recipe.phases.{name}.resize": phase.resize for name, phase in self.recipe.phases.items()}
        for name, member in self.recipe.members.items():
            phase, views = self.recipe.phases[member.phase], self.recipe.ensemble.views
            try:
                resolved = resolve_views(views, input_size=phase.input_size, resize=phase.resize)
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
        lines = describe_errors(error, kind=Params)
        raise ParamsError(
            "\n  ".join([f"{where} cannot be run ({len(lines)} problem{'s' * (len(lines) > 1)}):", *lines])
        ) from error


def make_schema() -> str:
    """JSON schema of params.yaml, for editors: completion, checking, and help from the docstrings."""
    schema = Params.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Aisle's params.yaml"
    return json.dumps(schema, indent=2) + "\n"
