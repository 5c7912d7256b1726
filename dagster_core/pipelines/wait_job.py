"""A job that takes as long as it is told: a deploy must not end it."""

import time

import dagster as dg


class Wait(dg.Config):
    """How long."""

    seconds: float = 60.0


@dg.op
def wait(context: dg.OpExecutionContext, config: Wait) -> None:
    """Waits."""
    context.log.info("waiting %.1f s", config.seconds)
    time.sleep(config.seconds)


@dg.job(executor_def=dg.in_process_executor)
def wait_job() -> None:
    """Waits, to be in flight while something else happens."""
    wait()
