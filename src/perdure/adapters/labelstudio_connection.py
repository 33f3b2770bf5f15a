"""Requests to Label Studio: who asks, for how long, and what an answer means.

A legacy token is sent as it is. A personal access token is only good for fetching access tokens that last for five minutes: one is fetched
before the last one ends.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, NoReturn

import httpx

from perdure.config import LabelStudioSettings, resolve_secret
from perdure.errors import AccessDenied, InvalidInput, LabelStudioUnavailable, NotFound, bounded

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
EARLY = 60.0  # seconds before its end at which an access token is replaced
_LOGIN = re.compile(r"//[^/]*@")
_LEGACY = re.compile(r"[0-9a-f]{40}")


class Connection:
    """One server. Thread-safe. *clock* tells seconds. Whatever asks raises LabelStudioUnavailable, AccessDenied, NotFound, InvalidInput."""

    def __init__(self, settings: LabelStudioSettings, clock: Callable[[], float], **transport: Any) -> None:
        self.address = _LOGIN.sub("//", settings.url or "").rstrip("/")  # it is shown, in rows too: never with a password
        self._token, self._clock = settings.token, clock
        self._http = httpx.Client(timeout=TIMEOUT, trust_env=False, **transport)
        self._lock = threading.Lock()
        self._access: tuple[str, float] | None = None  # an access token, and when it is to be replaced

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    def json(self, method: str, path: str, **more: Any) -> Any:
        """What is answered to a request."""
        return self.read(self.request(method, path, **more))

    def read(self, answer: httpx.Response) -> Any:
        """The body of an answer. Raises InvalidInput for one that is no API's."""
        try:
            return answer.json()
        except ValueError:
            raise InvalidInput(
                f"{self.address} answers with a page, not as Label Studio's API does",
                field="labelstudio.url",
                remedy="name the address under which Label Studio's own pages begin",
            ) from None

    def request(self, method: str, path: str, judged: Collection[int] = (), **more: Any) -> httpx.Response:
        """A good answer to a request, or one with a status that its caller judges."""
        if not self.address:
            raise InvalidInput(
                "no Label Studio is set, and the campaign wants one", field="labelstudio.url", remedy="set PERDURE_LABELSTUDIO__URL"
            )
        for last in (False, True):
            with self._translated():
                answer = self._http.request(method, self.address + path, headers=self._proof(), **more)
            if answer.status_code == httpx.codes.UNAUTHORIZED and not last and self._forget():
                continue  # an access token that ended early
            if not answer.is_success and answer.status_code not in judged:
                self._refuse(answer)
            return answer
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def stream(self, path: str, **more: Any) -> Iterator[Iterator[str]]:
        """The text of a good answer, piece by piece. Raises LabelStudioUnavailable where it breaks off."""
        with (
            self._translated(),
            self._http.stream("GET", self.address + path, headers=self._proof(), **more) as answer,
        ):
            if not answer.is_success:
                answer.read()
                self._refuse(answer)
            yield self._pieces(answer)

    def _pieces(self, answer: httpx.Response) -> Iterator[str]:
        with self._translated():
            yield from answer.iter_text(1 << 16)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise InvalidInput(f"{self.address!r} is no address", field="labelstudio.url", remedy="write http://host:port") from None
        except (httpx.HTTPError, httpx.StreamError) as err:
            raise LabelStudioUnavailable(f"Label Studio at {self.address} does not answer: {type(err).__name__}") from err

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        """Raise what the answer means."""
        code = answer.status_code
        told = f"Label Studio at {self.address} answered {code}: {said(answer)}"
        if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise AccessDenied(told, field="labelstudio.token", remedy="make a token of somebody who may change the project")
        if code == httpx.codes.NOT_FOUND:
            raise NotFound(told, field="labelstudio.project", remedy="restore the project in Label Studio, or close the campaign")
        if code in (408, 429) or code >= 500 or answer.is_redirect:
            raise LabelStudioUnavailable(told)
        raise InvalidInput(told, field="labelstudio", remedy="see what Label Studio says")

    def _proof(self) -> dict[str, str]:
        if not self._token:
            raise InvalidInput("a token of Label Studio is needed", field="labelstudio.token", remedy="set PERDURE_LABELSTUDIO__TOKEN")
        token = resolve_secret(self._token)
        if _LEGACY.fullmatch(token):
            return {"Authorization": f"Token {token}"}
        if token.count(".") != 2:
            raise InvalidInput(
                "this is no token of Label Studio", field="labelstudio.token", remedy="copy it whole from your account there"
            )
        with self._lock:
            if self._access is None or self._clock() >= self._access[1]:
                self._access = self._fetch(token)
            return {"Authorization": f"Bearer {self._access[0]}"}

    def _fetch(self, token: str) -> tuple[str, float]:
        with self._translated():
            answer = self._http.post(f"{self.address}/api/token/refresh", json={"refresh": token})
        if not answer.is_success:
            self._refuse(answer)
        access = str(self.read(answer).get("access"))
        return access, self._clock() + max(_lasts(access) - EARLY, 0.0)

    def _forget(self) -> bool:
        """Whether there was an access token that may have ended."""
        with self._lock:
            known, self._access = self._access, None
        return known is not None


def _lasts(access: str) -> float:
    """Seconds from now until an access token ends, by its own two times: clocks here and there may differ."""
    try:
        body = access.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return float(claims["exp"] - claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError):
        return 0.0  # one for each request


def said(answer: httpx.Response) -> str:
    """Why a request was refused, in Label Studio's words."""
    try:
        body = answer.json()
        wrong = body.get("validation_errors") or body.get("detail")
    except (ValueError, AttributeError):
        return answer.reason_phrase
    return bounded(wrong if isinstance(wrong, str) else json.dumps(wrong, ensure_ascii=False), 500)
