"""bimodal.toml is checked as a whole: every fault in one go, with its line, its key and what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bimodal import config
from bimodal.config.tables import JobTable, ModelTable, NotifyTable, StoreTable
from bimodal.errors import ConfigError, UsageError

WHOLE = """\
state = "postgresql://ann:env:STATE_PASSWORD@db.example/state"

[server]
port = 5000
queue_target = "50 ms"
body_limit = "1MiB"
outputs = "prediction,probability"

[models.churn]
path = "models/churn.pkl"
code = "train.py"
sample = "sample.csv"
features = ["age", "city"]
threshold = 0.3

[models.churn.store]
job = "nightly"
key = "customer_id"
max_age = "1 day"
rows = "sqlite:///shop.db#customers"

[jobs.nightly]
model = "churn"
input = ["in/{date}/*.parquet", "more.csv"]
output = "out/{due:%Y-%m-%d}.parquet"
keep = ["customer_id"]
rename = { kunde = "customer_id" }
max_rejects = "1%"
memory = "2GB"
schedule = "0 2 * * *"
timezone = "Europe/Vienna"
timeout = "2h"
late_after = "90 min"
retries = 3
backoff = 10
incremental = "files"

[[jobs.nightly.notify]]
on = ["failure", "late"]
url = "https://example.com/hook"
secret = "file:secrets/hook"

[[jobs.nightly.notify]]
command = ["./tell.sh", "failed"]

[jobs.hourly]
model = "churn"
input = "sqlite:///shop.db#customers"
output = "duckdb:////data/out.duckdb#scores"
mode = "upsert"
key = "customer_id"
every = "15 min"
max_rejects = 5
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "bimodal.toml"
        path.write_text(text)
        return path

    return written


def test_a_file_is_read_with_its_units_and_places(write: Write, tmp_path: Path) -> None:
    read = config.read(write(WHOLE))
    assert (read.folder, read.path, read.home) == (tmp_path, tmp_path / "bimodal.toml", tmp_path / ".bimodal")
    assert read.state == "postgresql://ann:env:STATE_PASSWORD@db.example/state"
    wanted = {"port": 5000, "queue_target": 0.05, "body_limit": 2**20, "outputs": ("prediction", "probability")}
    assert read.server == wanted
    assert read.models == {
        "churn": ModelTable(
            path=f"{tmp_path}/models/churn.pkl",
            code=(f"{tmp_path}/train.py",),
            sample=f"{tmp_path}/sample.csv",
            features=("age", "city"),
            threshold=0.3,
            store=StoreTable(
                "nightly", "customer_id", max_age=86_400.0, rows=f"sqlite:///{tmp_path}/shop.db#customers"
            ),
        )
    }
    assert read.jobs["nightly"] == JobTable(
        model="churn",
        input=(f"{tmp_path}/in/{{date}}/*.parquet", f"{tmp_path}/more.csv"),
        output=f"{tmp_path}/out/{{due:%Y-%m-%d}}.parquet",
        keep=("customer_id",),
        rename={"kunde": "customer_id"},
        max_rejects="1%",
        memory=2 * 10**9,
        schedule="0 2 * * *",
        timezone="Europe/Vienna",
        timeout=7200.0,
        late_after=5400.0,
        retries=3,
        backoff=10.0,
        incremental="files",
        notify=(
            NotifyTable(("failure", "late"), "https://example.com/hook", f"file:{tmp_path}/secrets/hook"),
            NotifyTable(command=("./tell.sh", "failed")),
        ),
    )
    hourly = read.jobs["hourly"]
    assert hourly.output == "duckdb:////data/out.duckdb#scores"
    assert (hourly.every, hourly.key, hourly.max_rejects) == (900.0, ("customer_id",), "5")


def test_an_empty_file_has_its_state_beside_it(write: Write, tmp_path: Path) -> None:
    assert config.read(write("")).state == f"sqlite:///{tmp_path}/.bimodal/state.db"


def told(write: Write, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.read(write(text))
    return str(caught.value).split("\n")


def test_every_fault_is_told_in_one_go_with_its_line(write: Write) -> None:
    faults = {
        "port = 5000": "prt = 5000",
        'model = "churn"\ninput = [': 'model = "chrun"\ninput = [',
        "{date}": "{dat}",
        'timeout = "2h"': 'timeout = "2 weeks"',
        'schedule = "0 2 * * *"': 'shedule = "0 2 * * *"',
        'timezone = "Europe/Vienna"': 'timezone = "Europe/Viena"',
        '"late"]': '"lat"]',
        'job = "nightly"': 'job = "nigthly"',
    }
    text = WHOLE
    for right, wrong in faults.items():
        assert right in text
        text = text.replace(right, wrong)
    rows = text.split("\n")
    found = told(write, text)
    assert [each.split(": ")[1] for each in found] == [
        "server.prt",
        "models.churn.store.job",
        "jobs.nightly.model",
        "jobs.nightly.input",
        "jobs.nightly.shedule",
        "jobs.nightly.timezone",
        "jobs.nightly.timeout",
        "jobs.nightly.notify[1].on",
    ]
    for each in found:
        name, line, rest = each.split(":", 2)
        assert name == "bimodal.toml"
        assert rest.partition(": ")[0].rpartition(".")[2] in rows[int(line) - 1]
    assert found[0] == "bimodal.toml:4: server.prt: there is no such key; did you mean port?"
    assert found[4].endswith("there is no such key; did you mean schedule?")
    assert found[5].endswith("did you mean Europe/Vienna?")


MODEL = '[models.m]\npath = "m.pkl"\n'
JOB = MODEL + '[jobs.j]\nmodel = "m"\ninput = "a.csv"\noutput = "b.csv"\n'
DATABASE = MODEL + '[jobs.j]\nmodel = "m"\ninput = "sqlite:///s.db#a"\noutput = "sqlite:///s.db#b"\n'
FAULTS = {
    "no TOML": ("[server\nport = 1", "1: this is no TOML"),
    "no TOML at its end": ("[server]\nhost = '", "2: this is no TOML"),
    "an unknown table": ("[sever]\nport = 1", "1: sever: there is no such key; did you mean server?"),
    "a value for a table": ("server = 1", "1: server: this is a number; write a table: [server]"),
    "a value for a model": ('[models]\nm = "m.pkl"', "2: models.m: this is a text; write a table: [models.m]"),
    "one table for a list": (JOB + '[jobs.j.notify]\nurl = "https://h"', "7: jobs.j.notify: this is a table; write a"),
    "a name with a slash": ('[models."a/b"]\npath = "m.pkl"', '1: models."a/b": a name has letters'),
    "a missing key": ("[models.m]\nruntime = 'auto'", "1: models.m.path: this key is missing; The saved model"),
    "a text for a number": ('[server]\nport = "80"', "2: server.port: this is a text; write a whole number from 0 to"),
    "a number out of bounds": ("[server]\nport = 70000", "2: server.port: write a whole number from 0 to 65535"),
    "true for a number": ("[server]\nworkers = true", "2: server.workers: this is true or false; write a whole"),
    "a number for a text": ("[models.m]\npath = 3", "2: models.m.path: this is a number; write a text in quotes"),
    "an empty text": ('[models.m]\npath = ""', "2: models.m.path: this text is empty"),
    "no choice": (JOB + 'overlap = "skipp"', "7: jobs.j.overlap: it is one of skip, queue, replace; did you mean sk"),
    "no size": (JOB + 'memory = "2 G"', "7: jobs.j.memory: write a size such as"),
    "no time": (JOB + 'timeout = "soon"', '7: jobs.j.timeout: write a time such as "10 s"'),
    "no time at all": (JOB + "timeout = 0", "7: jobs.j.timeout: write a time such as"),
    "a negative time": (JOB + "backoff = -1", "7: jobs.j.backoff: write a time such as"),
    "a share above all": (JOB + 'max_rejects = "101%"', "7: jobs.j.max_rejects: write a number of rows"),
    "schedule and every": (JOB + 'schedule = "0 2 * * *"\nevery = 5', "8: jobs.j.every: a job has a schedule or every"),
    "no cron": (JOB + 'schedule = "0 25 * * *"', "7: jobs.j.schedule: "),
    "six fields": (JOB + 'schedule = "0 0 2 * * *"', "7: jobs.j.schedule: "),
    "half a second": (JOB + "every = 0.5", "7: jobs.j.every: "),
    "an unknown model": (MODEL + '[jobs.j]\nmodel = "x"\ninput = "a"\noutput = "b"', "4: jobs.j.model: there is no mo"),
    "no output": (MODEL + '[jobs.j]\nmodel = "m"\ninput = "a.csv"', "3: jobs.j.output: this key is missing"),
    "standard input": (JOB.replace("a.csv", "-"), "5: jobs.j.input: a job has no standard input"),
    "standard output": (JOB.replace("b.csv", "-"), "6: jobs.j.output: a job has no standard output"),
    "a query of a file": (JOB + 'query = "SELECT 1"', "7: jobs.j.query: a query reads from a database"),
    "a table in a file": (JOB + 'into = "t"', "7: jobs.j.into: a table is written to a database"),
    "upsert without a key": (DATABASE + 'mode = "upsert"', "7: jobs.j.mode: upsert needs the columns that tell a row"),
    "a key without upsert": (DATABASE + 'key = "id"', "7: jobs.j.key: the key is for mode"),
    "an unknown placeholder": (
        JOB.replace("b.csv", "{daet}.csv"),
        "6: jobs.j.output: there is no {daet}; did you mean",
    ),
    "files of a database": (
        DATABASE + 'incremental = "files"',
        "7: jobs.j.incremental: files is for an input of files",
    ),
    "a column of files": (
        JOB + 'incremental = "column"\nwatermark = "t"',
        "7: jobs.j.incremental: column reads from a database",
    ),
    "no watermark": (DATABASE + 'incremental = "column"', "7: jobs.j.incremental: column needs the column that grows"),
    "a watermark alone": (DATABASE + 'watermark = "t"', "7: jobs.j.watermark: the watermark is for incremental"),
    "rows without a key": (
        DATABASE + 'incremental = "rows"\nmode = "append"',
        "7: jobs.j.incremental: rows needs the columns that tell a row",
    ),
    "rows replaced": (
        DATABASE + 'incremental = "rows"\nkey = "id"\nmode = "replace"',
        '7: jobs.j.incremental: rows adds to what is there: mode = "append" or "upsert"',
    ),
    "one output of two jobs": (
        JOB + '[jobs.k]\nmodel = "m"\ninput = "c.csv"\noutput = "./b.csv"',
        "10: jobs.k.output: jobs.j writes this output too",
    ),
    "one table of two jobs": (
        DATABASE + '[jobs.k]\nmodel = "m"\ninput = "c.csv"\noutput = "sqlite:///s.db"\ninto = "b"',
        "10: jobs.k.output: jobs.j writes this output too",
    ),
    "a key that is not kept": (
        JOB + 'keep = ["name"]\n[models.m.store]\njob = "j"\nkey = "id"',
        "10: models.m.store.key: the output of j does not keep that column",
    ),
    "nothing is kept": (
        JOB + 'keep = "none"\n[models.m.store]\njob = "j"\nkey = "o"',
        "10: models.m.store.key: the output of j does not keep that column",
    ),
    "one file under two names": (
        JOB + '[jobs.k]\nmodel = "m"\ninput = "c.csv"\noutput = "x/../b.csv"',
        "10: jobs.k.output: jobs.j writes this output too",
    ),
    "one output with other dates": (
        JOB.replace("b.csv", "two/{date}.csv")
        + '[jobs.k]\nmodel = "m"\ninput = "c.csv"\noutput = "two/{due:%Y-%m-%d}.csv"',
        "10: jobs.k.output: jobs.j writes this output too",
    ),
    "the input as the output": (JOB.replace("b.csv", "./a.csv"), "6: jobs.j.output: this is the job's input; name"),
    "the input of a day": (
        JOB.replace("b.csv", "{date}.csv").replace("a.csv", "{due:%Y-%m-%d}.csv"),
        "6: jobs.j.output: this is the job's input; name",
    ),
    "the input's table": (DATABASE.replace("#b", "#a"), "6: jobs.j.output: this is the job's input; name"),
    "a model as the output": (JOB.replace("b.csv", "m.pkl"), "6: jobs.j.output: this is models.m itself; name"),
    "the folder as the output": (JOB.replace("b.csv", "."), "6: jobs.j.output: this is the folder of this file"),
    "the folder around as the output": (JOB.replace("b.csv", "../"), "6: jobs.j.output: this is the folder of this"),
    "nested without an end": ("a = " + "[" * 5000 + "]" * 5000, "1: this is nested too deeply"),
    "a store of another model": (
        JOB + '[models.o]\npath = "o.pkl"\n[models.o.store]\njob = "j"\nkey = "id"',
        "10: models.o.store.job: that job predicts with another model than o",
    ),
    "an unknown store": (
        JOB + '[models.m.store]\njob = "j"\nkey = "id"\nurl = "mysql://h/d"',
        "10: models.m.store.url: write embedded",
    ),
    "rows of a file": (
        JOB + '[models.m.store]\njob = "j"\nkey = "id"\nrows = "c.csv"',
        "10: models.m.store.rows: write a database's table",
    ),
    "an unknown state": ('state = "state.db"', "1: state: write sqlite:///PATH"),
    "nobody is told": (JOB + "[[jobs.j.notify]]\non = ['late']", "7: jobs.j.notify[1]: it needs a url or a command"),
    "told twice": (
        JOB + '[[jobs.j.notify]]\nurl = "https://h"\ncommand = ["a"]',
        "7: jobs.j.notify[1]: it has a url or a command, not both",
    ),
    "no webhook": (JOB + '[[jobs.j.notify]]\nurl = "h/x"', "8: jobs.j.notify[1].url: write https://"),
    "a secret for nobody": (
        JOB + '[[jobs.j.notify]]\ncommand = ["a"]\nsecret = "env:A"',
        "9: jobs.j.notify[1].secret: the secret signs what is sent to a url",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_line_and_what_to_do(name: str, write: Write) -> None:
    text, wanted = FAULTS[name]
    found = told(write, text)
    assert len(found) == 1, found
    assert found[0].startswith(f"bimodal.toml:{wanted}")


def test_one_fault_of_a_job_hides_none_of_its_others(write: Write) -> None:
    found = told(
        write,
        JOB.replace('"m"\ninput', '"n"\ninput')
        + 'schedule = "0 25 * * *"\nevery = 0.5\ntimezone = "Europe/Wien"\nincremental = "rows"\nmode = "replace"',
    )
    assert [each.split(": ")[1] for each in found] == [
        "jobs.j.model",
        "jobs.j.schedule",
        "jobs.j.every",
        "jobs.j.timezone",
        "jobs.j.incremental",
        "jobs.j.incremental",
    ]


@pytest.mark.parametrize("output", ["two/{run}.csv", "two/{date}-{job}.csv", "two/{yesterday}.csv"])
def test_outputs_that_differ_with_the_run_are_two(output: str, write: Write) -> None:
    assert (
        len(
            config.read(
                write(
                    JOB.replace("b.csv", "two/{date}.csv")
                    + f'[jobs.k]\nmodel = "m"\ninput = "c.csv"\noutput = "{output}"'
                )
            ).jobs
        )
        == 2
    )


SECRETS = [
    JOB.replace('"a.csv"', '"postgresql://ann:hunter2@db/shop#a"'),
    JOB.replace('"b.csv"', '"mysql://ann@db/shop?password=hunter2#b"'),
    'state = "postgresql://ann:hunter2@db/state"',
    MODEL.replace("m.pkl", "https://ann:hunter2@models.example/m.pkl"),
    JOB + '[models.m.store]\njob = "j"\nkey = "id"\nurl = "redis://:hunter2@cache/0"',
    JOB + '[[jobs.j.notify]]\nurl = "https://ann:hunter2@h/x"',
    JOB + '[[jobs.j.notify]]\nurl = "https://h/x"\nsecret = "hunter2"',
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_in_clear_text_is_refused_and_not_repeated(text: str, write: Write) -> None:
    (found,) = told(write, text)
    assert "env:NAME" in found
    assert "hunter2" not in found


def test_what_follows_from_a_fault_is_not_told_as_another(write: Write) -> None:
    found = told(write, DATABASE + 'mode = "upsret"\nkey = "id"\nincremental = "column"\nwatermark = 3')
    assert [each.split(": ")[1] for each in found] == ["jobs.j.mode", "jobs.j.watermark"]


def test_two_jobs_may_add_to_one_table(write: Write) -> None:
    both = DATABASE + 'mode = "append"\n[jobs.k]' + DATABASE.partition("[jobs.j]")[2] + 'mode = "append"'
    assert set(config.read(write(both)).jobs) == {"j", "k"}


def test_the_file_is_found_by_name_folder_variable_or_where_one_stands(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("")
    monkeypatch.chdir(tmp_path)
    assert config.find(environment={}) == Path("bimodal.toml")
    assert config.find(tmp_path, environment={}) == path
    other = tmp_path / "other.toml"
    other.write_text("")
    assert config.find(environment={"BIMODAL_CONFIG": str(other)}) == other
    assert config.find(path, environment={"BIMODAL_CONFIG": str(other)}) == path
    with pytest.raises(UsageError, match=r"BIMODAL_CONFIG names it.*bimodal init"):
        config.find(environment={"BIMODAL_CONFIG": "gone.toml"})
    with pytest.raises(UsageError, match=r"there is no gone\.toml"):
        config.read("gone.toml")


def test_a_file_in_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bimodal.toml"
    path.write_bytes("[server]\n# ä\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"bimodal.toml:2: this is no UTF-8"):
        config.read(path)


def test_reading_needs_no_heavy_library(write: Write) -> None:
    heavy = ("numpy", "pyarrow", "pandas")
    code = f"import sys; from bimodal import config; config.read({str(write(WHOLE))!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(heavy) & set(done.stdout.split())
