"""Elections in a queue that members of other libraries stand in as well.

The recipes of ZooKeeper's and etcd's own libraries are queues: a contender has a node that the
server removes with its session, and whoever has the lowest number holds. `store` makes elections of
such a queue, `api` is what the driver of a server must do, `notes` is what stands in our nodes.
"""

from incumbent.stores.queue.api import Gone, Line, Node, Queue
from incumbent.stores.queue.store import QueueStore

__all__ = ["Gone", "Line", "Node", "Queue", "QueueStore"]
