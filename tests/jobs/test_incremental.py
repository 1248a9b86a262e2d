"""An incremental job predicts what is new, once; everything again for another model; nothing where nothing is new."""

from __future__ import annotations

import datetime
import decimal
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as arrow_parquet
import pytest

from bimodal.batch.databases.address import Address
from bimodal.batch.databases.contract import Query
from bimodal.config import read
from bimodal.errors import BimodalError, TooManyRejects, UsageError
from bimodal.jobs.child import is_final
from bimodal.jobs.task import Task
from bimodal.jobs.trial import Trial
from tests.jobs.desk import Desk

DUE = datetime.datetime(2026, 3, 31, 3, tzinfo=datetime.UTC).timestamp()
HEAD = '[jobs.nightly]\nmodel = "doubled"\n'


class Quiet:
    """A parent that lets everything pass. settled: the parameters that it was told."""

    def __init__(self) -> None:
        self.settled: dict[str, Any] = {}
        self.guarded = 0
        self.notes: list[str] = []

    def tell(self, event: str, **values: Any) -> None:
        if event == "note":
            self.notes.append(values["text"])

    def settle(self, parameters: Mapping[str, Any]) -> None:
        self.settled = dict(parameters)

    def guard(self) -> None:
        self.guarded += 1


class Jobs:
    """The runs of one job, one after another, with what the store would remember, and no process."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.number = desk, 0
        self.memory: Mapping[str, Any] = {}
        self.files: dict[str, tuple[str, str]] = {}
        self.parent, self.report = Quiet(), dict[str, Any]()

    def task(self, run: str, parameters: Mapping[str, Any] | None = None) -> Task:
        config = read(self.desk.folder / "bimodal.toml")
        return Task(
            job="nightly",
            table=config.jobs["nightly"],
            models_name="doubled",
            model=config.models["doubled"],
            run=run,
            due=DUE,
            folder=str(config.folder),
            state=str(self.desk.folder),
            parent=os.getpid(),
            parameters=parameters or {},
            settled=bool(parameters),
            memory=self.memory,
            files=self.files,
        )

    def forget(self) -> None:
        """As if the state were removed, or the job had another name."""
        self.memory, self.files = {}, {}

    def run(self, **asked: Any) -> int:
        """The rows that the next run predicted. asked: where it begins."""
        self.number += 1
        task = replace(self.task(f"r{self.number}"), parameters=asked)
        ended = Trial(task, self.parent).run()
        self.report = ended["report"]
        self.memory = ended["memory"]
        self.files |= {path: (seen, digest) for path, seen, digest in ended["files"]}
        return int(ended["report"]["predicted"])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, "")


def other_model(desk: Desk) -> None:
    """A model of another digest."""
    path = desk.folder / "model.py"
    path.write_text(path.read_text().replace("* 2", "* 3"))


def numbers(desk: Desk) -> list[Any]:
    return desk.sql("SELECT id, prediction FROM scores ORDER BY id")


def test_files_are_predicted_when_they_are_new_or_changed(desk: Desk) -> None:
    desk.write(f'{HEAD}input = "in/*.csv"\noutput = "out/"\nincremental = "files"\n')
    jobs = Jobs(desk)
    desk.rows("in/a.csv", range(3))
    desk.rows("in/b.csv", range(4))
    assert jobs.run() == 7
    before = sorted(os.listdir(desk.folder / "out"))
    assert jobs.run() == 0
    assert sorted(os.listdir(desk.folder / "out")) == before, "nothing was touched"
    desk.rows("in/c.csv", range(2))
    desk.rows("in/a.csv", range(10, 15))
    assert jobs.run() == 7
    (path,) = (desk.folder / "out").glob("r3.parquet")
    assert arrow_parquet.read_table(path)["id"].to_pylist() == ["10", "11", "12", "13", "14", "0", "1"]
    other_model(desk)
    assert jobs.run() == 11
    desk.write(f'{HEAD}input = "in/*.csv"\noutput = "out/"\nincremental = "files"\non_model_change = "new"\n')
    (desk.folder / "model.py").write_text((desk.folder / "model.py").read_text().replace("* 3", "* 4"))
    assert jobs.run() == 0


def test_no_file_yet_is_nothing_new(desk: Desk) -> None:
    desk.write(f'{HEAD}input = "in/*.csv"\noutput = "out-{{run}}.csv"\nincremental = "files"\n')
    assert Jobs(desk).run() == 0


def test_a_column_is_read_between_two_watermarks(desk: Desk) -> None:
    place = f"sqlite:///{desk.folder}/shop.db"
    desk.sql("CREATE TABLE orders (id INTEGER, n REAL, at TEXT)")
    desk.sql("INSERT INTO orders VALUES (1, 1, '2026-03-01'), (2, 2, 'it''s later'), (3, 3, NULL)")
    text = (
        f'input = "{place}#orders"\noutput = "{place}#scores"\nkeep = "id"\nincremental = "column"\nwatermark = "at"\n'
    )
    desk.write(f'{HEAD}{text}mode = "append"\n')
    jobs = Jobs(desk)
    assert jobs.run() == 2, "a row without a watermark never counts as new"
    assert jobs.memory["watermark"] == "'it''s later'"
    assert jobs.run() == 0
    desk.sql("INSERT INTO orders VALUES (4, 4, 'it''s later still'), (5, 5, '2026-01-01')")
    assert jobs.run() == 1
    assert numbers(desk) == [(1, 2.0), (2, 4.0), (4, 8.0)]
    other_model(desk)
    with pytest.raises(UsageError, match="would give each row twice"):
        jobs.run()
    desk.sql("CREATE UNIQUE INDEX one ON scores (id)")
    desk.write(f'{HEAD}{text}mode = "upsert"\nkey = "id"\n')
    assert jobs.run() == 4
    assert numbers(desk) == [(1, 3.0), (2, 6.0), (4, 12.0), (5, 15.0)]


def test_a_job_that_remembers_nothing_appends_to_no_table_that_has_rows(desk: Desk) -> None:
    place = f"sqlite:///{desk.folder}/shop.db"
    desk.sql("CREATE TABLE orders (id INTEGER, n REAL)")
    desk.sql("INSERT INTO orders VALUES (1, 1), (2, 2), (3, 3)")
    text = f'output = "{place}#scores"\nkeep = "id"\n'
    column = f'input = "{place}#orders"\nincremental = "column"\nwatermark = "id"\n'
    desk.write(f'{HEAD}{text}{column}mode = "append"\n')
    jobs = Jobs(desk)
    assert jobs.run() == 3
    desk.sql("INSERT INTO orders VALUES (4, 4)")
    jobs.forget()
    with pytest.raises(UsageError, match="jobs run nightly --since VALUE"):
        jobs.run()
    with pytest.raises(UsageError, match="id is a number, and what was given is none"):
        jobs.run(since="1 OR 1=1")
    assert jobs.run(since="3") == 1
    assert numbers(desk) == [(1, 2.0), (2, 4.0), (3, 6.0), (4, 8.0)], "each row once"
    assert jobs.run() == 0, "it remembers again"
    jobs.forget()
    desk.rows("in/a.csv", range(10, 12))
    desk.write(f'{HEAD}{text}input = "in/*.csv"\nincremental = "files"\nmode = "append"\n')
    with pytest.raises(UsageError, match="nothing is known of earlier runs of job nightly"):
        jobs.run()
    assert jobs.run(from_start=True) == 2
    jobs.forget()
    desk.sql("DELETE FROM scores")
    assert jobs.run() == 2, "an empty table has nothing twice"
    desk.sql("CREATE UNIQUE INDEX one ON scores (id)")
    desk.write(f'{HEAD}{text}input = "in/*.csv"\nincremental = "files"\nmode = "upsert"\nkey = "id"\n')
    jobs.forget()
    assert (jobs.run(), len(numbers(desk))) == (2, 2)


@pytest.mark.parametrize("source", ["sqlite:///{}/shop.db#orders", "sqlite:///{}/other.db#orders", "in.jsonl"])
def test_rows_without_a_key_are_left_out_and_counted(source: str, desk: Desk) -> None:
    for file in ("shop.db", "other.db"):
        desk.sql("CREATE TABLE orders (id TEXT, n REAL)", file=file)
        desk.sql("INSERT INTO orders VALUES ('a', 1), (NULL, 2), ('b', 3), (NULL, 4)", file=file)
    keys = ('"a"', "null", '"b"', "null")
    lines = [f'{{"id": {key}, "n": {n}}}\n' for n, key in enumerate(keys, 1)]
    (desk.folder / "in.jsonl").write_text("".join(lines))
    desk.write(
        f'{HEAD}input = "{source.format(desk.folder)}"\noutput = "sqlite:///{desk.folder}/shop.db#scores"\n'
        'incremental = "rows"\nkey = "id"\nmode = "append"\n'
    )
    jobs = Jobs(desk)
    assert jobs.run() == 2
    assert jobs.report["without_key"] == 2
    assert any("2 rows were left out: the key id is null" in each for each in jobs.parent.notes)
    assert jobs.run() == 0
    assert numbers(desk) == [("a", 2.0), ("b", 6.0)]


@pytest.mark.parametrize(
    ("job", "remedy"),
    [
        ("nightly", "write max_rejects = 1 in [jobs.nightly], then: bimodal jobs run nightly"),
        ("upload:doubled", "send it again with ?max_rejects=1"),
    ],
)
def test_too_many_rejects_are_told_with_what_to_write(job: str, remedy: str, desk: Desk) -> None:
    (desk.folder / "in.csv").write_text("id,n\n1,1\n2,x\n3,3\n")
    desk.write(f'{HEAD}input = "in.csv"\noutput = "out.csv"\n')
    with pytest.raises(TooManyRejects, match="1 row of 3 rejected, nothing was published") as caught:
        Trial(replace(Jobs(desk).task("r1"), job=job), Quiet()).run()
    *_, last = caught.value.message.splitlines()
    assert last == f"to publish the other 2: {remedy}"


def test_a_model_that_fails_on_rows_together_alone_is_told(desk: Desk) -> None:
    desk.rows("in.csv", range(40))
    path = desk.folder / "model.py"
    path.write_text(path.read_text().replace('rows["n"] * 2', 'rows["n"][:3] * 2'))
    desk.write(f'{HEAD}input = "in.csv"\noutput = "out.csv"\n')
    jobs = Jobs(desk)
    assert jobs.run() == 40
    words = "failed on 40 rows in one call, and on none of them in smaller ones"
    assert [words in each for each in jobs.report["notes"]].count(True) == 1
    assert [words in each for each in jobs.parent.notes].count(True) == 1


def test_what_another_attempt_cannot_mend_is_final(desk: Desk) -> None:
    place = f"sqlite:///{desk.folder}/shop.db#scores"
    (desk.folder / "in.parquet").write_text("id,n\n1,1\n")
    desk.rows("in.csv", range(2))
    desk.sql("CREATE TABLE scores (id TEXT, prediction REAL)")
    upsert = f'output = "{place}"\nmode = "upsert"\nkey = "id"\nkeep = "id"\n'
    for text, final, words in (
        ('input = "in.parquet"\noutput = "out.csv"\n', True, "is no Parquet file"),
        (f'input = "in.csv"\n{upsert}', True, "an upsert needs a unique index"),
        ('input = "absent.csv"\noutput = "out.csv"\n', False, "does not exist"),
        ('input = "in.csv"\noutput = "no/such/out.csv"\n', False, "there is no folder"),
    ):
        desk.write(HEAD + text)
        with pytest.raises(BimodalError, match=words) as caught:
            Trial(Jobs(desk).task("r1"), Quiet()).run()
        assert is_final(caught.value) is final, words


def test_a_job_that_is_not_incremental_appends_with_whatever_model(desk: Desk) -> None:
    """Each run has rows of its own, as a query with {date} gives them."""
    desk.rows("in.csv", range(2))
    desk.write(f'{HEAD}input = "in.csv"\noutput = "sqlite:///{desk.folder}/shop.db#scores"\nmode = "append"\n')
    jobs = Jobs(desk)
    assert jobs.run() == 2
    other_model(desk)
    assert jobs.run() == 2
    assert [value for _, value in numbers(desk)] == [0.0, 0.0, 2.0, 3.0]


def test_the_bounds_are_settled_once(desk: Desk) -> None:
    place = f"sqlite:///{desk.folder}/shop.db"
    desk.sql("CREATE TABLE orders (id INTEGER, n REAL)")
    desk.sql("INSERT INTO orders VALUES (1, 1), (2, 2)")
    desk.write(
        f'{HEAD}query = "SELECT * FROM orders WHERE id > 0;"\ninput = "{place}"\noutput = "{place}#scores"\n'
        'keep = "id"\nmode = "append"\nincremental = "column"\nwatermark = "id"\n'
    )
    jobs, parent = Jobs(desk), Quiet()

    def crash() -> None:
        raise KeyboardInterrupt

    parent.guard = crash  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        Trial(jobs.task("r1"), parent).run()
    desk.sql("INSERT INTO orders VALUES (3, 3)")
    again = Trial(jobs.task("r1", parent.settled), Quiet()).run()
    assert again["report"]["predicted"] == 2
    assert again["memory"]["watermark"] == "2"


def test_a_misspelt_watermark_is_told_with_the_nearest_column(desk: Desk) -> None:
    place = f"sqlite:///{desk.folder}/shop.db"
    desk.sql("CREATE TABLE orders (id INTEGER, n REAL, updated TEXT)")
    desk.write(
        f'{HEAD}input = "{place}#orders"\noutput = "{place}#scores"\nmode = "append"\nincremental = "column"\n'
        'watermark = "update"\n'
    )
    with pytest.raises(UsageError, match="did you mean 'updated'"):
        Jobs(desk).run()


@pytest.mark.parametrize("source", ["same", "file"])
def test_rows_are_predicted_whose_key_is_not_in_the_output(source: str, desk: Desk) -> None:
    place = f"sqlite:///{desk.folder}/shop.db"
    desk.sql("CREATE TABLE orders (id INTEGER, n REAL)")
    text = f'output = "{place}#scores"\nkeep = "id"\nincremental = "rows"\nkey = "id"\n'
    given = f"{place}#orders" if source == "same" else "in.csv"
    desk.write(f'{HEAD}input = "{given}"\n{text}mode = "append"\n')

    def there(rows: Sequence[int]) -> None:
        desk.rows("in.csv", list(rows))
        desk.sql("DELETE FROM orders")
        for each in rows:
            desk.sql("INSERT INTO orders VALUES (?, ?)", each, each)

    jobs = Jobs(desk)
    there([1, 2])
    assert jobs.run() == 2
    there([1, 2, 3, 4])
    assert jobs.run() == 2
    assert jobs.run() == 0
    assert [prediction for _, prediction in numbers(desk)] == [2.0, 4.0, 6.0, 8.0]
    other_model(desk)
    desk.sql("CREATE UNIQUE INDEX one ON scores (id)")
    desk.write(f'{HEAD}input = "{given}"\n{text}mode = "upsert"\n')
    assert jobs.run() == 4
    assert [prediction for _, prediction in numbers(desk)] == [3.0, 6.0, 9.0, 12.0]


@pytest.mark.parametrize(
    ("output", "remedy"),
    [('"out.csv"', "out-{run}.csv"), ('"sqlite:///shop.db#scores"', 'mode = "append"')],
)
def test_an_output_that_a_run_would_replace_is_refused(output: str, remedy: str, desk: Desk) -> None:
    desk.write(f'{HEAD}input = "in/*.csv"\noutput = {output}\nincremental = "files"\n')
    with pytest.raises(UsageError) as error:
        Jobs(desk).run()
    assert remedy in str(error.value)


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("BIGINT", [9007199254740993, -5]),
        ("DOUBLE", [0.1, 1e300]),
        ("TEXT", ["o'clock", "back\\slash", "ünï"]),
        ("TIMESTAMP", ["2026-03-29 02:30:00.123456", "2026-03-29 02:30:00.123457"]),
        ("DATE", ["2026-03-29", "2026-03-30"]),
        ("DECIMAL(20,4)", ["123456789.5678", "123456789.5679"]),
    ],
)
def test_the_highest_value_comes_back_as_a_literal_that_finds_it(
    kind: str, type_: str, values: list[Any], tmp_path: Path
) -> None:
    """The database itself says which row the literal is equal to, and that none is above it."""
    database = Address.parse(f"{kind}:///{tmp_path}/x.{kind}").open()
    session = database.session()
    session.execute(f"CREATE TABLE t (v {type_})")
    for value in values:
        session.execute(
            f"INSERT INTO t VALUES (CAST(? AS {type_}))" if kind == "duckdb" else "INSERT INTO t VALUES (?)", [value]
        )
    session.close()
    written = f"SELECT {database.literal('high')} AS high FROM (SELECT max(v) AS high FROM t) AS x"
    ((literal,),) = [batch.column(0).to_pylist() for batch in database.batches(Query(written), ["high"])]
    same, above = (f"sum(CASE WHEN v {sign} {literal} THEN 1 ELSE 0 END)" for sign in "=>")
    told = f"SELECT {same} AS same, {above} AS above FROM t"
    (batch,) = database.batches(Query(told), ["same", "above"])
    assert [int(batch.column(0)[0].as_py()), int(batch.column(1)[0].as_py())] == [1, 0]


def test_values_are_written_as_sql_has_them(tmp_path: Path) -> None:
    database = Address.parse(f"sqlite:///{tmp_path}/x.db").open()
    values = [1, True, 0.1, decimal.Decimal("1.50"), "a'b", datetime.date(2026, 3, 29)]
    assert [database.written(each) for each in values] == ["1", "1", "0.1", "1.50", "'a''b'", "'2026-03-29'"]


@pytest.mark.parametrize(
    ("type_", "low", "high"),
    [
        ("bigint", "9007199254740992", "9007199254740993"),
        ("double precision", "0.1", "0.30000000000000004"),
        ("numeric(30,10)", "12345678901234567.8900000001", "12345678901234567.8900000002"),
        ("text", "a\\'b", "o'clock"),
        ("timestamptz", "2026-03-29 02:30:00.123456+00", "2026-03-29 02:30:00.123457+00"),
        ("date", "2026-03-29", "2026-03-30"),
    ],
)
def test_the_highest_value_of_postgresql_finds_itself(type_: str, low: str, high: str, postgres_server: str) -> None:
    place = f"postgresql://postgres@/postgres?host={quote(postgres_server, safe='')}"
    database = Address.parse(place).open()
    session = database.session()
    session.execute("DROP TABLE IF EXISTS highest")
    session.execute(f"CREATE TABLE highest (v {type_})")
    for value in (low, high):
        session.execute(f"INSERT INTO highest VALUES (CAST(%s AS text)::{type_})", [value])
    inner = "SELECT max(v) AS high FROM highest"
    ((literal,),) = session.query(f"SELECT {database.literal('high')} FROM ({inner}) AS x")
    found = session.query(
        f"SELECT count(*) FILTER (WHERE v = {literal}), count(*) FILTER (WHERE v > {literal}), "
        f"count(*) FILTER (WHERE v = CAST(%s AS text)::{type_} AND v = {literal}) FROM highest",
        [high],
    )
    session.close()
    assert found == [(1, 0, 1)]
