"""The fault plan over HTTP: read, set and cleared while the sandbox runs."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.plan import FaultPlanError, read_fault_plan


def fault_routes(faults: ActiveFaults) -> list[Route]:
    """GET, PUT and DELETE of ``/sandbox/faults``.

    Each is answered with the plan that is in force from then on and the count of each rule; a
    wrong plan with 400 and all its problems, and then the plan before stays in force.
    """

    async def show(_: Request) -> Response:
        return JSONResponse(faults.to_json())

    async def put(request: Request) -> Response:
        try:
            value = json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            return _refused(f"the body must be a plan in JSON: {error}")
        if value is None:
            return _refused("the body must be a plan in JSON, not null")
        try:
            faults.set(read_fault_plan(value))
        except FaultPlanError as error:
            return _refused(*error.problems)
        return JSONResponse(faults.to_json())

    async def delete(_: Request) -> Response:
        faults.clear()
        return JSONResponse(faults.to_json())

    path = "/sandbox/faults"
    return [
        Route(path, show, methods=["GET"]),
        Route(path, put, methods=["PUT"]),
        Route(path, delete, methods=["DELETE"]),
    ]


def _refused(*problems: str) -> Response:
    return JSONResponse({"problems": list(problems)}, status_code=400)
