"""Ends processes and what they leave behind, by the session that they share."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import psutil

NONE = -1
"""The number of no session."""

END_SECONDS = 10.0
"""Time that killed processes may take to vanish."""


def fill_standard_descriptors() -> None:
    """Opens those of 0, 1 and 2 that are closed, so that nothing else gets their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def members(session: int) -> list[psutil.Process]:
    """The living processes of a session, without the one that leads it."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):  # it has ended meanwhile
            same = process.pid != session and os.getsid(process.pid) == session
            if same and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_session(session: int, folder: Path) -> None:
    """Kills all that a process has started, and theirs; then removes a folder of theirs."""
    end = time.monotonic() + END_SECONDS
    while (left := members(session)) and time.monotonic() < end:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)
