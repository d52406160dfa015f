"""Photos in, SKUs out."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, UploadFile

from imaging.limits import PhotoError
from recognition.recognizer import Answer, Canvases, Recognizer
from service.batching import Overloaded
from service.dependencies import CurrentModel, CurrentSettings, Decoders
from service.errors import ServiceError, photo_refused
from service.models import LoadedModel
from service.schemas import ModelName, PhotoResult, PredictedSku, PredictResponse, Problem
from service.settings import Settings

router = APIRouter(tags=["predict"])
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "No photo, or an empty one"},
    413: {"model": Problem, "description": "Too many bytes, pixels or photos"},
    415: {"model": Problem, "description": "Not a photo, or of a format that is not read"},
    422: {"model": Problem, "description": "A broken photo, or a wrong top_k"},
    503: {"model": Problem, "description": "Not loaded yet, or too many photos at once"},
}


@router.post("/predict", responses=_PROBLEMS)
async def predict(
    model: CurrentModel,
    settings: CurrentSettings,
    decoders: Decoders,
    photos: Annotated[list[UploadFile] | None, File(description="One or more photos.")] = None,
    top_k: Annotated[int | None, Query(description="SKUs per photo.", examples=[5])] = None,
) -> PredictResponse:
    """Say which SKU is on each photo: curl -F photos=@a.jpg -F photos=@b.png host:8000/predict"""
    started = time.perf_counter()
    files = photos or []
    names = [file.filename or f"photo {number}" for number, file in enumerate(files, start=1)]
    wanted = _check_top_k(top_k, model=model, settings=settings)
    _check_sizes(files, names, settings=settings)
    try:
        with model.batcher.admit(len(files)):
            answers = await asyncio.gather(
                *(_answer(model, decoders, file, wanted) for file in files), return_exceptions=True
            )
    except Overloaded as error:
        message = f"The service is busy: {error}."
        raise ServiceError(503, error="busy", message=message, hint="Try again.", retry_after=1) from error
    results = [_result(name, answer) for name, answer in zip(names, answers, strict=True)]
    return PredictResponse(
        model=ModelName(name=model.source.name, version=model.source.version),
        results=results,
        took_ms=round((time.perf_counter() - started) * 1000, 3),
    )


async def _answer(model: LoadedModel, decoders: Decoders, file: UploadFile, top_k: int) -> Answer:
    loop = asyncio.get_running_loop()
    photo = await loop.run_in_executor(decoders, _prepare, model.recognizer, file)
    return await asyncio.wrap_future(model.batcher.submit(photo, top_k=top_k))


def _prepare(recognizer: Recognizer, file: UploadFile) -> Canvases:
    """Read and decode in the decoder's thread, so that only as many photos as threads are in memory."""
    return recognizer.prepare(file.file.read())


def _check_top_k(top_k: int | None, *, model: LoadedModel, settings: Settings) -> int:
    num_classes = len(model.recognizer.class_names)
    if top_k is None:
        return min(settings.top_k, num_classes)
    if not 1 <= top_k <= num_classes:
        message = f"Expected top_k from 1 to {num_classes}, the number of SKUs, received {top_k}."
        raise ServiceError(422, error="invalid_top_k", message=message)
    return top_k


def _check_sizes(files: list[UploadFile], names: list[str], *, settings: Settings) -> None:
    if not files:
        raise ServiceError(
            400,
            error="no_photo",
            message="The request holds no photo.",
            hint="Send one or more files in the multipart field photos: curl -F photos=@photo.jpg",
        )
    for file, name in zip(files, names, strict=True):
        if file.size is not None and file.size > settings.max_photo_mb * 1024 * 1024:
            message = f"{name}: the photo has {file.size:,} bytes, the limit is {settings.max_photo_mb} MiB."
            raise ServiceError(413, error="too_many_bytes", message=message, hint="Scale it down.")


def _result(name: str, answer: Answer | BaseException) -> PhotoResult:
    if isinstance(answer, PhotoError):
        raise photo_refused(answer, file=name) from answer
    if isinstance(answer, BaseException):
        raise answer
    return PhotoResult(
        file=name,
        predictions=[
            PredictedSku(sku=item.name, class_index=item.class_index, probability=item.probability)
            for item in answer.predictions
        ],
    )
