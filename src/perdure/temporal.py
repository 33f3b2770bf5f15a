"""The one way to Temporal: data converter, connection, runtime. Clients, workers, tests and replays share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client, Interceptor
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter, PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import CompositePayloadConverter, DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from perdure.config import Settings
from perdure.errors import InvalidInput

_adapter = lru_cache(maxsize=1_024)(TypeAdapter)


class _Json(PydanticJSONPlainPayloadConverter):
    """Types are looked into once in a process; the stock converter's cache is made anew for every workflow."""

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        adapter: TypeAdapter[Any] = _adapter(Any if type_hint is None else type_hint)
        return adapter.validate_json(payload.data)


class _FailFast(PydanticPayloadConverter):
    """A payload that does not decode fails the workflow at once; by default its task would be retried for ever."""

    def __init__(self) -> None:
        super().__init__()
        ours = (_Json() if isinstance(each, PydanticJSONPlainPayloadConverter) else each for each in self.converters.values())
        CompositePayloadConverter.__init__(self, *ours)

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        try:
            return super().from_payloads(payloads, type_hints)
        except ValidationError as err:
            mistakes = err.errors(include_url=False, include_input=False, include_context=False)
            lines = [f"{'.'.join(str(part) for part in m['loc']) or 'input'}: {m['msg'].removeprefix('Value error, ')}" for m in mistakes]
            raise InvalidInput(
                "the request has mistakes\n  " + "\n  ".join(lines), remedy="see `perdure run --help` and docs/operating.md for the fields"
            ) from err


DATA_CONVERTER: DataConverter = replace(pydantic_data_converter, payload_converter_class=_FailFast)
"""Plain JSON on the wire. A payload codec (encryption) is set here, once, for every process."""


async def connect(settings: Settings, *, runtime: Runtime | None = None, interceptors: Sequence[Interceptor] = ()) -> Client:
    """A client for the configured server. ``TEMPORAL_*`` variables and profiles of the stock CLI go before the settings.

    Raises RuntimeError where the server does not answer.
    """
    options: dict[str, Any] = {"target_host": settings.temporal.address, "namespace": settings.temporal.namespace}
    options |= {key: value for key, value in ClientConfig.load_client_connect_config().items() if value is not None}
    return await Client.connect(**options, data_converter=DATA_CONVERTER, runtime=runtime, interceptors=list(interceptors))


def metered_runtime(port: int, host: str = "127.0.0.1") -> Runtime | None:
    """The process's Temporal runtime with Prometheus metrics on *port*; None (the default runtime) for port 0. Once per process."""
    if not port:
        return None
    return Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=f"{host}:{port}")))


SEARCH_ATTRIBUTES = ("PerdureModel", "PerdurePipeline", "PerdureStage")


async def ensure_search_attributes(client: Client) -> None:
    """Register the keywords by which runs can be listed; a server that has them is left alone. Raises RPCError."""
    known = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    missing = [name for name in SEARCH_ATTRIBUTES if name not in known.custom_attributes]
    if missing:
        kinds = dict.fromkeys(missing, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD)
        await client.operator_service.add_search_attributes(AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds))
