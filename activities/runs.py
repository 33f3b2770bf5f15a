"""A run's beginning, commands and end as rows."""

from __future__ import annotations

from dataclasses import asdict

from temporalio import activity

from perdure.errors import InvalidInput
from perdure.messages.common import Json
from perdure.messages.pipeline import CloseRun, OpenRun, RunCommand, RunPlan
from perdure.ports import PipelineVersion, Runs
from perdure.spec.pipeline import Pipeline, load, with_cutoff, with_params


class RunActivities:
    """Opens and closes runs, records commands."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    @activity.defn(name="runs.open", no_thread_cancel_exception=True)
    def open(self, request: OpenRun) -> RunPlan:
        """The run of this workflow chain and what its workflow must know. Raises InvalidInput, NotFound, Conflict."""
        version = self._version(request)
        spec = self._spec(request, version)
        run = self._runs.open(
            workflow_id=request.workflow_id,
            chain=request.chain,
            pipeline=version.id,
            spec=spec.as_json(),
            request=plain(asdict(request.request)),
            scheduled=activity.info().scheduled_time,
        )
        return RunPlan(
            run_id=run.id,
            pipeline=spec.name,
            pipeline_version=version.id,
            model=spec.model_name,
            patience=spec.patience,
            window=spec.data.window,
            labels=spec.label is not None and request.request.ask,
            compares=spec.evaluate.human is not None,
        )

    def _version(self, request: OpenRun) -> PipelineVersion:
        asked = request.request
        if (asked.pipeline is None) == (asked.spec is None):
            raise InvalidInput(
                "name either an applied pipeline or an inline specification",
                field="pipeline",
                remedy='give {"pipeline": "name"}, or {"spec": {…}}; `perdure apply FILE` makes a pipeline known',
            )
        if asked.pipeline is not None:
            return self._runs.pipeline(asked.pipeline, asked.version)
        spec = load(asked.spec, "spec")
        if spec.code_references:
            raise InvalidInput(
                f"an inline specification cannot bring code, but names {', '.join(spec.code_references)}",
                field="spec",
                remedy="`perdure apply FILE` packages the code beside the file; then start it by name",
            )
        return self._runs.apply(spec.as_json(), spec.sha256, None, None, asked.requested_by)

    def _spec(self, request: OpenRun, version: PipelineVersion) -> Pipeline:
        return with_cutoff(with_params(load(version.spec), request.request.params), request.request.cutoff)

    @activity.defn(name="runs.command", no_thread_cancel_exception=True)
    def command(self, request: RunCommand) -> None:
        """Record a person's command, once per ``command_id``."""
        self._runs.command(request.run_id, request.command, request.command_id, request.actor, request.reason)

    @activity.defn(name="runs.close", no_thread_cancel_exception=True)
    def close(self, request: CloseRun) -> None:
        """Record the run's end; a repeat is a no-op."""
        self._runs.close(request.run_id, request.state, request.error)


def plain(value: Json) -> Json:
    """*value*, fields of a request, as a row holds them."""
    return {
        key: (str(item) if item is not None and not isinstance(item, (bool, int, float, str, dict, list)) else item)
        for key, item in value.items()
    }
