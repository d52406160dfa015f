"""Photos in, SKUs out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from imaging.limits import PhotoError
from recognition.recognizer import Answer, Canvases, Recognizer
from service.batching import Overloaded
from service.dependencies import CurrentModel, CurrentSettings, Decoders
from service.errors import ServiceError, photo_failed, photo_refused
from service.models import LoadedModel
from service.query import refuse_unknown_query
from service.schemas import (
    ModelName,
    PhotoAnswer,
    PhotoRefusal,
    PredictedSku,
    PredictProblem,
    PredictResponse,
    Problem,
)
from service.settings import MIB, Settings
from service.uploads import REQUEST_BODY, Upload, Uploads

router = APIRouter(tags=["predict"], dependencies=[Depends(refuse_unknown_query)])
_LOG = logging.getLogger("uvicorn.error")
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": PredictProblem, "description": "No photo, an empty one, or a body that is cut off"},
    408: {"model": Problem, "description": "The body stopped arriving"},
    413: {"model": PredictProblem, "description": "Too many bytes, pixels or photos"},
    415: {"model": PredictProblem, "description": "Not a photo, or of a format that is not read"},
    422: {"model": PredictProblem, "description": "A broken photo, a wrong or unknown parameter or field"},
    500: {"model": PredictProblem, "description": "A defect of the service"},
    503: {"model": Problem, "description": "Not loaded yet, or too many photos at once"},
}


@router.post(
    "/predict",
    responses=_PROBLEMS,
    response_model_exclude_none=True,
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def predict(
    model: CurrentModel,
    settings: CurrentSettings,
    decoders: Decoders,
    photos: Uploads,
    top_k: Annotated[int | None, Query(description="SKUs per photo.", examples=[5])] = None,
) -> PredictResponse:
    """Say which SKU is on each photo: curl -F photos=@a.jpg -F photos=@b.png host:8000/predict

    A photo that is refused has an `error` in place of `predictions` and costs the others nothing. Where no
    photo is answered, the status is the first one's.
    """
    started = time.perf_counter()
    wanted = _check_top_k(top_k, model=model, settings=settings)
    try:
        with model.batcher.admit(len(photos)):
            answers = await asyncio.gather(
                *(_answer(model, decoders, photo, wanted, settings=settings) for photo in photos),
                return_exceptions=True,
            )
    except Overloaded as error:
        message = f"The service is busy: {error}."
        raise ServiceError(503, error="busy", message=message, hint="Try again.", retry_after=1) from error
    results = [_result(photo, answer) for photo, answer in zip(photos, answers, strict=True)]
    refused = [result for result in results if isinstance(result, ServiceError)]
    if len(refused) == len(results):
        raise _none_answered(photos, refused)
    return PredictResponse(
        model=ModelName(name=model.source.name, version=model.source.version),
        results=[
            _refusal(photo, result) if isinstance(result, ServiceError) else result
            for photo, result in zip(photos, results, strict=True)
        ],
        took_ms=round((time.perf_counter() - started) * 1000, 3),
    )


async def _answer(
    model: LoadedModel, decoders: Decoders, photo: Upload, top_k: int, *, settings: Settings
) -> Answer:
    limit = settings.max_photo_mb
    if photo.file.size is not None and photo.file.size > limit * MIB:
        raise PhotoError(
            f"The file has {photo.file.size:,} bytes, the limit is {limit} MiB: send a smaller photo.",
            reason="too_many_bytes",
        )
    loop = asyncio.get_running_loop()
    canvases = await loop.run_in_executor(decoders, _prepare, model.recognizer, photo)
    return await asyncio.wrap_future(model.batcher.submit(canvases, top_k=top_k))


def _prepare(recognizer: Recognizer, photo: Upload) -> Canvases:
    """Read and decode in the decoder's thread, so that only as many photos as threads are in memory."""
    return recognizer.prepare(photo.file.file.read())


def _check_top_k(top_k: int | None, *, model: LoadedModel, settings: Settings) -> int:
    num_classes = len(model.recognizer.class_names)
    if top_k is None:
        return min(settings.top_k, num_classes)
    if not 1 <= top_k <= num_classes:
        message = f"Expected top_k from 1 to {num_classes}, the number of SKUs, received {top_k}."
        raise ServiceError(422, error="invalid_top_k", message=message)
    return top_k


def _result(photo: Upload, answer: Answer | BaseException) -> PhotoAnswer | ServiceError:
    """One photo's answer, or why there is none; a defect that it meets is logged and its own alone."""
    if isinstance(answer, PhotoError):
        return photo_refused(answer, file=photo.name, named=photo.named)
    if isinstance(answer, Exception):
        _LOG.error("%s: the service failed on this photo", photo.name, exc_info=answer)
        return photo_failed(file=photo.name)
    if isinstance(answer, BaseException):  # the task was cancelled, or the process is being stopped
        raise answer
    return PhotoAnswer(
        index=photo.index,
        file=photo.name,
        predictions=[
            PredictedSku(sku=item.name, class_index=item.class_index, probability=item.probability)
            for item in answer.predictions
        ],
    )


def _refusal(photo: Upload, error: ServiceError) -> PhotoRefusal:
    return PhotoRefusal(index=photo.index, file=photo.name, error=Problem(**error.body()))


def _none_answered(photos: Sequence[Upload], refused: Sequence[ServiceError]) -> ServiceError:
    """The first photo's error as the request's, with every photo's own beneath it."""
    first, others = refused[0], len(refused) - 1
    more = f" ({others} more not answered: see results.)" if others else ""
    results = [
        _refusal(photo, error).model_dump(exclude_none=True)
        for photo, error in zip(photos, refused, strict=True)
    ]
    return ServiceError(
        first.status_code, error=first.error, message=first.message + more, hint=first.hint, results=results
    )
