"""What a candidate must be permitted in PostgreSQL, each right asked of the server by itself.

The catalogues tell of tables in a schema that we may not use, too, where naming them is an error;
so they are asked, and not `to_regclass`. Whoever creates the tables owns them, and needs nothing
else: `CREATE` on the schema counts only while a table is missing, and the other rights only for
what is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from incumbent.stores.api import Finding
from incumbent.stores.sql.api import Dialect, Rows

__all__ = ["examine"]


async def examine(
    look: Callable[[Sequence[str]], Awaitable[list[Rows]]],
    dialect: Dialect,
    schema: str,
    tables_needed: Mapping[str, tuple[str, ...]],
) -> list[Finding]:
    """Return a finding for the schema, and one for each table that is there."""
    text = dialect.text
    # A name that is not quoted is in lower case for the server.
    wanted = {table.lower(): verbs for table, verbs in tables_needed.items()}
    where = text(schema) if schema else "current_schema()"
    seen = f"n.nspname = {text(schema)}" if schema else "pg_table_is_visible(c.oid)"
    listed = ", ".join(map(text, wanted))
    verbs = sorted({verb for needed in wanted.values() for verb in needed})
    may = ", ".join(f"has_table_privilege(c.oid, '{verb}')" for verb in verbs)
    (schemas, tables) = await look(
        [
            (
                "SELECT quote_ident(n.nspname), quote_ident(current_user), "
                "has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE') "
                f"FROM pg_namespace n WHERE n.nspname = {where}"
            ),
            (
                f"SELECT c.relname, quote_ident(n.nspname), {may} FROM pg_class c "
                "JOIN pg_namespace n ON n.oid = c.relnamespace "
                f"WHERE c.relkind IN ('r', 'p') AND {seen} AND c.relname IN ({listed})"
            ),
        ]
    )
    if not schemas:
        if schema:
            return [_finding("schema", f"{schema!r} does not exist", f'CREATE SCHEMA "{schema}"')]
        fix = "name one: ?schema=NAME"
        return [_finding("schema", "the search path has no schema that we may use", fix)]
    name, user, uses, creates = schemas[0]
    findings = []
    if uses == "f":
        fix = f"GRANT USAGE ON SCHEMA {name} TO {user}"
        findings.append(_finding("right to use", f"may not use the schema {name}", fix))
    missing = [table for table in wanted if table not in {row[0] for row in tables}]
    if missing:
        there = f"{' and '.join(missing)} not there yet"
        if creates == "t":
            findings.append(
                Finding("right to create", True, f"{there}; may create tables in {name}")
            )
        else:
            fix = f"GRANT CREATE ON SCHEMA {name} TO {user}, or start as their owner once"
            text_ = f"{there}, and may not create tables in {name}"
            findings.append(_finding("right to create", text_, fix))
    for table, place, *answers in sorted(tables):
        having = {verb for verb, answer in zip(verbs, answers, strict=True) if answer == "t"}
        lacking = ", ".join(verb for verb in wanted[table] if verb not in having)
        check = f"rights on {table}"
        if lacking:
            fix = f"GRANT {lacking} ON {place}.{table} TO {user}"
            findings.append(_finding(check, f"may not {lacking}: no candidate can do without", fix))
        else:
            findings.append(Finding(check, True, f"may {', '.join(wanted[table])}"))
    return findings


def _finding(check: str, text: str, fix: str) -> Finding:
    return Finding(check, False, text, fix)
