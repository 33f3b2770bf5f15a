"""Who calls the gateway, as a route's parameter."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from perdure.web.keys import Caller, Keys, bearer

__all__ = ["Admin", "Approver", "Caller", "Judge", "Keys", "ModelReader", "OutcomeTeller", "Reader", "Teller", "Worker", "Writer"]


class _With(HTTPBearer):
    """The caller, who must have one scope: description and check in one, as each level of dependencies costs every request."""

    def __init__(self, scope: str) -> None:
        super().__init__(scheme_name="key", description="A key made by `perdure keys create`.", auto_error=False)
        self._scope = scope

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        keys: Keys = request.app.state.parts.keys
        return await bearer(keys, request.headers.get("authorization", ""), self._scope)


Reader = Annotated[Caller, Depends(_With("campaign:read"))]
Writer = Annotated[Caller, Depends(_With("campaign:write"))]
Worker = Annotated[Caller, Depends(_With("label"))]
Judge = Annotated[Caller, Depends(_With("adjudicate"))]
Approver = Annotated[Caller, Depends(_With("promote:approve"))]
Teller = Annotated[Caller, Depends(_With("events:write"))]
OutcomeTeller = Annotated[Caller, Depends(_With("outcomes:write"))]
ModelReader = Annotated[Caller, Depends(_With("model:read"))]
Admin = Annotated[Caller, Depends(_With("admin"))]
"""A route's parameter: the caller, who must have this scope. 401 without a valid key, 403 without the scope."""
