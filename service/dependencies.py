"""What routes ask for: the settings, and the model once it is loaded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from fastapi import Depends, Request

from service.errors import ServiceError
from service.models import LoadedModel
from service.settings import Settings


def get_settings(request: Request) -> Settings:
    """The settings the app was created with."""
    settings: Settings = request.app.state.settings
    return settings


def get_model(request: Request) -> LoadedModel:
    """The loaded model; 503 as long as there is none."""
    model: LoadedModel | None = request.app.state.model
    if model is None:
        raise ServiceError(
            503,
            error="not_ready",
            message="The model is still being loaded; try again in a moment.",
            retry_after=2,
        )
    return model


def get_decoders(request: Request) -> ThreadPoolExecutor:
    """The threads that turn files into pixels."""
    decoders: ThreadPoolExecutor = request.app.state.decoders
    return decoders


CurrentSettings = Annotated[Settings, Depends(get_settings)]
CurrentModel = Annotated[LoadedModel, Depends(get_model)]
Decoders = Annotated[ThreadPoolExecutor, Depends(get_decoders)]
