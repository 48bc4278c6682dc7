"""The stores beside their neighbours: one description a store (`kinds`), four measurements.

All stores are measured in one run and in turns, each against what its own server allows and against
the best that people use on that server today. Kubernetes is not among them: it is in the other
benchmarks, beside client-go.
"""
