"""Refuses a request that is too large before its body is on our disk, and one whose body stops arriving."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServiceError


class BodyLimit:
    """ASGI middleware: 413 once a body exceeds `max_bytes`, 408 after `max_silence` seconds without a byte.

    The size is judged by its header and while the body arrives, so chunked bodies are bounded, too.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_silence: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_silence = max_silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self.max_bytes:
            await self._too_large().response()(scope, receive, send)
            return
        received, complete = 0, False

        async def count() -> Message:
            nonlocal received, complete
            if complete:  # what comes next is the client's leaving, which may take its time
                return await receive()
            try:
                async with asyncio.timeout(self.max_silence):
                    message = await receive()
            except TimeoutError:
                raise self._silent(received, announced=announced.decode("latin-1")) from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self.max_bytes:  # sent in chunks, or the header lied
                raise self._too_large()
            return message

        await self.app(scope, count, send)

    def _too_large(self) -> ServiceError:
        limit = self.max_bytes / 1024 / 1024
        return ServiceError(
            413,
            error="request_too_large",
            message=f"The request is larger than the limit of {limit:,.0f} MiB.",
            hint="Send fewer or smaller photos in one request.",
        )

    def _silent(self, received: int, *, announced: str) -> ServiceError:
        expected = f"{int(announced):,} bytes" if announced.isdigit() else "an end"
        return ServiceError(
            408,
            error="incomplete_body",
            message=f"The body of the request stopped arriving: expected {expected}, received {received:,} "
            f"bytes and then nothing for {self.max_silence:g} s.",
            hint="Check Content-Length and send the request again.",
        )
