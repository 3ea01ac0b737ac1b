"""Upserts of many rows on a real Postgres: few round trips, and each row as it would be alone."""

import sqlalchemy
from sqlalchemy.dialects.postgresql import insert

from proc_decam_dagster.repository.upserts import PAGE, send_upserts_in_pages

ROWS = 2 * PAGE + 1


def test_upserts_of_many_rows_take_few_round_trips(started):
    from psycopg2.extensions import cursor as Cursor

    trips = []

    class Counted(Cursor):
        def execute(self, query, *parameters):
            trips.append("execute")
            return super().execute(query, *parameters)

        def executemany(self, query, *parameters):
            trips.append("executemany")
            return super().executemany(query, *parameters)

    send_upserts_in_pages()
    send_upserts_in_pages()
    url = sqlalchemy.URL.create("postgresql", "proc_decam", started.password(), "127.0.0.1", started.port,
                                "proc_decam_registry")  # fmt: skip
    engine = sqlalchemy.create_engine(url, connect_args={"cursor_factory": Counted})
    table = sqlalchemy.Table(
        "upserted", sqlalchemy.MetaData(), sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True),
        sqlalchemy.Column("name", sqlalchemy.String(20)), prefixes=["TEMPORARY"],
    )  # fmt: skip
    with engine.begin() as connection:
        table.create(connection)
        trips.clear()
        new = insert(table)
        connection.execute(new.on_conflict_do_nothing(), [{"id": i, "name": "100 %s"} for i in range(ROWS)])
        assert trips == ["execute"] * 3
        # The same row twice in one page: a single statement of many rows would be refused.
        replaced = new.on_conflict_do_update(index_elements=["id"], set_={"name": new.excluded.name})
        connection.execute(replaced, [{"id": i % 300, "name": f"r{i}"} for i in range(600)])
        found = dict(connection.execute(sqlalchemy.select(table)).all())
    assert found == {i: f"r{300 + i}" if i < 300 else "100 %s" for i in range(ROWS)}
    engine.dispose()
