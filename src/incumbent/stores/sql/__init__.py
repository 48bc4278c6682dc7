"""Elections in the tables of an SQL database that the user has already.

`store` is the `Store` over any `Server`, `statements` the SQL, `rows` what a row says, `pool` the
connections, and `api` what a driver of one database must do.
"""

from incumbent.stores.sql.api import Rows, Server
from incumbent.stores.sql.store import LOOKS_PER_TTL, SqlStore

__all__ = ["LOOKS_PER_TTL", "Rows", "Server", "SqlStore"]
