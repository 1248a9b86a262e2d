"""A process that gives way, and one that ends with its parent."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.jobs.desk import gone, until


def test_a_low_one_is_nice() -> None:
    code = "import os; from bimodal.jobs import priority; priority.low(); print(os.nice(0), os.sched_getscheduler(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(min(19, os.nice(0) + 10)), str(os.sched_getscheduler(0))]


def test_an_idle_process_says_so_to_the_system() -> None:
    script = (
        "import os; from bimodal.jobs import priority; priority.idle(); print(os.nice(0), os.sched_getscheduler(0))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["19", str(os.SCHED_IDLE)]


def test_a_process_ends_with_its_parent_even_if_that_is_killed() -> None:
    child = (
        "import os, time; from bimodal.jobs import priority; priority.die_with(os.getppid()); "
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    until(lambda: gone(pid))
    parent.stdout.close()
