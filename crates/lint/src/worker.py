"""Runs `python -m MODULE ARGUMENTS` for one lint after another, with the modules imported already.

A call runs in a process forked for it, so none sees what another left. Usage: worker.py SOCKET
SECONDS; it leaves the terminal, and ends by itself when it was not asked anything for SECONDS, or
when SOCKET is no longer its own.

Asked by one line of JSON, {"module", "args", "dir", "nice"}, it answers a dot a second while the
call runs, and then one line of JSON, {"status", "stdout", "stderr"}, of which the last two are
lengths; the outputs follow. Whoever closes the connection earlier ends the call.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import traceback

# What the linters import in any case. One that is missing is imported, or missed, by its call.
MODULES = [
    "black",
    "black.concurrency",
    "isort.main",
    "flake8.main.cli",
    "flake8.plugins.pycodestyle",
    "flake8.plugins.pyflakes",
    "mccabe",
    "mypy.main",
    "concurrent.futures.process",
    "asyncio",
]


def leave_terminal():
    """Goes on as a process of nobody; the caller sees this one end."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    # What was inherited is not its own to hold: a lock, or the end of somebody's pipe.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def serve(path, seconds):
    """Answers until nobody asks any more."""
    listener = socket.socket(socket.AF_UNIX)
    os.umask(0o077)
    # A socket's address has room for about a hundred bytes: its name fits, its whole path may not.
    folder, path = os.path.split(path)
    os.chdir(folder)
    # Bound under another name and then renamed: whoever finds it can connect.
    own = f"{path}.{os.getpid()}"
    listener.bind(own)
    listener.listen(16)
    inode = os.stat(own).st_ino
    os.rename(own, path)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    left = seconds
    while left > 0:
        ready, _, _ = select.select([listener], [], [], min(left, 10))
        try:
            if os.stat(path).st_ino != inode:
                return
        except FileNotFoundError:
            return
        if not ready:
            left -= 10
            continue
        left = seconds
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            try:
                answer(connection)
            finally:
                os._exit(0)
        connection.close()
    os.unlink(path)


def answer(connection):
    """Runs one call and tells what came of it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rb", buffering=0) as lines:
        asked = json.loads(lines.readline())
    outputs = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]
    ended, ends = os.pipe()
    pid = os.fork()
    if pid == 0:
        call(asked, connection, outputs)
    os.close(ends)
    lead_group(pid)
    while True:
        ready, _, _ = select.select([connection, ended], [], [], 1)
        if ended in ready:
            break
        if connection in ready:
            # Nothing more is to be said by a lint that lives.
            os.killpg(pid, signal.SIGKILL)
            return
        if not ready:
            connection.sendall(b".")
    _, status = os.waitpid(pid, 0)
    said = []
    for output in outputs:
        output.seek(0)
        said.append(output.read())
    head = {"status": status, "stdout": len(said[0]), "stderr": len(said[1])}
    connection.sendall(json.dumps(head).encode() + b"\n" + said[0] + said[1])


def lead_group(pid):
    """Both sides ask for it: whichever is first, it is so before anyone is killed."""
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass


def call(asked, connection, outputs):
    """As `python -m MODULE ARGUMENTS` would; does not return."""
    code = 1
    try:
        lead_group(0)
        connection.close()
        for fd, output in zip((1, 2), outputs):
            os.dup2(output.fileno(), fd)
        os.chdir(asked["dir"])
        os.nice(asked["nice"])
        sys.argv = [asked["module"], *asked["args"]]
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if end.code is None:
            code = 0
        elif isinstance(end.code, int):
            code = end.code
        else:
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code & 0xFF)


if __name__ == "__main__":
    leave_terminal()
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    # What is there now is shared with every call for as long as nobody moves it.
    gc.collect()
    gc.freeze()
    serve(sys.argv[1], int(sys.argv[2]))
