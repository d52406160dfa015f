"""Which model is being served."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Depends

from service.dependencies import CurrentModel
from service.query import refuse_unknown_query
from service.schemas import InitialWeights, ModelResponse, Problem

router = APIRouter(tags=["model"], dependencies=[Depends(refuse_unknown_query)])


@router.get("/model", responses={503: {"model": Problem}})
async def describe_model(model: CurrentModel) -> ModelResponse:
    """Name the version, its members and how they are merged."""
    config, source = model.recognizer.config, model.source
    return ModelResponse(
        name=source.name,
        version=source.version,
        aliases=sorted(source.aliases),
        digest=source.digest,
        num_classes=len(config.class_names),
        members=list(config.members),
        initial_weights={
            name: InitialWeights(**asdict(origin))
            for name, origin in model.recognizer.initial_weights.items()
        },
        merge=config.merge,
        views=list(config.views),
        precision=str(model.recognizer.dtype).removeprefix("torch."),
    )
