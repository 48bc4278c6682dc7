"""The operator: keeps the objects of every `Singleton` as the resource says.

`naming` and `reading` make an Application of a resource, `schema` and `rules` what the API server
checks of it, `definition` the CustomResourceDefinition. `desired` says which objects there shall
be, `observed` which there are, `remains` which of them have to be gone first, `plan` what is done
next, `steps` what a step is. `cluster` sends requests, `reconciling` carries steps out. `tenure`,
`status` and `telling` say what came of it. `waking`, `queue` and `controller` keep it going;
`install` brings it to a cluster.

Rules
-----
1. **Who decides is pure.** What there shall be and what there is go into `plan`, steps come out.
2. **What is decided on was just read**, from a quorum. A watch only wakes; it is no memory.
3. **Every write names what it replaces.** A change carries uid and resourceVersion of what was
   read, a deletion does, a creation creates and nothing else. So whatever a deposed operator has
   under way, or sends late, meets the object as it knew it, or is refused.
4. **Nothing is born that works.** A workload is created with 0 replicas, an autoscaler with a
   target that is not there. To set it going is a change, and rule 3 is about changes. So a late
   creation makes an object that does nothing, and that the next round takes away.
5. **The term is asked before each write**, and its token is put on each workload before anything
   else is done there: from then on, whatever was decided in an earlier term is refused.
6. **The old is gone for certain before the new is made**, where nothing but us would keep the two
   apart: see `plan`.

Why no framework
----------------
kopf is the one that is kept (1.45.2 is of October 2026, and runs on Python 3.11 and newer). It was
read for this:

- It writes by itself: progress and the last handled state into annotations, and results into the
  status. Those are merge patches without a resourceVersion (`_cogs/clients/patching.py`), so that
  of a deposed operator a late one cannot be refused. That is rule 3.
- Its finalizers keep a Singleton from being deleted while no operator runs. Owner references need
  nobody.
- Its peering, by which the younger of two operators pauses, is a record that expires by the wall
  clock. One that is elected here would run `standalone`.
- With low-level handlers only, it does none of that. What is then left is listing and watching,
  and the store of Leases in this project does that already. kopf's watch has no time limit unless
  one is set, it wants to list and watch all namespaces and all definitions of a cluster, and it
  brings aiohttp and five packages more.
"""
