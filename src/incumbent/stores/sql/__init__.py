"""Elections in the tables of an SQL database that the user has already.

`store` is the `Store` over any `Server`, `base` what it shares with the stores of `joined`,
`statements` the SQL, `rows` what a row says, `pool` the connections, and `api` what a driver of one
database must do.
"""

from incumbent.stores.sql.api import Rows, Server
from incumbent.stores.sql.base import LOOKS_PER_TTL
from incumbent.stores.sql.store import SqlStore

__all__ = ["LOOKS_PER_TTL", "Rows", "Server", "SqlStore"]
