"""What the code needs from outside, chosen by `DAGSTER_ENV`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import dagster as dg
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection
from psycopg2.extras import execute_values

ENVIRONMENTS = ("dev", "staging", "prod", "demo")


def environment() -> str:
    """The environment the code runs in; `dev` on a laptop."""
    name = os.environ.get("DAGSTER_ENV", "dev")
    if name not in ENVIRONMENTS:
        raise ValueError(f"DAGSTER_ENV is {name!r}: expected one of {', '.join(ENVIRONMENTS)}")
    return name


def use_production_credentials() -> bool:
    """Whether this is the environment whose credentials may write where it counts."""
    return environment() == "prod"


class Warehouse(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Postgres database that assets are written to. It is made when it is missing."""

    host: str
    user: str
    password: str
    database: str
    statement_timeout_seconds: int = 60

    @contextmanager
    def connect(self) -> Iterator[connection]:
        """A connection whose work is committed at the end, or not at all."""
        try:
            opened = self._open(self.database)
        except psycopg2.OperationalError as error:
            if "does not exist" not in str(error):
                raise
            self._create()
            opened = self._open(self.database)
        with closing(opened), opened:
            yield opened

    def replace(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Makes the rows the whole content of a table of texts and numbers.

        A migration makes the table; where none was applied, as on a laptop, it is made here.
        """
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        name = sql.Identifier(table)
        with self.connect() as warehouse, warehouse.cursor() as cursor:
            kinds = [_KINDS[type(value)] for value in rows[0]]
            fields = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
                for column, kind in zip(columns, kinds, strict=True)
            )
            create = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(name, fields)
            cursor.execute(create)
            cursor.execute(sql.SQL("DELETE FROM {}").format(name))
            insert = sql.SQL("INSERT INTO {} ({}) VALUES %s").format(name, names)
            execute_values(cursor, insert, rows)

    def count(self, table: str) -> int:
        """How many rows a table has."""
        with self.connect() as warehouse, warehouse.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
            row = cursor.fetchone()
            assert row is not None, "count(*) answers one row"
            return int(row[0])

    def _open(self, database: str) -> connection:
        return psycopg2.connect(
            host=self.host,
            user=self.user,
            password=self.password,
            dbname=database,
            options=f"-c statement_timeout={self.statement_timeout_seconds}s",
        )

    def _create(self) -> None:
        with closing(self._open("postgres")) as server:
            # CREATE DATABASE cannot be part of a transaction.
            server.autocommit = True
            with server.cursor() as cursor:
                try:
                    cursor.execute(
                        sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database))
                    )
                except psycopg2.errors.DuplicateDatabase:
                    pass  # Another run was first.


_KINDS = {str: "text", int: "bigint", float: "double precision", bool: "boolean"}


def resources() -> dict[str, Any]:
    """The resources of this environment."""
    return {
        "warehouse": Warehouse(
            host=dg.EnvVar("DAGSTER_POSTGRES_HOST"),
            user=dg.EnvVar("POSTGRES_USER"),
            password=dg.EnvVar("POSTGRES_PASSWORD"),
            database=dg.EnvVar("WAREHOUSE_DB"),
            # A mistake shows soon, but where there is real work to do.
            statement_timeout_seconds=600 if use_production_credentials() else 60,
        )
    }


def run_config() -> dict[str, Any]:
    """How jobs run in this environment: the production VM has the cores for several steps."""
    steps = 4 if use_production_credentials() else 1
    return {"execution": {"config": {"multiprocess": {"max_concurrent": steps}}}}


def years() -> range:
    """The years whose offsets are kept: few but in production, so that a try is quick."""
    return range(1970, 2031) if use_production_credentials() else range(2020, 2026)
