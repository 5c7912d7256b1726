"""All that Dagster is told of."""

import dagster as dg

from dagster_core import assets, automation
from dagster_core.pipelines.test_job import test_job
from dagster_core.pipelines.wait_job import wait_job
from dagster_core.resources import resources

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    asset_checks=dg.load_asset_checks_from_modules([assets]),
    jobs=[automation.refresh_job, test_job, wait_job],
    schedules=[automation.nightly],
    sensors=[automation.new_time_zone_tables],
    resources=resources(),
)
