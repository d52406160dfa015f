"""What params.yaml says of a recipe: its lists, weights, phases as defaults and differences, and members."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from catalog.list_rules import ListRule
from catalog.refinement import RefinementRule
from imaging.config import Config
from pipelines.names import Name
from pipelines.paths import NO_FILE
from pipelines.resolution import WIRING, first_weights, resolve_phases
from recognition.views import check_views
from training.config import PhaseConfig

NO_BACKBONE = (
    "expected no backbone, received one: a phase has that of the weights which its chain of init begins at, "
    "recipe.weights.<name>.backbone"
)


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
