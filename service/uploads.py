"""The photos of a multipart request, all or none: a body that ends early is an error, not fewer photos.

Starlette's parser reads and spools the body. It gives the bytes of a part without a file name as text, and
calls a body without its final boundary finished; photos would be damaged or lost without a word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from difflib import get_close_matches
from email.message import Message
from typing import Annotated

from fastapi import Depends, Request, UploadFile
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile as StarletteUploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from service.dependencies import CurrentModel, CurrentSettings
from service.errors import ServiceError

FIELD = "photos"
HOW_TO_SEND = f"Send one or more files in the multipart field {FIELD}: curl -F {FIELD}=@photo.jpg"
MAX_NAME = 200  # characters of a file name that an answer repeats

REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {
                    FIELD: {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "One or more photos.",
                    }
                },
            }
        }
    },
}
"""What OpenAPI says of the body, since the route reads it here instead of declaring it."""


@dataclass(frozen=True)
class Upload:
    """One photo of a request, spooled."""

    index: int
    """Its place in the request, from 0."""
    name: str
    """For answers only, never a path: printable, at most MAX_NAME characters."""
    file: UploadFile | StarletteUploadFile
    named: bool
    """Whether the part had a file name."""


async def read_uploads(
    request: Request, settings: CurrentSettings, model: CurrentModel
) -> AsyncIterator[list[Upload]]:
    """The request's photos in their order; their files are closed when it is answered.

    Raises ServiceError where the body is cut off, not multipart, holds no photo, too many, or other fields.
    """
    del model  # answers 503 before a body is read for nothing
    _check_headers(request)
    parser = _Parser(request.headers, request.stream(), max_files=settings.max_photos_per_request)
    try:
        form = await parser.parse()
    except ClientDisconnect as error:  # nobody may be left to read this, but the log is
        raise _cut_off("the connection ended before Content-Length was reached") from error
    except MultiPartException as error:
        raise _unreadable(error, max_photos=settings.max_photos_per_request) from error
    try:
        if not parser.complete:
            raise _cut_off("it lacks its final boundary")
        _check_fields([name for name, _ in form.multi_items()])
        files = [value for _, value in form.multi_items() if isinstance(value, StarletteUploadFile)]
        yield [
            Upload(index, _printable(file.filename) or f"photo {index + 1}", file, named=bool(file.filename))
            for index, file in enumerate(files)
        ]
    finally:
        await form.close()


Uploads = Annotated[list[Upload], Depends(read_uploads)]


class _Parser(MultiPartParser):
    """Starlette's parser, which also knows whether the body ended, and takes photos without a file name."""

    complete = False

    def on_end(self) -> None:
        self.complete = True

    def on_headers_finished(self) -> None:
        disposition = self._current_part.content_disposition or b""
        _, options = parse_options_header(disposition)
        if options.get(b"name") == FIELD.encode() and b"filename" not in options:
            self._current_part.content_disposition = disposition + b'; filename=""'
        super().on_headers_finished()
        file = self._current_part.file
        if file is not None and not file.filename:
            file.filename = _extended_filename(disposition)


def _extended_filename(disposition: bytes) -> str:
    """The name in `filename*=UTF-8''...` (RFC 5987), which some clients send although RFC 7578 forbids it."""
    header = Message()
    header["Content-Disposition"] = disposition.decode("latin-1")
    try:
        return header.get_filename() or ""
    except Exception:  # whatever a stranger's charset leads the email package to
        return ""


def _printable(name: str | None) -> str:
    """A file name that cannot break a log line, a terminal or JSON."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name or "")
    return shown if len(shown) <= MAX_NAME else f"{shown[: MAX_NAME - 3]}..."


def _check_headers(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise ServiceError(
            415,
            error="unsupported_media_type",
            message=f"Expected a body without Content-Encoding, received {_printable(encoding)}.",
            hint="Photos are compressed already: send them as they are.",
        )
    header = request.headers.get("content-type", "")
    kind, options = parse_options_header(header)
    if kind == b"multipart/form-data":
        if not options.get(b"boundary"):
            raise ServiceError(
                400,
                error="invalid_multipart",
                message="Expected Content-Type: multipart/form-data; boundary=..., received no boundary.",
                hint="Let the HTTP client set Content-Type itself.",
            )
        return
    if not header and request.headers.get("content-length", "0") == "0":
        raise _no_photo("The request holds no photo.")
    received = f"Content-Type: {_printable(header)}" if header else "no Content-Type"
    raise ServiceError(
        415,
        error="unsupported_media_type",
        message=f"Expected Content-Type: multipart/form-data, received {received}.",
        hint=HOW_TO_SEND,
    )


def _check_fields(names: list[str]) -> None:
    """Refuse fields that nobody reads: what they hold would be lost without a word."""
    other = next((name for name in names if name != FIELD), None)
    if other is not None:
        message = f"Expected the multipart field {FIELD} only, received {_printable(other)!r}."
        hint = HOW_TO_SEND
        if other == "top_k":
            hint = "top_k belongs to the query: /predict?top_k=3"
        elif get_close_matches(other.lower(), [FIELD]):
            hint = f"Did you mean {FIELD}? {HOW_TO_SEND}"
        raise ServiceError(422, error="unknown_field", message=message, hint=hint)
    if not names:
        raise _no_photo("The request holds no photo.")


def _no_photo(message: str) -> ServiceError:
    return ServiceError(400, error="no_photo", message=message, hint=HOW_TO_SEND)


def _cut_off(how: str) -> ServiceError:
    return ServiceError(
        400,
        error="incomplete_body",
        message=f"The body of the request is cut off: {how}. No photo was answered.",
        hint="Send the request again.",
    )


def _unreadable(error: MultiPartException, *, max_photos: int) -> ServiceError:
    """Starlette's finding as a sentence; only its own words tell the kinds apart."""
    if error.message.startswith("Too many files"):
        message = f"Expected at most {max_photos} photos in one request, received more."
        return ServiceError(413, error="too_many_photos", message=message, hint="Send several requests.")
    cause = error.__cause__ if isinstance(error.__cause__, FormParserError) else error.message
    message = f"The multipart body cannot be read: {str(cause).rstrip('.')}."
    hint = "A file name may have 4,000 bytes at most." if "header size" in message else None
    return ServiceError(400, error="invalid_multipart", message=message, hint=hint)
