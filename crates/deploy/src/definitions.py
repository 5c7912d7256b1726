"""Tells what a Dagster project defines, as JSON, without an instance or a network.

Arguments: the module, a folder to unpack into, seconds to wait. Input: a tar of the code; in it
`.environment` holds the variables and `.core.yaml` the Compose file that adds to them.
Exit status: 0 told, 41 the code does not load (its traceback is on standard error).
"""

import importlib
import json
import os
import signal
import sys
import tarfile
import traceback

import yaml
from dagster._core.definitions.reconstruct import repository_def_from_target_def
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module

module, folder, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
# What the code prints is not the answer.
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

os.makedirs(folder)
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
    tar.extractall(folder)
os.chdir(folder)
sys.path.insert(0, folder)
with open(".core.yaml") as compose:
    for service in yaml.safe_load(compose)["services"].values():
        for key, value in service.get("environment", {}).items():
            # `${…}` is what only a deploy knows.
            os.environ.setdefault(key, "" if "${" in str(value) else str(value))
with open(".environment") as variables:
    os.environ.update(json.load(variables))
os.remove(".environment")


def too_late(*_):
    raise TimeoutError(f"the code is not imported after {limit} s")


signal.signal(signal.SIGALRM, too_late)
signal.alarm(limit)
try:
    importlib.import_module(module)
    targets = loadable_targets_from_python_module(module, folder)
    found = [repository_def_from_target_def(it.target_definition) for it in targets]
    snap = RepositorySnap.from_def(next(it for it in found if it is not None), defer_snapshots=True)
except BaseException as error:
    # It begins where the team's code does.
    frame = error.__traceback__
    while frame.tb_next and not frame.tb_frame.f_code.co_filename.startswith(folder):
        frame = frame.tb_next
    if not frame.tb_frame.f_code.co_filename.startswith(folder):
        frame = error.__traceback__
    traceback.print_exception(type(error), error, frame)
    sys.exit(41)
signal.alarm(0)


def on(definition):
    return definition.default_status is not None and definition.default_status.value == "RUNNING"


json.dump(
    {
        "jobs": [it.name for it in snap.job_refs if not it.name.startswith("__")],
        "assets": ["/".join(it.asset_key.path) for it in snap.asset_nodes],
        "schedules": {
            it.name: {
                "cron": str(it.cron_schedule),
                "timezone": it.execution_timezone,
                "job": it.job_name,
                "on_by_default": on(it),
            }
            for it in snap.schedules
        },
        "sensors": {
            it.name: {
                "interval": it.min_interval or 30,
                "jobs": [target.job_name for target in it.target_dict.values()],
                "on_by_default": on(it),
            }
            for it in snap.sensors
        },
    },
    answer,
)
answer.close()
