"""The pattern's hard cases on a real two-node cluster, on one machine, without a container daemon.

Two kubelets with containerd and runc in namespaces of their own, real Pods with real processes, and
a link that can be cut: what happens to one active process then is not asked of the API, which knows
nothing of the other side of a cut, but of the processes' own marks on the disk that both nodes
share.

| question | module |
| --- | --- |
| What does a process say of itself? | `marks`; and what follows from that: `reader` |
| What is deployed? | `workloads`, from the image of `images` |
| Which faults, and what is expected of each mode? | `causes`, `expected` |
| How does a round go? | `rounds`; what the API says meanwhile: `observer`; DNS: `dns` |
| How is it shown? | `timeline`, `picture` |
| What is a node, the network, the control plane? | `node`, `network`, `control` |
| Who starts and ends all of it? | `cluster`; what a killed run left behind: `leftovers` |
| What refuses a late write? | `ledger` |
| How is a node played by local processes? | `fakenode`, `fakecluster` |

`python -m tests.cluster` shows one cut; `--all` tries every cause and says what was expected.
"""
