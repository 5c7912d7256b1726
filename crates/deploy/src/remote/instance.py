"""Runs in a one-off container of the platform's image: `inspect` or `migrate`.

Input: the platform's Compose override, a line of JSON that holds its environment, and then
dagster.yaml. So no secret stands in an argument, and the file that serves is not touched.
`inspect` answers with JSON on its last line; it exits with 43 when dagster.yaml cannot be read.
`told` does the same, and is told the revision of the database instead of asking for it.
"""

import json
import os
import sys
import tempfile

services = json.loads(sys.stdin.readline())["services"]
for key, value in services["dagster-daemon"]["environment"].items():
    os.environ[key] = value.replace("$$", "$")
home = os.environ["DAGSTER_HOME"] = tempfile.mkdtemp()
with open(f"{home}/dagster.yaml", "w") as file:
    file.write(sys.stdin.read())


def inspect() -> None:
    """Tells what this image makes of dagster.yaml and of the database."""
    # `migrate` need not wait for these.
    import dagster
    import dagster_postgres.event_log.event_log as event_log
    from alembic.script import ScriptDirectory
    from dagster._core.instance.ref import InstanceRef
    from dagster_postgres.utils import pg_alembic_config

    try:
        ref = InstanceRef.from_dir(home)
        # What Dagster itself makes of each part only when it is used.
        for part in ("run_launcher", "run_coordinator", "scheduler", "compute_log_manager"):
            getattr(ref, part)
    except Exception as error:
        # Of a configuration error the sentences, without the schema that it quotes.
        for it in getattr(error, "errors", None) or [error]:
            print(str(getattr(it, "message", it)).partition(" Expected: ")[0], file=sys.stderr)
        sys.exit(43)

    scripts = ScriptDirectory.from_config(pg_alembic_config(event_log.__file__))
    schema = sys.argv[2] or None
    if sys.argv[1] == "inspect":
        version = ref.event_storage.alembic_version()
        schema = version[0] if version else None
    known = schema is None or schema in {it.revision for it in scripts.walk_revisions()}
    answer = {
        "dagster": dagster.__version__,
        "schema": schema,
        "head": scripts.get_current_head(),
        "known": known,
    }
    print(f"\ninstance {json.dumps(answer)}")


if sys.argv[1] == "migrate":
    os.execvp("dagster", ["dagster", "instance", "migrate"])
inspect()
