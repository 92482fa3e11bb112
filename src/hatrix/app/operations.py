"""What watches over the service ask: is it alive, is it ready, what has it counted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from hatrix.app.asking import known_parameters
from hatrix.app.metrics import CONTENT_TYPE
from hatrix.app.problems import without_places

__all__ = ["router"]

router = APIRouter(tags=["operation"])


@router.get("/health/live", name="live")
async def live() -> dict[str, str]:
    """Whether the process answers: start it anew where it does not."""
    return {"status": "alive"}


@router.get("/health/ready", name="ready", responses={503: {"description": "not yet"}})
async def ready(request: Request, response: Response) -> dict[str, Any]:
    """Whether requests should be sent here: the model is loaded and what it needs worked out.

    A model file that is refused or gone is told of, and the service is ready all the same, with the model before it.
    """
    service = request.app.state.service
    served, fault = service.live.current, service.live.fault
    response.status_code = 200 if service.ready else 503
    return {
        "status": "ready" if service.ready else "starting",
        "model": served.version,
        "loaded": served.loaded.isoformat(timespec="seconds"),
        "refused": None if fault is None else without_places(fault, service.live.path),
        "file": "gone" if service.live.gone else "there",
    }


@router.get(
    "/metrics",
    name="metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    dependencies=[Depends(known_parameters)],
)
def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    return Response(request.app.state.service.metrics.text(), headers={"content-type": CONTENT_TYPE})
