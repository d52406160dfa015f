"""Refuses a request that is too large before its body is on our disk, by its header and while it arrives."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError


class BodyLimit:
    """ASGI middleware: answers 413 once a request's body exceeds `max_bytes`."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self.max_bytes:
            await self._error().response()(scope, receive, send)
            return
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:  # sent in chunks, or the header lied
                raise self._error()
            return message

        await self.app(scope, count, send)

    def _error(self) -> ServiceError:
        limit = self.max_bytes / 1024 / 1024
        return ServiceError(
            413,
            error="request_too_large",
            message=f"The request is larger than the limit of {limit:,.0f} MiB.",
            hint="Send fewer or smaller photos in one request.",
        )
