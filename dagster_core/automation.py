"""When things run by themselves."""

from importlib.metadata import version

import dagster as dg

from dagster_core.resources import run_config

refresh_job = dg.define_asset_job(
    "refresh_time_zones",
    selection=dg.AssetSelection.groups("time_zones"),
    config=run_config(),
)

nightly = dg.ScheduleDefinition(
    name="nightly", job=refresh_job, cron_schedule="30 2 * * *", execution_timezone="UTC"
)


@dg.sensor(job=refresh_job, minimum_interval_seconds=300)
def new_time_zone_tables(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Refreshes when a deploy brings new tables: their version is the one of `tzdata`."""
    tables = version("tzdata")
    if context.cursor == tables:
        return dg.SkipReason(f"the tables are {tables} still")
    context.update_cursor(tables)
    return dg.RunRequest(run_key=tables)
