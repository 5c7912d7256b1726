"""Runs the platform's processes, and ends them all when its standard input ends.

The other end of that is held by whoever started this. However that one ends, its end is closed: so
no process is ever left.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path


def main(logs: Path, services: dict[str, list[str]]) -> None:
    """Tells the name of each that ends before."""
    running = {}
    for name, command in services.items():
        with open(logs / f"{name}.log", "wb") as log:
            running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.wait(0.5):
        for name in [name for name, process in running.items() if process.poll() is not None]:
            del running[name]
            print(name, flush=True)
    # Whoever made this folder may be gone.
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    # The group holds all of them and the runs they started; this process leads it. What counts is
    # in SQLite, which bears that.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
