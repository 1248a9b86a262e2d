"""examples/scheduling: what cron, systemd, Kubernetes and Airflow are given is well-formed, and whoever of them fires a
due time, and however often, it has one result.

Airflow itself, in an environment of its own that pip makes (two minutes, 300 MB):
`python tasks.py test tests/examples/test_scheduling.py -m soak -s`, or with AIRFLOW=/path/to/venv/bin/airflow.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from bimodal.config import read
from bimodal.jobs.schedule import Schedule
from tests.examples.story import EXAMPLES, asked, told

HOME = "/srv/scores"
FOLDER = EXAMPLES / "scheduling"
AIRFLOW = "apache-airflow==3.1.8"


def units(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their capitals
    parser.read_string((FOLDER / name).read_text())
    return parser


def cron_line() -> tuple[str, str]:
    """When, and what."""
    lines = (FOLDER / "bimodal.crontab").read_text().splitlines()
    (line,) = (each for each in lines if re.match(r"[\d*]", each))
    *when, command = line.split(maxsplit=5)
    return " ".join(when), command


def cronjob() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "cronjob.yaml").read_text())
    return found


def container() -> dict[str, Any]:
    found: dict[str, Any] = cronjob()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the example with an environment where the files expect one."""
    place = tmp_path / "scores"
    shutil.copytree(FOLDER, place)
    (place / "venv/bin").mkdir(parents=True)
    (place / "venv/bin/bimodal").symlink_to(Path(sys.executable).with_name("bimodal"))
    for path in place.iterdir():
        if path.is_file():
            path.write_text(path.read_text().replace(HOME, str(place)))
    return place


def test_the_readme_fires_twice(tmp_path: Path) -> None:
    with told("scheduling", tmp_path) as reader:
        assert asked(reader.folder / "payments.db", "SELECT payment, prediction FROM checked ORDER BY payment") == [
            ("p1", 0),
            ("p2", 1),
            ("p3", 0),
            ("p4", 1),
        ]


def test_whoever_fires_a_due_time_it_has_one_result(home: Path) -> None:
    """Side by side, with the environment that each of them gives."""
    fired = {
        "cron": (["/bin/sh", "-c", cron_line()[1].replace(HOME, str(home))], Path("/"), {"PATH": "/usr/bin:/bin"}),
        "systemd": (
            shlex.split(units("bimodal-nightly.service")["Service"]["ExecStart"].replace(HOME, str(home))),
            home,
            {"PATH": "/usr/bin:/bin"},
        ),
        "kubernetes": (container()["command"], home, {"PATH": f"{home}/venv/bin:{os.environ['PATH']}"}),
    }
    kept = {name: value for name, value in os.environ.items() if name.startswith("BIMODAL_")}
    children = {
        name: subprocess.Popen(
            command,
            cwd=place,
            env={**kept, "HOME": str(home), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, (command, place, variables) in fired.items()
    }
    said = {name: child.communicate(timeout=120)[0] for name, child in children.items()}
    assert {name: child.returncode for name, child in children.items()} == dict.fromkeys(fired, 0), said
    assert said["cron"] == "", "a mail is sent of nothing but errors"
    assert asked(home / "payments.db", "SELECT count(*) FROM checked") == [(4,)]
    assert asked(home / ".bimodal/state.db", "SELECT status FROM bimodal_jobs_runs") == [("succeeded",)]


def test_all_mean_the_same_time() -> None:
    """A minute after the due time at the latest, never before it."""
    table = read(FOLDER / "bimodal.toml").jobs["nightly"]
    schedule = Schedule.of(table)
    assert schedule is not None
    due = schedule.after(datetime(2026, 3, 30, tzinfo=ZoneInfo("UTC")).timestamp())
    assert due is not None
    when, _ = cron_line()
    assert f"CRON_TZ={table.timezone}" in (FOLDER / "bimodal.crontab").read_text()
    timer = units("bimodal-nightly.timer")["Timer"]["OnCalendar"]
    found = re.fullmatch(r"\*-\*-\* (\d\d):(\d\d):(\d\d) (\S+)", timer)
    assert found is not None
    spec = cronjob()["spec"]
    dag = (FOLDER / "nightly_scores.py").read_text()
    moment = datetime.fromtimestamp(due, ZoneInfo(table.timezone))
    assert when == f"{moment.minute + 1} {moment.hour} * * *"
    assert (int(found[1]), int(found[2]), found[4]) == (moment.hour, moment.minute, table.timezone)
    assert (spec["schedule"], spec["timeZone"]) == (table.schedule, table.timezone)
    assert f'schedule="{table.schedule}"' in dag
    assert f'tz="{table.timezone}"' in dag


def test_the_units_of_systemd_are_well_formed(home: Path) -> None:
    service, timer, up = (units(f"bimodal-{name}") for name in ("nightly.service", "nightly.timer", "up.service"))
    assert set(service["Service"]) >= {"Type", "User", "WorkingDirectory", "ExecStart"}
    assert service["Service"]["Type"] == "oneshot"
    assert timer["Timer"]["Persistent"] == "yes" or timer["Timer"].getboolean("Persistent")
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert up["Install"]["WantedBy"] == "multi-user.target"
    verify = shutil.which("systemd-analyze")
    if verify is not None:
        names = [str(home / f"bimodal-{each}") for each in ("nightly.timer", "nightly.service", "up.service")]
        done = subprocess.run([verify, "verify", "--man=no", *names], capture_output=True, text=True, check=False)
        assert (done.returncode, [line for line in done.stderr.splitlines() if "bimodal" in line]) == (0, [])


def test_the_cronjob_is_one_of_kubernetes() -> None:
    """Its fields are those of batch/v1, spelled and nested as the API has them."""
    manifest = cronjob()
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "CronJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", manifest["metadata"]["name"])
    spec = manifest["spec"]
    job, pod = spec["jobTemplate"]["spec"], spec["jobTemplate"]["spec"]["template"]["spec"]
    assert set(spec) <= {
        "schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds", "suspend",
        "successfulJobsHistoryLimit", "failedJobsHistoryLimit", "jobTemplate",
    }  # fmt: skip
    assert spec["concurrencyPolicy"] in ("Allow", "Forbid", "Replace")
    assert set(job) <= {"backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "template"}
    assert pod["restartPolicy"] in ("Never", "OnFailure"), "what a job's pod may have"
    assert pod["terminationGracePeriodSeconds"] > 10, "a run has ten seconds to end resumably"
    one = container()
    assert set(one) <= {"name", "image", "command", "args", "workingDir", "env", "resources", "volumeMounts"}
    assert all(isinstance(each, str) for each in one["command"])
    assert {each["name"] for each in one["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    assert one["workingDir"] in [each["mountPath"] for each in one["volumeMounts"]]
    assert all(set(each) == {"name", "valueFrom"} for each in one["env"]), "no secret stands in the file"


@pytest.mark.soak
def test_airflow_fires_a_day_twice(home: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    (tmp_path / "dags").mkdir()
    shutil.copy(home / "nightly_scores.py", tmp_path / "dags")
    airflow = os.environ.get("AIRFLOW") or installed(tmp_path)
    day = "2026-03-30T02:00:00+02:00"
    for command in (["db", "migrate"], ["dags", "reserialize"], *[["dags", "test", "nightly_scores", day]] * 2):
        done = subprocess.run(
            [airflow, *command], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded already" in done.stdout + done.stderr
    assert asked(home / "payments.db", "SELECT count(*) FROM checked") == [(4,)]
    due = datetime.fromisoformat(day).timestamp()
    assert asked(home / ".bimodal/state.db", "SELECT slot, status FROM bimodal_jobs_runs") == [
        (f"due:{due:.0f}", "succeeded")
    ]


def installed(folder: Path) -> str:
    """Airflow in an environment of its own."""
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin/pip"), "install", "-q", AIRFLOW], check=True, timeout=900)
    return str(venv / "bin/airflow")
