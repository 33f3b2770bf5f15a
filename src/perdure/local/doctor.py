"""Whether everything that the settings name is there, lets us in, is new enough and does what Perdure relies on; and if not, what to do."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from uuid import uuid4

import httpx
from sqlalchemy import create_engine, text
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.service import RPCError, RPCStatusCode

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings, resolve_secret
from perdure.errors import AccessDenied, Conflict, NotFound, PerdureError
from perdure.local import ports
from perdure.local.configuration import is_embedded
from perdure.local.files import Home, read_json
from perdure.local.servers import SERVERS, fits
from perdure.local.stack import running, status
from perdure.metadata import upgrade
from perdure.metadata.database import connect_args, translated, url
from perdure.temporal import SEARCH_ATTRIBUTES, connect

OLDEST_POSTGRES = 16
OLDEST_TEMPORAL = (1, 29)  # the oldest server that the tests have seen
SKEW = 2.0  # seconds; signatures of S3 requests bear 15 minutes, the order of recorded times does not
ROOM = 2 << 30  # bytes
ANSWER = httpx.Timeout(10, connect=3)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding. What is ``optional`` stops no pipeline that can do without it."""

    name: str
    ok: bool
    detail: str
    remedy: str | None = None
    optional: bool = False


def doctor(home: Path) -> list[Check]:
    """Look at everything at once; takes seconds, changes nothing. Every failed check names its remedy."""
    folder = Home(home.absolute())
    try:
        settings = Settings(home=folder.path)
    except ValueError as err:  # pydantic's and JSON's errors
        return [Check(name="settings", ok=False, detail=str(err), remedy=f"mend {folder.settings} or the PERDURE_* variable named above")]
    looks: dict[str, Callable[[], Iterator[Check]]] = {
        "machine": lambda: _machine(folder),
        "local stack": lambda: _stack(folder),
        "postgres": lambda: _postgres(settings),
        "s3": lambda: _s3(settings),
        "temporal": lambda: iter(asyncio.run(_temporal(settings))),
        "ray": lambda: _ray(settings),
        "mlflow": lambda: _mlflow(settings),
    }
    down = not running(folder)
    with ThreadPoolExecutor(len(looks)) as pool:
        found = pool.map(lambda item: _guarded(*item), looks.items())
    checks = [check for group in found for check in group]
    embedded = {name for name in looks if is_embedded(folder, settings, name)}
    return [replace(check, remedy="run `perdure up`") if down and not check.ok and check.name in embedded else check for check in checks]


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> list[Check]:
    """The findings of one look; what stops it becomes the last of them."""
    checks: list[Check] = []
    optional = name in ("ray", "mlflow")
    try:
        checks += look()
    except PerdureError as err:
        checks.append(
            Check(name=name, ok=False, detail=err.problem, remedy=err.remedy or f"correct the settings of {name}", optional=optional)
        )
    except Exception as err:
        remedy = f"see that {name} runs and that its address in the settings is right"
        checks.append(Check(name=name, ok=False, detail=f"{type(err).__name__}: {err}", remedy=remedy, optional=optional))
    return checks


def _machine(home: Home) -> Iterator[Check]:
    place = next(folder for folder in (home.path, *home.path.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    remedy = None if free >= ROOM else f"free at least {ROOM >> 30} GiB there, or set PERDURE_HOME to another disk"
    yield Check(name="disk", ok=free >= ROOM, detail=f"{free / (1 << 30):.1f} GiB free for {home.path}", remedy=remedy)
    if not running(home):
        taken = {name: port for name, port in read_json(home.ports).items() if not ports.free(port)}
        yield Check(
            name="ports",
            ok=not taken,
            detail=f"taken by other programs: {', '.join(f'{port} ({name})' for name, port in taken.items())}" if taken else "free",
            remedy="nothing to do: the next `perdure up` picks other ones and rewrites the settings" if taken else None,
            optional=True,
        )


def _stack(home: Home) -> Iterator[Check]:
    """The embedded servers: whether their programs fit, and what the supervisor says of them."""
    for server in SERVERS:
        program = home.bin / server.binary
        if program.exists() and not fits(server, program):
            remedy = f"remove {program} and run `perdure up`"
            yield Check(name=server.binary, ok=False, detail=f"{program} does not run or is too old", remedy=remedy)
    if not running(home):
        yield Check(name="local stack", ok=True, detail="not running")
        return
    for service in status(home.path):
        if service.state != "ready":
            detail = f"{service.name} is {service.state}{f': {service.detail}' if service.detail else ''}"
            yield Check(name="local stack", ok=False, detail=detail, remedy=f"read {service.log}", optional=service.background)
    yield Check(name="local stack", ok=True, detail=f"running in {home.path}")


def _postgres(settings: Settings) -> Iterator[Check]:
    with translated():
        engine = create_engine(url(settings.postgres), connect_args=connect_args(settings.postgres))
        try:
            with engine.connect() as connection:
                asked = time.time()
                version, now = connection.execute(
                    text("select current_setting('server_version'), extract(epoch from clock_timestamp())")
                ).one()
                yield _clock("postgres", float(now), asked)
        finally:
            engine.dispose()
    yield _recent("postgres", version, (OLDEST_POSTGRES,))
    yield Check(name="schema", ok=True, detail=f"revision {upgrade.check(settings)}")


def _s3(settings: Settings) -> Iterator[Check]:
    store = ObjectStore(settings.s3, attempts=1)
    where = settings.s3.endpoint or f"https://s3.{settings.s3.region}.amazonaws.com"
    asked = time.time()
    with suppress(httpx.HTTPError, KeyError):  # unreachable: the next request tells it better
        yield _clock("s3", parsedate_to_datetime(httpx.get(where, timeout=ANSWER).headers["date"]).timestamp() + 0.5, asked)
    key = f"doctor/{uuid4()}"
    store.write(key, b"1", if_none_match=True)
    try:
        yield Check(name="s3", ok=True, detail=f"{where}, bucket {store.bucket}: reads and writes")
        refused = [_refuses(store, key, if_none_match=True), _refuses(store, key, if_match='"00000000000000000000000000000000"')]
        held = store.read(key)
        honoured = all(refused) and held is not None and held[0] == b"1"
        remedy = None if honoured else "use an S3 server with conditional writes: without them a stale writer could overwrite a newer one"
        detail = "honoured" if honoured else "ignored"
        yield Check(name="s3 conditions", ok=honoured, detail=f"If-Match and If-None-Match are {detail}", remedy=remedy)
    finally:
        store.delete([key])


def _refuses(store: ObjectStore, key: str, *, if_match: str | None = None, if_none_match: bool = False) -> bool:
    try:
        store.write(key, b"2", if_match=if_match, if_none_match=if_none_match)
    except Conflict:
        return True
    return False


async def _temporal(settings: Settings) -> list[Check]:
    try:
        client = await asyncio.wait_for(connect(settings), 10)
    except (RuntimeError, TimeoutError) as err:
        raise NotFound(
            f"{settings.temporal.address} does not answer: {err or 'no answer within 10 s'}",
            remedy="see that the server runs; correct PERDURE_TEMPORAL__ADDRESS or the TEMPORAL_* variables and profile",
        ) from err
    info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    checks = [_recent("temporal", info.server_version, OLDEST_TEMPORAL)]
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
        known = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    except RPCError as err:
        if err.status is RPCStatusCode.NOT_FOUND:
            create = f"temporal operator namespace create -n {client.namespace}"
            raise NotFound(f"namespace {client.namespace!r} does not exist", remedy=f"name another, or run: {create}") from err
        if err.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
            raise AccessDenied(
                f"Temporal refused us: {err.message}", remedy="set TEMPORAL_API_KEY or the TLS files of the profile"
            ) from err
        raise
    missing = [name for name in SEARCH_ATTRIBUTES if name not in known.custom_attributes]
    detail = f"missing: {', '.join(missing)}" if missing else "registered"
    remedy = "start a worker, which registers them, or have an administrator do so" if missing else None
    checks.append(Check(name="search attributes", ok=not missing, detail=detail, remedy=remedy))
    await asyncio.sleep(0.05)  # the SDK must not meet the end of its loop right after a call
    return checks


def _ray(settings: Settings) -> Iterator[Check]:
    if settings.ray.url is None:
        yield Check(name="ray", ok=True, detail="none: jobs run as local processes", optional=True)
        return
    headers = {"Authorization": f"Bearer {resolve_secret(settings.ray.token)}"} if settings.ray.token else {}
    answer = httpx.get(f"{settings.ray.url.rstrip('/')}/api/version", headers=headers, timeout=ANSWER)
    if answer.status_code in (401, 403):
        raise AccessDenied(f"{settings.ray.url} refused the token", remedy="let PERDURE_RAY__TOKEN name the cluster's token")
    there = str(answer.raise_for_status().json()["ray_version"])
    here = importlib.metadata.version("ray") if _installed("ray") else there
    same = there.split(".")[:2] == here.split(".")[:2]
    remedy = None if same else f"install ray {there} here or {here} on the cluster"
    yield Check(name="ray", ok=same, detail=f"{there} at {settings.ray.url}; installed here: {here}", remedy=remedy, optional=True)


def _mlflow(settings: Settings) -> Iterator[Check]:
    if settings.mlflow.url is None:
        yield Check(name="mlflow", ok=True, detail="none: nothing is projected", optional=True)
        return
    answer = httpx.get(f"{settings.mlflow.url.rstrip('/')}/version", timeout=ANSWER)
    if answer.status_code in (401, 403):
        raise AccessDenied(f"{settings.mlflow.url} refused us", remedy="give the reconciler MLFLOW_TRACKING_USERNAME and _PASSWORD")
    yield replace(_recent("mlflow", answer.raise_for_status().text.strip(), (3,)), optional=True)


def _recent(name: str, version: str, oldest: tuple[int, ...]) -> Check:
    """Whether *version* is at least *oldest*."""
    numbers = tuple(int(part) for part in version.split()[0].split(".") if part.isdigit())
    wanted = ".".join(map(str, oldest))
    ok = numbers >= oldest
    return Check(name=name, ok=ok, detail=f"version {version}", remedy=None if ok else f"upgrade {name} to {wanted} or newer")


def _clock(name: str, theirs: float, asked: float) -> Check:
    """Whether another machine's clock, asked at *asked* and answered now, agrees with ours."""
    apart = max(0.0, asked - theirs, theirs - time.time())
    remedy = None if apart <= SKEW else "keep the clocks of both machines by NTP"
    return Check(name="clock", ok=apart <= SKEW, detail=f"{apart:.1f} s apart from {name}", remedy=remedy)


def _installed(package: str) -> bool:
    with suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version(package))
    return False
