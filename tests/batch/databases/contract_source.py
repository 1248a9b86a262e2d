"""What every database keeps as a source. An adapter's test class inherits SourceContract and gives `place`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from bimodal.batch.databases import source as module
from bimodal.batch.databases.contract import Query, Relation, TableName
from bimodal.batch.databases.source import DatabaseSource
from bimodal.batch.sources.contract import Chunk, Reading
from bimodal.errors import SourceChanged, SourceError
from tests.batch.databases.place import Place

ROWS = 250
READING = Reading({"x": None}, ("id", "label"))


def row(number: int) -> tuple[int, float | None, str | None]:
    return (number, None if number % 11 == 0 else number / 7, None if number % 13 == 0 else f"naïve '{number}'\n")


class SourceContract:
    """The source's law; the rows are put there by the database's own driver. The adapter's test class gives the fixture
    `place`.
    """

    @pytest.fixture(autouse=True)
    def _small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "CHUNK_ROWS", 64)
        monkeypatch.setattr(module, "FEWEST", 4)

    @pytest.fixture
    def table(self, place: Place) -> Place:
        """250 rows."""
        place.do(f"CREATE TABLE other (id BIGINT, x {place.double}, label VARCHAR(50))")
        place.do("INSERT INTO other VALUES (%s, %s, %s)", [row(number) for number in range(ROWS)])
        return place

    # -- rows -------------------------------------------------------------------------------------------------------

    def test_all_rows_come_once_and_in_order(self, table: Place) -> None:
        chunks = list(opened(table).chunks(READING))
        assert [chunk.number for chunk in chunks] == [0, 1, 2, 3]
        assert [chunk.count for chunk in chunks] == [64, 64, 64, 58]
        assert [chunk.first_row for chunk in chunks] == [1, 65, 129, 193]
        assert values(chunks) == [row(number) for number in range(ROWS)]
        assert chunks[0].source == "other"
        assert chunks[0].raw(3) == {"x": 3 / 7, "id": 3, "label": "naïve '3'\n"}

    def test_the_schema_is_known_before(self, table: Place) -> None:
        source = opened(table)
        assert source.columns == ("id", "x", "label")
        schema = source.kept_schema(("label", "id"))
        assert schema.types == [pa.string(), pa.int64()]
        for chunk in source.chunks(READING):
            assert chunk.kept.schema.equals(source.kept_schema(("id", "label")), check_metadata=True)
            assert chunk.features.schema.types == [pa.float64()]

    def test_a_column_may_be_feature_and_kept(self, table: Place) -> None:
        first = next(iter(opened(table).chunks(Reading({"x": None}, ("x",)))))
        assert first.features.column("x").equals(first.kept.column("x"))

    def test_a_table_without_rows(self, place: Place) -> None:
        place.do(f"CREATE TABLE other (id BIGINT, x {place.double}, label VARCHAR(50))")
        source = opened(place)
        assert list(source.chunks(READING)) == []
        assert source.unchanged(None)
        place.do("INSERT INTO other VALUES (%s, %s, %s)", [row(1)])
        assert not source.unchanged(None)

    def test_exact_numbers_feed_the_model_as_the_nearest_doubles(self, place: Place) -> None:
        place.do(f"CREATE TABLE other (id BIGINT, x {place.numeric}, label VARCHAR(50))")
        place.do("INSERT INTO other VALUES (%s, %s, %s)", [(1, "12345678.91", "a"), (2, None, "b")])
        (chunk,) = opened(place).chunks(READING)
        assert chunk.features.column("x").to_pylist() == [12345678.91, None]

    def test_one_view_of_the_table(self, table: Place) -> None:
        pieces = opened(table).pieces(READING)
        first = next(pieces)
        if table.folder is None:  # a file has one writer at a time
            table.do("INSERT INTO other VALUES (%s, %s, %s)", [row(number) for number in range(ROWS, 2 * ROWS)])
        assert values([first.load(), *(piece.load() for piece in pieces)]) == [row(number) for number in range(ROWS)]

    def test_a_reader_that_leaves_early_lets_go(self, table: Place) -> None:
        source = opened(table)
        pieces = source.pieces(READING)
        next(pieces).load()
        pieces.close()  # type: ignore[attr-defined] # it is a generator
        source.close()
        table.do("DROP TABLE other")

    def test_wide_rows_make_shorter_chunks(self, table: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "WIDEST", 1000)
        chunks = list(opened(table).chunks(READING))
        assert values(chunks) == [row(number) for number in range(ROWS)]
        assert all(chunk.count <= 32 for chunk in chunks)

    # -- queries ----------------------------------------------------------------------------------------------------

    def test_a_query_is_a_source_too(self, table: Place) -> None:
        text = "SELECT id, x, label FROM other WHERE id % 2 = 0 AND label LIKE '%n%' ORDER BY id DESC; -- so\n"
        chunks = list(opened(table, Query(text)).chunks(READING))
        assert values(chunks) == [row(number) for number in range(ROWS - 2, -1, -2) if row(number)[2] is not None]
        assert chunks[0].source == "the query"

    @pytest.mark.parametrize(
        "text", ["DELETE FROM other", "SELECT 1; DELETE FROM other", "SELEC 1", "SELECT nothing FROM other", ""]
    )
    def test_what_is_no_query_is_refused_and_does_nothing(self, table: Place, text: str) -> None:
        with pytest.raises(SourceError):
            list(opened(table, Query(text)).chunks(Reading({}, ("id",))))
        assert len(table.ask("SELECT id FROM other")) == ROWS

    def test_two_columns_of_one_name_are_refused(self, table: Place) -> None:
        with pytest.raises(SourceError, match="two columns called 'id'"):
            opened(table, Query("SELECT a.id, b.id FROM other a JOIN other b ON a.id = b.id"))

    # -- names ------------------------------------------------------------------------------------------------------

    def test_a_table_that_is_not_there_is_told_with_the_nearest(self, table: Place) -> None:
        with pytest.raises(SourceError, match=r"did you mean.*other"):
            opened(table, TableName("othre"))

    def test_hostile_names_are_names(self, place: Place) -> None:
        name, column = 'a "b"; DROP TABLE other; -- é%s{0}', f'x"; y % {{}} {place.sign} select'
        place.do(f"CREATE TABLE {place.quote(name)} ({place.quote(column)} BIGINT, {place.quote('SELECT')} VARCHAR(9))")
        place.do(f"INSERT INTO {place.quote(name)} VALUES (%s, %s)".replace("é%s{0}", "é%%s{0}"), [(1, "a"), (2, "%s")])
        (chunk,) = opened(place, TableName(name)).chunks(Reading({column: None}, ("SELECT",)))
        assert chunk.features.to_pylist() == [{column: 1}, {column: 2}]
        assert chunk.kept.to_pylist() == [{"SELECT": "a"}, {"SELECT": "%s"}]

    # -- going on ---------------------------------------------------------------------------------------------------

    def test_it_goes_on_behind_each_chunk(self, table: Place) -> None:
        pieces = [(piece.cursor, told(piece.load())) for piece in opened(table).pieces(READING)]
        for place_, (cursor, _) in enumerate(pieces):
            rest = [(piece.cursor, told(piece.load())) for piece in opened(table).pieces(READING, after=cursor)]
            assert rest == pieces[place_ + 1 :]

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE other SET x = -1 WHERE id = 7",
            "UPDATE other SET label = NULL WHERE id = 100",
            "DELETE FROM other WHERE id = 127",
            "DELETE FROM other WHERE id > 100",
            "DELETE FROM other",
        ],
    )
    def test_a_change_before_the_place_is_found(self, table: Place, change: str) -> None:
        cursor = list(opened(table).pieces(READING))[1].cursor
        table.do(change)
        with pytest.raises(SourceChanged, match="--fresh"):
            list(opened(table).pieces(READING, after=cursor))

    def test_rows_that_came_behind_the_place_are_read(self, table: Place) -> None:
        cursor = list(opened(table).pieces(READING))[1].cursor
        table.do("INSERT INTO other VALUES (%s, %s, %s)", [row(ROWS)])
        rest = [piece.load() for piece in opened(table).pieces(READING, after=cursor)]
        assert values(rest) == [row(number) for number in range(128, ROWS + 1)]

    @pytest.mark.parametrize(
        ("change", "same"),
        [
            ("UPDATE other SET x = x", None),  # where an update moves a row, the order is another
            ("INSERT INTO other VALUES (250, 1, 'a')", False),
            ("DELETE FROM other WHERE id = 249", False),
            ("UPDATE other SET label = '' WHERE label IS NULL", False),
        ],
    )
    def test_it_knows_whether_it_is_unchanged(self, table: Place, change: str, same: bool | None) -> None:
        end = list(opened(table).pieces(READING))[-1].cursor
        assert opened(table).unchanged(end)
        assert not opened(table).unchanged(None)
        table.do(change)
        if same is not None:
            assert opened(table).unchanged(end) is same

    def test_the_fingerprint_is_of_what_is_read(self, table: Place) -> None:
        query = Query("SELECT * FROM other")
        prints = [opened(table, each).fingerprint() for each in (TableName("other"), query, Query(f"{query.text} "))]
        assert len(set(prints)) == 3
        assert opened(table).fingerprint() == prints[0]
        table.do("ALTER TABLE other ADD COLUMN more BIGINT")
        assert opened(table).fingerprint() != prints[0]


def opened(place: Place, relation: Relation | None = None) -> DatabaseSource:
    return DatabaseSource(place.database(), relation or TableName("other"))


def values(chunks: Sequence[Chunk]) -> list[tuple[Any, ...]]:
    """id, x, label."""
    return [
        (kept["id"], fed["x"], kept["label"])
        for chunk in chunks
        for kept, fed in zip(chunk.kept.to_pylist(), chunk.features.to_pylist(), strict=True)
    ]


def told(chunk: Chunk) -> tuple[Any, ...]:
    return (chunk.number, chunk.first_row, chunk.source, chunk.features.to_pylist(), chunk.kept.to_pylist())
