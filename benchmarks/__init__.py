"""What the library costs and how fast it is, beside what people use instead.

On Kubernetes that is client-go and the Kubernetes Python client; of the other stores, `stores`
tells.

`python -m benchmarks` runs everything in one go, on one API server that it starts itself, and
interleaved, so that a busy machine is busy for everybody: read the ratios rather than the
milliseconds. Each benchmark is one module, whose head says what is measured, from which event to
which, and what could bias it.

Rules
-----
1. **Instants are stamps of CLOCK_BOOTTIME, written by the process to which it happened**, all on
   one host. What reads them later decides nothing about them.
2. **Pauses let time pass and measure nothing.** A pause before an event is random, so that nothing
   runs in step with renewals.
3. **The others are run as they are**: client-go's elector by the program of the interoperability
   tests, the Python client's by its own `LeaderElection`, locks by their own documentation, with
   nothing around them but stamps.
"""
