"""The deployment on Ray Serve, as far as it can be checked without a cluster; `python -m benchmarks.serving_ray` runs one."""

from __future__ import annotations

import warnings
from pathlib import Path

import yaml
from fastapi import FastAPI

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray Serve declares its settings in an older way
    from perdure.serving import on_ray
    from perdure.serving.on_ray import Scaling, application

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "infra" / "ray-serve.yaml").read_text())


def test_the_configuration_names_what_is_there_and_scales_to_none() -> None:
    [each] = CONFIG["applications"]
    module, _, name = each["import_path"].partition(":")
    assert (module, getattr(on_ray, name)) == (on_ray.__name__, application)
    made = application(Scaling(**each["args"]))
    config = made._bound_deployment._deployment_config
    assert (config.autoscaling_config.min_replicas, config.autoscaling_config.max_replicas) == (0, each["args"]["max_replicas"])
    assert config.autoscaling_config.target_ongoing_requests == each["args"]["ongoing_requests"]


def test_a_replica_makes_the_usual_application() -> None:
    paths = {route.path for route in on_ray._made().routes}  # type: ignore[attr-defined]
    assert isinstance(on_ray._made(), FastAPI)
    assert {"/v1/models/{model}/predict", "/v2/models/{model}/infer", "/readyz"} <= paths
