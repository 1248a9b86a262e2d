"""What every database keeps as a sink. An adapter's test class inherits SinkContract and gives `place`."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bimodal.batch.databases.contract import Mode, TableName
from bimodal.batch.databases.opening import open_source
from bimodal.batch.databases.sink import TableSink
from bimodal.batch.marks import Beside
from bimodal.errors import OutputExists, OutputHeld, SinkError, UsageError
from tests.batch.databases.place import Place
from tests.batch.databases.writing import PLAN, ROWS, SCHEMA, chunk, expected, mark, run_all
from tests.batch.databases.zygote import Zygote

MODES = ("create", "append", "replace", "upsert")


class SinkContract:
    """The sink's law, method by method, with the database's own driver as the witness. The adapter's test class gives
    the fixture `place`.
    """

    kills = 2  # random ones for each mode; `soak` takes more

    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # where the rejects go

    @pytest.fixture
    def sink(self, place: Place) -> Iterator[Callable[..., TableSink]]:
        made: list[TableSink] = []

        def make(word: str = "create", *key: str, table: str = "made", **options: Any) -> TableSink:
            made.append(TableSink(place.database(), TableName(table), Mode(word, key), **options))
            return made[-1]

        yield make
        for each in made:
            each.release()

    # -- modes ------------------------------------------------------------------------------------------------------

    def test_create_makes_a_table_of_all_rows(self, place: Place, sink: Callable[..., TableSink]) -> None:
        report = run_all(sink())
        assert report is not None
        assert place.all("made") == expected(3)
        assert left_over(place) == (0, 0)

    def test_nothing_is_seen_before_publication(self, place: Place, sink: Callable[..., TableSink]) -> None:
        assert run_all(sink(), stop=2) is None
        assert "made" not in place.tables()
        assert not sink().exists()
        run_all(sink())
        assert sink().exists()

    def test_create_refuses_a_table_that_is_there(self, place: Place, sink: Callable[..., TableSink]) -> None:
        place.do("CREATE TABLE made (id BIGINT)")
        place.do("INSERT INTO made VALUES (1)")
        assert "append" in sink().check(SCHEMA)[0]
        with pytest.raises(OutputExists, match="made"):
            run_all(sink())
        assert place.ask("SELECT * FROM made") == [(1,)]

    def test_a_table_that_appeared_meanwhile_is_left_alone(self, place: Place, sink: Callable[..., TableSink]) -> None:
        run_all(sink(), stop=2)
        place.do("CREATE TABLE made (id BIGINT)")
        with pytest.raises(OutputExists):
            run_all(sink())
        place.do("DROP TABLE made")
        run_all(sink())  # nothing was lost
        assert place.all("made") == expected(3)

    def test_append_adds_behind_what_is_there(self, place: Place, sink: Callable[..., TableSink]) -> None:
        run_all(sink())
        run_all(sink("append"), plan={"key": "k2"}, run="1e" * 16)
        assert place.all("made") == sorted([*expected(3), *expected(3)], key=lambda row: row[0])

    def test_append_makes_a_table_that_is_not_there(self, place: Place, sink: Callable[..., TableSink]) -> None:
        assert any("will be created" in each for each in sink("append").check(SCHEMA))
        run_all(sink("append"))
        assert place.all("made") == expected(3)

    def test_replace_puts_new_rows_in_the_place_of_the_old(self, place: Place, sink: Callable[..., TableSink]) -> None:
        place.do("CREATE TABLE made (old BIGINT)")
        place.do("INSERT INTO made VALUES (1)")
        run_all(sink("replace"))
        assert place.all("made") == expected(3)
        run_all(sink("replace"), chunks=2, plan={"key": "k2"}, run="1e" * 16)
        assert place.all("made") == expected(2)
        assert left_over(place) == (0, 0)

    def test_replace_makes_a_table_that_is_not_there(self, place: Place, sink: Callable[..., TableSink]) -> None:
        run_all(sink("replace"))
        assert place.all("made") == expected(3)

    def test_the_input_itself_is_refused(self, place: Place, sink: Callable[..., TableSink]) -> None:
        """Else its columns would be gone; to update its rows, and to write beside it, is no harm."""
        place.do("CREATE TABLE made (id BIGINT, age BIGINT)")
        source = open_source(f"{place.url}#made")
        for word in ("create", "append", "replace"):
            with pytest.raises(UsageError, match="is the input itself"):
                sink(word).see_input(source)
        with pytest.raises(UsageError, match="is the input itself"):
            sink(overwrite=True).see_input(source)
        assert sink("upsert", "id").see_input(source) == ()
        assert sink("replace", table="other").see_input(source) == ()
        query = open_source(place.url, "SELECT id, age FROM made")
        assert "seems to read" in sink("replace").see_input(query)[0]
        assert sink("replace", table="other").see_input(query) == ()

    def test_replace_tells_which_columns_go(self, place: Place, sink: Callable[..., TableSink]) -> None:
        place.do("CREATE TABLE made (id BIGINT, age BIGINT, name VARCHAR(9))")
        notes = [each for each in sink("replace").check(SCHEMA) if "loses" in each]
        assert len(notes) == 1
        assert "'age', 'name'" in notes[0]
        assert "'id'" not in notes[0]

    def test_a_table_that_lost_rows_is_not_what_the_run_left(
        self, place: Place, sink: Callable[..., TableSink]
    ) -> None:
        run_all(sink())
        key = str(PLAN["key"])
        whole = sink().published(key)
        assert whole is not None
        assert not whole.changed
        place.do("DELETE FROM made WHERE id = 1")
        lacking = sink().published(key)
        assert lacking is not None
        assert lacking.changed
        assert f"lost rows since it was written ({len(expected(3)) - 1:,} are there" in sink().taken()
        run_all(sink("append"), plan={"key": "k2"}, run="1e" * 16)
        added = sink("append").published("k2")
        assert added is not None
        assert not added.changed  # of what was added to others nothing is said

    @pytest.mark.parametrize("name", ["sqlite_master", "sqlite_foo", "pg_class", "PG_Foo"])
    def test_a_name_of_the_databases_own_is_refused(self, name: str, sink: Callable[..., TableSink]) -> None:
        with pytest.raises(UsageError, match="database's own"):
            sink(table=name)

    def test_overwrite_replaces(self, place: Place, sink: Callable[..., TableSink]) -> None:
        place.do("CREATE TABLE made (old BIGINT)")
        run_all(sink(overwrite=True))
        assert place.all("made") == expected(3)

    def test_upsert_updates_by_key_and_inserts_the_rest(self, place: Place, sink: Callable[..., TableSink]) -> None:
        target(place)
        run_all(sink("upsert", "id"))
        kept = [(-1, "stays", 1.5)]
        assert place.all("made") == [*kept, *expected(3)]
        run_all(sink("upsert", "id"), plan={"key": "k2"}, run="1e" * 16)
        assert place.all("made") == [*kept, *expected(3)]

    def test_upsert_needs_a_unique_index_and_says_how(self, place: Place, sink: Callable[..., TableSink]) -> None:
        with pytest.raises(SinkError, match=r"there is no table .*made"):
            sink("upsert", "id").check(SCHEMA)
        place.do(f"CREATE TABLE made (id BIGINT, label VARCHAR(50), score {place.double})")
        with pytest.raises(SinkError, match="CREATE UNIQUE INDEX"):
            sink("upsert", "id").check(SCHEMA)
        with pytest.raises(SinkError, match="no column 'key'"):
            sink("upsert", "key").check(SCHEMA)
        place.do("CREATE UNIQUE INDEX made_id ON made (id)")
        sink("upsert", "id").check(SCHEMA)

    @pytest.mark.parametrize(
        ("ids", "said"), [([1, 2, 1], "same key.*each key once"), ([1, None, 2], "no key.*NOT NULL")]
    )
    def test_upsert_refuses_keys_that_tell_no_rows_apart(
        self, place: Place, sink: Callable[..., TableSink], ids: list[Any], said: str
    ) -> None:
        target(place)
        before = place.all("made")
        made = sink("upsert", "id")
        made.hold(1, lambda told: None)
        made.start(PLAN, "0f" * 16)
        made.settle(SCHEMA, {})
        table = pa.table([ids, ["secret"] * 3, [1.0] * 3], schema=SCHEMA)
        made.append(mark(0, 3), made.encode(table), Beside())
        made.complete()
        with pytest.raises(SinkError, match=said) as raised:
            made.publish({})
        assert "secret" not in str(raised.value)
        assert "('id')" in str(raised.value)
        made.release()
        assert place.all("made") == before

    def test_columns_that_do_not_fit_are_told(self, place: Place, sink: Callable[..., TableSink]) -> None:
        place.do(f"CREATE TABLE made (id BIGINT, label VARCHAR(50), more {place.double})")
        with pytest.raises(SinkError, match=r"has no column 'score'.*ADD COLUMN"):
            sink("append").check(SCHEMA)
        place.do(f"ALTER TABLE made ADD COLUMN score {place.double}")
        assert any("more" in each for each in sink("append").check(SCHEMA))
        run_all(sink("append"))
        assert place.ask("SELECT id, label, score FROM made ORDER BY id") == expected(3)
        assert place.ask("SELECT DISTINCT more FROM made") == [(None,)]

    def test_a_column_that_the_database_computes_is_told(self, place: Place, sink: Callable[..., TableSink]) -> None:
        generated = f"{place.double} GENERATED ALWAYS AS (id + 0.5) {place.stored}"
        place.do(f"CREATE TABLE made (id BIGINT, label VARCHAR(50), score {generated})")
        with pytest.raises(SinkError, match=r"its column 'score' itself.*--keep"):
            sink("append").check(SCHEMA)

    def test_columns_that_differ_in_case_are_told_where_they_are_one(
        self, place: Place, sink: Callable[..., TableSink]
    ) -> None:
        schema = pa.schema([("id", pa.int64()), ("ID", pa.int64())])
        if place.database().folds:
            with pytest.raises(SinkError, match=r"'id' and 'ID', which are one"):
                sink().check(schema)
            place.do(f"CREATE TABLE made (ID BIGINT, Label VARCHAR(50), SCORE {place.double})")
            run_all(sink("append"))
            assert place.all("made") == expected(3)
        else:
            assert sink().check(schema) == ()

    def test_the_books_are_no_target(self, sink: Callable[..., TableSink]) -> None:
        with pytest.raises(UsageError, match="name another table"):
            sink(table="bimodal_Runs")

    def test_what_a_replaced_table_loses_is_told(self, place: Place, sink: Callable[..., TableSink]) -> None:
        place.do("CREATE TABLE made (id BIGINT)")
        assert sink("replace").check() == ()
        place.do("CREATE INDEX i ON made (id)")
        (note,) = sink("replace").check()
        assert "made has 1 index, which" in note

    def test_a_view_is_not_replaced(self, place: Place, sink: Callable[..., TableSink]) -> None:
        place.do("CREATE TABLE other (id BIGINT)")
        place.do("CREATE VIEW made AS SELECT * FROM other")
        with pytest.raises(SinkError, match=r"made is a view"):
            sink("replace").check()
        place.do("DROP VIEW made")

    def test_a_value_that_the_column_would_change_is_refused(
        self, place: Place, sink: Callable[..., TableSink]
    ) -> None:
        place.do("CREATE TABLE made (id BIGINT, label VARCHAR(50), score BIGINT)")
        with pytest.raises(SinkError, match="'score'"):
            run_all(sink("append"))
        assert place.all("made") == []

    # -- resuming ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("stop", [0, 1, 3])
    def test_a_run_goes_on_where_it_was_interrupted(
        self, place: Place, sink: Callable[..., TableSink], mode: str, stop: int
    ) -> None:
        kept = prepared(place, mode)
        key = ("id",) if mode == "upsert" else ()
        assert run_all(sink(mode, *key), 4, stop=stop) is None
        other = sink(mode, *key)
        begun = other.begun()
        if stop == 0:
            assert begun is None  # without a mark nothing is kept
        else:
            assert begun is not None
            assert (begun.chunks, begun.read, begun.predicted, begun.rejected) == (stop, stop * ROWS, stop * ROWS, 0)
            assert begun.last == mark(stop - 1)
            assert begun.plan == PLAN
            assert begun.run == "0f" * 16
            assert pa.ipc.read_schema(pa.py_buffer(begun.schema or b"")) == SCHEMA
        other.release()
        run_all(sink(mode, *key), 4)
        assert place.all("made") == [*kept, *expected(4)]
        assert left_over(place) == (0, 0)

    def test_a_chunk_that_is_there_is_not_written_again(self, place: Place, sink: Callable[..., TableSink]) -> None:
        made = sink()
        made.hold(1, lambda told: None)
        made.start(PLAN, "0f" * 16)
        made.settle(SCHEMA, {})
        for _ in range(2):
            made.append(mark(0), made.encode(chunk(0)), Beside())
        begun = made.begun()
        assert begun is not None
        assert begun.chunks == 1
        made.resume(begun)
        made.complete()
        made.publish({})
        made.release()
        assert place.all("made") == expected(1)

    def test_publication_may_be_repeated(self, place: Place, sink: Callable[..., TableSink]) -> None:
        made = sink("append")
        made.hold(1, lambda told: None)
        made.start(PLAN, "0f" * 16)
        made.settle(SCHEMA, {})
        made.append(mark(0), made.encode(chunk(0)), Beside())
        made.complete()
        first = made.publish({"plan": PLAN, "status": "complete"})
        assert made.publish({"other": 1}) == first
        made.release()
        assert place.all("made") == expected(1)

    def test_a_complete_run_that_was_not_published_is_known(self, place: Place, sink: Callable[..., TableSink]) -> None:
        made = sink()
        made.hold(1, lambda told: None)
        made.start(PLAN, "0f" * 16)
        made.settle(SCHEMA, {})
        made.append(mark(0, rejected=2), made.encode(chunk(0)), Beside(b'{"row": 1}\n{"row": 2}\n', b"s"))
        made.complete()
        assert refused(made.show_rejects()) == [{"row": 1}, {"row": 2}]
        made.release()
        other = sink()
        other.hold(1, lambda told: None)
        begun = other.begun()
        assert begun is not None
        assert begun.complete
        other.resume(begun)
        assert list(other.scored()) == [b"s"]
        report = other.publish({"predicted": ROWS})
        other.release()
        assert report["end"] == mark(0).cursor
        assert place.all("made") == expected(1)

    def test_drop_and_release_leave_nothing(self, place: Place, sink: Callable[..., TableSink]) -> None:
        run_all(sink(), stop=2)
        made = sink()
        made.hold(1, lambda told: None)
        made.drop()
        assert made.begun() is None
        made.release()
        assert left_over(place) == (0, 0)
        assert place.ask("SELECT COUNT(*) FROM bimodal_runs") == [(0,)]

    def test_check_leaves_nothing(self, place: Place, sink: Callable[..., TableSink]) -> None:
        made = sink()
        made.check(SCHEMA)
        made.release()
        assert place.tables() == set()

    def test_a_staging_table_that_somebody_changed_is_not_published(
        self, place: Place, sink: Callable[..., TableSink]
    ) -> None:
        run_all(sink(), stop=2)
        place.do(f"DELETE FROM bimodal_{'0f' * 6} WHERE id = 3")
        with pytest.raises(SinkError, match=r"79 rows|119 rows"):
            run_all(sink())
        place.do(f"DROP TABLE bimodal_{'0f' * 6}")
        with pytest.raises(SinkError, match="--fresh"):
            sink().begun()

    # -- what is known ----------------------------------------------------------------------------------------------

    def test_a_published_run_is_known_by_its_plan(self, place: Place, sink: Callable[..., TableSink]) -> None:
        assert sink().published() is None
        run_all(sink("append"))
        run_all(sink("append"), 2, plan={"key": "k2"}, run="1e" * 16)
        newest = sink("append").published()
        assert newest is not None
        assert newest.plan["key"] == "k2"
        assert newest.end == mark(1).cursor
        for key in ("k1", "k2"):
            found = sink("append").published(key)
            assert found is not None
            assert found.plan["key"] == key
        assert sink("append").published("k3") is None
        assert run_all(sink("append")) is not None  # the same command once more
        assert len(place.all("made")) == 5 * ROWS
        run_all(sink("replace"), 1, plan={"key": "k4"}, run="2d" * 16)
        assert sink("append").published("k1") is None  # its rows are gone

    @pytest.mark.parametrize("what", ["DROP TABLE made", "DELETE FROM made"])
    def test_an_output_that_is_gone_is_not_complete(
        self, place: Place, sink: Callable[..., TableSink], what: str
    ) -> None:
        run_all(sink())
        assert sink().published() is not None
        place.do(what)
        assert sink().published() is None

    def test_rejects_and_scores_come_back_in_order(
        self, place: Place, sink: Callable[..., TableSink], tmp_path: Path
    ) -> None:
        made = sink()
        made.hold(1, lambda told: None)
        made.start(PLAN, "0f" * 16)
        made.settle(SCHEMA, {})
        lines = [json.dumps({"row": number, "raw": 'naïve "q" \0'}).encode() + b"\n" for number in range(12)]
        for number in range(12):
            beside = Beside(lines[number] if number % 2 else b"", bytes(range(256)) * number)
            made.append(mark(number, 1, number % 2), made.encode(chunk(number, 1)), beside)
        made.complete()
        assert list(made.rejects()) == lines[1::2]
        assert list(made.scored()) == [bytes(range(256)) * number for number in range(1, 12)]
        report = made.publish({})
        assert refused(report["rejects"]) == [json.loads(line) for line in lines[1::2]]
        assert list(made.rejects()) == lines[1::2]
        made.release()
        run_all(sink("replace"), plan={"key": "k2"}, run="1e" * 16)
        assert not Path(report["rejects"]).exists()

    def test_a_chunk_without_rows(self, place: Place, sink: Callable[..., TableSink]) -> None:
        made = sink()
        made.hold(1, lambda told: None)
        made.start(PLAN, "0f" * 16)
        made.settle(SCHEMA, {})
        made.append(mark(0, 0, 5), made.encode(SCHEMA.empty_table()), Beside(b"{}\n"))
        made.complete()
        made.publish({})
        made.release()
        assert place.all("made") == []

    # -- one at a time ----------------------------------------------------------------------------------------------

    def test_the_second_one_is_told_who_holds_it(self, place: Place, sink: Callable[..., TableSink]) -> None:
        first, second, other = sink(), sink(), sink(table="other")
        first.hold(1, lambda told: None)
        words: list[str] = []
        with pytest.raises(OutputHeld, match=r"process .* on .*since"):
            second.hold(0.3, words.append)
        assert len(words) == 1
        other.hold(0, words.append)
        first.release()
        second.hold(5, words.append)
        assert len(words) == 1
        for each in (second, other):
            each.release()

    # -- names ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("mode", ["create", "append", "replace", "upsert"])
    def test_hostile_names_are_names(self, place: Place, sink: Callable[..., TableSink], mode: str) -> None:
        table, column = 'a "b"; DROP TABLE made; -- é%s{0}', f'x"; y % {{}} {place.sign} select'
        schema = pa.schema([(column, pa.int64()), ("SELECT", pa.string())])
        key = (column,) if mode == "upsert" else ()
        if mode != "create":
            place.do(
                f"CREATE TABLE {place.quote(table)} ({place.quote(column)} BIGINT, {place.quote('SELECT')} VARCHAR(9))"
            )
        if mode == "upsert":
            place.do(f"CREATE UNIQUE INDEX hostile ON {place.quote(table)} ({place.quote(column)})")
        made = sink(mode, *key, table=table)
        made.hold(1, lambda told: None)
        made.check(schema)
        made.start(PLAN, "0f" * 16)
        made.settle(schema, {})
        made.append(mark(0, 2), made.encode(pa.table([[1, 2], ["a", None]], schema=schema)), Beside(b"{}\n"))
        made.complete()
        made.publish({"plan": PLAN, "predicted": 2})
        made.release()
        assert place.all(table, column) == [(1, "a"), (2, None)]
        assert sink(mode, *key, table=table).published() is not None

    # -- killed -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "mode",
        [
            "append",
            *(pytest.param(mode, marks=pytest.mark.soak) for mode in ("create", "replace", "upsert")),
        ],
    )
    def test_killed_before_each_of_its_acts(self, place: Place, zygote: Zygote, mode: str, tmp_path: Path) -> None:
        """Each statement that changes something, each COMMIT: killed before it, and run to the end."""
        at, done = 0, False
        while not done:
            kept = prepared(place, mode)
            done = spawned(zygote, place, mode, 1, ROWS, at, tmp_path) == 0
            assert spawned(zygote, place, mode, 1, ROWS, None, tmp_path) == 0
            assert place.all("made") == [*kept, *expected(1)], at
            assert left_over(place) == (0, 0), at
            cleared(place)
            at += 1
        assert at > 8

    @pytest.mark.soak
    @pytest.mark.parametrize("mode", MODES)
    def test_killed_two_hundred_and_fifty_times(self, place: Place, zygote: Zygote, mode: str, tmp_path: Path) -> None:
        self.kill_often(zygote, place, mode, tmp_path, 250)

    @pytest.mark.soak  # the checks have those of tests/crash, through the command
    @pytest.mark.parametrize("mode", MODES)
    def test_killed_at_any_time(self, place: Place, zygote: Zygote, mode: str, tmp_path: Path) -> None:
        self.kill_often(zygote, place, mode, tmp_path, self.kills)

    def kill_often(self, zygote: Zygote, place: Place, mode: str, folder: Path, kills: int) -> None:
        """Killed at random times until there were so many kills; after each publication the table is looked at."""
        random_ = random.Random(mode)
        length, killed = 1.0, 0
        while killed < kills:
            kept = prepared(place, mode)
            started = time.monotonic()
            while (code := spawned(zygote, place, mode, 6, 2000, None, folder, random_.uniform(0, length))) != 0:
                assert code == -9
                killed += 1
                if killed % 10 == 0:
                    length = max(length, 1.0) * 1.3  # so that it comes to an end
            length = min(time.monotonic() - started, 1.0)
            assert place.all("made") == [*kept, *expected(6, 2000)]
            assert left_over(place) == (0, 0)
            cleared(place)


def target(place: Place) -> None:
    """A table with a unique index, a row that is to stay, and one that is to be updated."""
    place.do(f"CREATE TABLE made (id BIGINT, label VARCHAR(50), score {place.double})")
    place.do("CREATE UNIQUE INDEX made_id ON made (id)")
    place.do("INSERT INTO made VALUES (%s, %s, %s)", [(-1, "stays", 1.5), (5, "old", 0.0)])


def prepared(place: Place, mode: str) -> list[tuple[Any, ...]]:
    """What stands there before; gives the rows that are to stay."""
    if mode == "upsert":
        target(place)
        return [(-1, "stays", 1.5)]
    if mode in ("append", "replace"):
        place.do(f"CREATE TABLE made (id BIGINT, label VARCHAR(50), score {place.double})")
        place.do("INSERT INTO made VALUES (%s, %s, %s)", [(-1, "stays", 1.5)])
        return [(-1, "stays", 1.5)] if mode == "append" else []
    return []


def cleared(place: Place) -> None:
    for table in ("made", "bimodal_runs", "bimodal_chunks", "bimodal_rejects"):
        place.do(f"DROP TABLE {table}")


def refused(path: str) -> list[dict[str, Any]]:
    """The lines of a rejects file, each of which names the table."""
    found = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert {each.pop("table").rpartition("#")[2] for each in found} == {"made"}
    return found


def left_over(place: Place) -> tuple[int, int]:
    """Marks that are left, and staging tables."""
    ((marks,),) = place.ask("SELECT COUNT(*) FROM bimodal_chunks")
    database = place.database()
    session = database.session()
    try:
        staged = [TableName(f"bimodal_{run * 6}{old}") for run in ("0f", "1e", "2d") for old in ("", "_old")]
        found = [each for each in staged if database.columns(session, database.resolve(session, each)) is not None]
    finally:
        session.close()
    return int(marks), len(found)


def spawned(
    zygote: Zygote,
    place: Place,
    mode: str,
    chunks: int,
    rows: int,
    at: int | None,
    folder: Path,
    after: float | None = None,
) -> int:
    """The exit code of a run in a process of its own. at: the act before which it is killed; after: or the seconds."""
    key = ("id",) if mode == "upsert" else ()
    return zygote.run(f"{place.url}#made", mode, key, chunks, rows, at, str(folder), after=after)
