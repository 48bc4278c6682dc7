"""What a candidate must be permitted in MySQL and MariaDB: each right is tried, without an effect.

Grants can be read, but not all: those of a role, and of patterns of names, would have to be put
together as the server does it. So each statement is sent with a condition that nothing meets; the
server looks at the rights first. For `CREATE` it is a table whose one column is named twice: it is
refused for the right, or, once that is there, for the column.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from incumbent.errors import PermissionDenied, StoreAbsent, StoreError
from incumbent.stores.api import Finding
from incumbent.stores.sql.api import Rows, Tables

__all__ = ["examine"]

_TRIES = {
    "SELECT": "SELECT 1 FROM {table} WHERE 1 = 0",
    "INSERT": "INSERT INTO {table} ({columns}) SELECT {values} FROM DUAL WHERE 1 = 0",
    "UPDATE": "UPDATE {table} SET {column} = {column} WHERE 1 = 0",
    "DELETE": "DELETE FROM {table} WHERE 1 = 0",
}
_COLUMNS = {
    "incumbent_counter": {"name": "''", "serial": "0", "ttl_s": "0"},
    "incumbent_session": {"id": "''", "owner": "''", "ttl_s": "0", "beat": "0"},
    "incumbent_election": {
        "name": "''",
        "format": "0",
        "serial": "0",
        "holder": "''",
        "term": "''",
        "token": "0",
        "session": "''",
        "ttl_s": "0",
        "successor": "''",
        "request_term": "''",
        "request_to": "''",
    },
}
_CREATE = "CREATE TABLE incumbent_doctor (a INTEGER, a INTEGER)"
_DUPLICATE = "(1060)"


async def examine(
    ask: Callable[[Sequence[str]], Awaitable[list[Rows]]], tables: Tables
) -> list[Finding]:
    """Return a finding for each table, and one for the right to create one that is missing."""
    findings, absent = [], []
    (((who, database),),) = await ask(["SELECT CURRENT_USER(), DATABASE()"])
    user, _, host = str(who).rpartition("@")
    grantee = f"'{user}'@'{host}'"
    for table, needed in tables.needed.items():
        lacking = []
        for verb in needed:
            try:
                await ask([_statement(verb, table, {**_COLUMNS, **tables.columns}[table])])
            except PermissionDenied:
                lacking.append(verb)
            except StoreAbsent:
                absent.append(table)
        verbs = ", ".join(lacking or needed)
        check = f"rights on {table}"
        if lacking:
            fix = f"GRANT {verbs} ON {database}.{table} TO {grantee}"
            text = f"may not {verbs}: no candidate can do without"
            findings.append(Finding(check, False, text, fix))
        else:
            findings.append(Finding(check, True, f"may {verbs}"))
    if absent:
        findings.append(
            await _create(ask, list(dict.fromkeys(absent)), f"{database}.* TO {grantee}")
        )
    return findings


def _statement(verb: str, table: str, columns: Mapping[str, str]) -> str:
    return _TRIES[verb].format(
        table=table,
        column=next(iter(columns)),
        columns=", ".join(columns),
        values=", ".join(columns.values()),
    )


async def _create(
    ask: Callable[[Sequence[str]], Awaitable[list[Rows]]], absent: list[str], granted: str
) -> Finding:
    check, there = "right to create", f"{' and '.join(absent)} not there yet"
    try:
        await ask([_CREATE])
    except PermissionDenied:
        fix = f"GRANT CREATE ON {granted}, or start as their owner once"
        return Finding(check, False, f"{there}, and may not create tables", fix)
    except StoreError as error:
        if _DUPLICATE in str(error):
            return Finding(check, True, f"{there}; may create tables")
        return Finding(check, None, f"{there}; {error}")
    return Finding(check, None, there)
