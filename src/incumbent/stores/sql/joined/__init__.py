"""Elections in the lock table of another library, beside its members: ShedLock's, Spring's.

`tables` says how each of them keeps a lock, `statements` has the SQL, `rows` what is read from it,
and `store` the rules.
"""

from incumbent.stores.sql.joined.opening import OPTIONS, RECIPES, Joined, capabilities, joined
from incumbent.stores.sql.joined.store import JoinedStore

__all__ = ["OPTIONS", "RECIPES", "Joined", "JoinedStore", "capabilities", "joined"]
