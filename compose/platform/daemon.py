"""`dagster-daemon`, which follows a changed workspace.yaml at once.

Dagster's daemon reads the file once a minute; until it does, it sends runs of new code to the old
code server. Here a change is taken up at once, and every thread of the daemon gives a sign of life
right after it, so that a deploy need not wait to see that all is well.
"""

import os
import time
from pathlib import Path

from dagster._daemon import controller
from dagster._daemon.cli import main

WORKSPACE = Path("/opt/dagster/workspace/workspace.yaml")
# For the health check of the container: touched while all threads live.
ALIVE = Path("/tmp/daemon-alive")

# Seconds between two looks at threads and file: a rollback waits for it.
controller.THREAD_CHECK_INTERVAL = 0.05  # type: ignore[assignment]
refresh_when_due = controller.DagsterDaemonController.check_workspace_freshness


def stamp() -> tuple[int, int] | None:
    """What differs when the file was replaced."""
    try:
        found = os.stat(WORKSPACE)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


seen = stamp()


def follow(self: controller.DagsterDaemonController, last_update: float) -> float:
    """Dagster's own refresh, due as soon as the file is another one."""
    global seen
    ALIVE.touch()
    now = stamp()
    if now in (seen, None):
        return refresh_when_due(self, last_update)
    # Old enough to be due; young enough that a refresh that fails is tried again at the next look
    # instead of ending the daemon.
    due = time.time() - controller.RELOAD_WORKSPACE_INTERVAL - 1
    updated = refresh_when_due(self, due)
    if updated != due:
        seen = now
        for daemon in self._daemons.values():
            daemon._last_heartbeat_time = None
        # Wakes the threads that wait for their next turn; none is told to shut down.
        waiting = self._daemon_shutdown_event._cond  # type: ignore[attr-defined]
        with waiting:
            waiting.notify_all()
    return updated


Daemon = controller.DagsterDaemonController
Daemon.check_workspace_freshness = follow  # type: ignore[method-assign,assignment]

if __name__ == "__main__":
    main()
