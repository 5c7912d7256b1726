"""What Dagster is told of is sound in every environment."""

import importlib
import sys

import dagster as dg
import pytest

from dagster_core import resources
from dagster_core.pipelines.test_job import test_job as job_under_test
from dagster_core.pipelines.wait_job import wait_job


@pytest.mark.parametrize("environment", resources.ENVIRONMENTS)
def test_definitions_load(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_ENV", environment)
    # All of it anew: what is chosen by the environment may be chosen while it is imported.
    for name in [it for it in sys.modules if it.split(".")[0] == "dagster_core"]:
        monkeypatch.delitem(sys.modules, name)
    loaded: dg.Definitions = importlib.import_module("dagster_core.definitions").defs
    dg.Definitions.validate_loadable(loaded)
    production = environment == "prod"
    job = loaded.resolve_job_def("refresh_time_zones")
    assert job.run_config == resources.run_config()
    assert resources.use_production_credentials() == production
    assert resources.resources()["warehouse"].statement_timeout_seconds == (
        600 if production else 60
    )
    steps = resources.run_config()["execution"]["config"]["multiprocess"]["max_concurrent"]
    assert steps == (4 if production else 1)
    assert len(resources.years()) == (61 if environment == "prod" else 6)


def test_an_unknown_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_ENV", "live")
    with pytest.raises(ValueError, match="expected one of dev, staging, prod, demo"):
        resources.environment()


def test_the_test_job_succeeds() -> None:
    assert job_under_test.execute_in_process().success


def test_the_wait_job_waits_as_long_as_it_is_told() -> None:
    config = dg.RunConfig(ops={"wait": {"config": {"seconds": 0.01}}})
    assert wait_job.execute_in_process(run_config=config).success
