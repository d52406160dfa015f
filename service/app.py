"""The service put together: `create_app` for tests and servers, `serve` for `aisle serve`.

The process listens while the model loads, so that /health/live and /health/ready tell the two apart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from service.body_limit import BodyLimit
from service.errors import add_error_handlers
from service.models import LoadedModel, Source, find_source, load_model
from service.routes import health, model, predict
from service.settings import MIB, Settings

_LOG = logging.getLogger("uvicorn.error")


def create_app(settings: Settings, *, source: Source | None = None) -> FastAPI:
    """The app that serves `source`, or what the settings name.

    Ready once /health/ready says so. Raises MissingAlias, TrackingError or ValueError when there is nothing
    to serve.
    """
    app = FastAPI(
        title="Aisle",
        summary="Which product is on the photo",
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.source = source or find_source(settings)
    app.state.model = None
    app.state.failure = None
    app.state.stop = lambda: None
    add_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_request_mb * MIB, max_silence=settings.max_silence_s)
    for routes in (predict, model, health):
        app.include_router(routes.router)
    return app


def serve(settings: Settings) -> None:
    """Run the service until it is stopped.

    Raises MissingAlias, TrackingError or ValueError, each with what to do, when there is nothing to serve or
    the bundle cannot be loaded.
    """
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, host=settings.host, port=settings.port))
    app.state.stop = lambda: setattr(server, "should_exit", True)
    server.run()
    if app.state.failure is not None:
        raise app.state.failure


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    with ThreadPoolExecutor(settings.num_decoders, thread_name_prefix="decoder") as decoders:
        app.state.decoders = decoders
        loading = asyncio.create_task(_load(app))
        yield
        await loading
        loaded: LoadedModel | None = app.state.model
        app.state.model = None
        if loaded is not None:
            await asyncio.to_thread(loaded.batcher.close)


async def _load(app: FastAPI) -> None:
    """Load the model beside the running server; without one there is nothing to run for."""
    source: Source = app.state.source
    try:
        loaded = await asyncio.to_thread(load_model, source, settings=app.state.settings)
    except Exception as error:
        app.state.failure = error
        app.state.stop()
        return
    app.state.model = loaded
    _LOG.info("Ready: %s version %s", source.name, source.version)
