"""One shape for everything that can go wrong, whoever noticed it: {"error", "message", "hint"}."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from imaging.limits import PhotoError, Reason

PHOTO_STATUS: dict[Reason, int] = {
    "empty": 400,
    "too_many_bytes": 413,
    "too_many_pixels": 413,
    "not_a_photo": 415,
    "unsupported_format": 415,
    "corrupt": 422,
}


_DEFECT = "The service failed on this {}; its log says where."


class ServiceError(HTTPException):
    """An answer other than the one that was asked for: `error` for programs, `message` for people.

    An HTTPException, because FastAPI turns every other one that is raised while it reads a body into a 400.
    """

    def __init__(
        self,
        status: int,
        *,
        error: str,
        message: str,
        hint: str | None = None,
        retry_after: int | None = None,
        results: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(status, detail=message)
        self.error = error
        self.message = message
        self.hint = hint
        self.retry_after = retry_after
        self.results = results

    def body(self) -> dict[str, str]:
        """The error in its one shape; without a hint the key is absent."""
        hint = {} if self.hint is None else {"hint": self.hint}
        return {"error": self.error, "message": self.message, **hint}

    def response(self) -> JSONResponse:
        """The error as JSON, with the answers to single photos where it has some."""
        body: dict[str, Any] = self.body()
        if self.results is not None:
            body["results"] = self.results
        headers = None if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return JSONResponse(body, status_code=self.status_code, headers=headers)


def photo_refused(error: PhotoError, *, file: str, named: bool = True) -> ServiceError:
    """The answer to a photo that imaging refused, naming the file.

    A part without a file name that is no photo is most often a path in place of a file: the hint says so.
    """
    hint = None
    if not named and error.reason == "not_a_photo":
        hint = "curl sends a file only with the @: curl -F photos=@photo.jpg"
    return ServiceError(PHOTO_STATUS[error.reason], error=error.reason, message=f"{file}: {error}", hint=hint)


def photo_failed(*, file: str) -> ServiceError:
    """The answer to a photo on which the service itself failed."""
    message = f"{file}: {_DEFECT.format('photo')}"
    return ServiceError(500, error="internal_error", message=message)


def add_error_handlers(app: FastAPI) -> None:
    """Give the errors of FastAPI and Starlette the same shape as our own."""
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(StarletteHTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(Exception, _on_defect)


async def _on_service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return error.response()


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    if error.status_code == 404:
        status, name = 404, "not_found"
        message = f"There is nothing at {request.url.path}. See /docs for what there is."
    elif error.status_code == 405:
        status, name = 405, "method_not_allowed"
        message = f"{request.url.path} does not take {request.method}. See /docs for what it takes."
    else:
        status, message = error.status_code, error.detail
        name = HTTPStatus(status).phrase.lower().replace(" ", "_")
    response = ServiceError(status, error=name, message=message).response()
    response.headers.update(error.headers or {})
    return response


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [_sentence(problem) for problem in error.errors()]
    return ServiceError(422, error="invalid_request", message=" ".join(problems)).response()


def _sentence(problem: dict[str, Any]) -> str:
    """One of pydantic's findings, with the name of what is wrong in front."""
    where = problem["loc"]
    name = ".".join(str(part) for part in where[1:]) or str(where[0])
    return f"{name}: {problem['msg']}, received {str(problem.get('input'))[:100]!r}."


async def _on_defect(request: Request, error: Exception) -> JSONResponse:
    return ServiceError(500, error="internal_error", message=_DEFECT.format("request")).response()
