"""A DAG for Airflow 3: the file goes into its dags folder; bimodal has an environment of its own, in /srv/scores/venv.

The date of the run is handed over, so that a task that is cleared, retried or backfilled means the same day, and its
result is there once. Airflow's SIGTERM ends a run resumably.
"""

from datetime import timedelta

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

DAY = "{{ logical_date.in_timezone('Europe/Vienna').date() }}"

with DAG(
    dag_id="nightly_scores",
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Vienna"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
):
    BashOperator(
        task_id="score",
        bash_command=f"/srv/scores/venv/bin/bimodal jobs run nightly --date {DAY}",
        cwd="/srv/scores",
    )
