"""Refuses query parameters that a route does not read: a misspelt one would change nothing without a word."""

from __future__ import annotations

import re
from difflib import get_close_matches

from fastapi import Request
from fastapi.routing import APIRoute

from service.errors import ServiceError


async def refuse_unknown_query(request: Request) -> None:
    """Dependency of a router: 422 for a parameter that its route does not declare, or that comes twice."""
    route: APIRoute = request.scope["route"]
    known = [parameter.alias for parameter in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise _unknown(name, known=known, path=route.path)
        if len(request.query_params.getlist(name)) > 1:
            message = f"Expected the query parameter {name} once, received it several times."
            raise ServiceError(422, error="invalid_request", message=message)


def _unknown(name: str, *, known: list[str], path: str) -> ServiceError:
    expected = (
        f"Expected the query parameter {' or '.join(known)}" if known else "Expected no query parameter"
    )
    plain = {re.sub(r"\W|_", "", item).lower(): item for item in known}
    close = get_close_matches(re.sub(r"\W|_", "", name).lower(), plain, n=1)
    return ServiceError(
        422,
        error="unknown_parameter",
        message=f"Expected {expected} at {path}, received {name[:100]!r}.",
        hint=f"Did you mean {plain[close[0]]}?" if close else None,
    )
