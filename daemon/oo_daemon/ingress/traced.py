"""Traces of the private API: each request is a stretch of work, in its caller's trace where it names one."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from oo_daemon.ingress.answers import Refused
from oo_daemon.ports import Trace


def traced(trace: Trace) -> Middleware:
    """The middleware of the private doors. Strangers cannot add to a trace: it stands behind the guard, and the public door has none."""

    @web.middleware
    async def tracing(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else ""
        if not route.startswith("/v1/"):  # what looks after the daemon asks every few seconds
            return await handler(request)
        with trace.span("api", request.headers.get("traceparent", ""), route=route, method=request.method):
            try:
                response = await handler(request)
            except Refused as refused:
                trace.note(status=refused.status)
                if refused.status >= 500:
                    raise
                answer = refused
            else:
                trace.note(status=response.status)
                return response
        raise answer

    return tracing
