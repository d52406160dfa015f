"""Whether the process lives, and whether it can answer."""

from __future__ import annotations

from fastapi import APIRouter

from service.dependencies import CurrentModel
from service.schemas import Health, Problem

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> Health:
    """Answer as soon as the process listens."""
    return Health(status="alive")


@router.get("/ready", responses={503: {"model": Problem}})
async def ready(model: CurrentModel) -> Health:
    """Answer 200 once the model is loaded and warm, 503 before."""
    return Health(status="ready")
