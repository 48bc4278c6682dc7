"""What happens to the active one on a real cluster when all goes as it should, or nearly.

`evidence`: how soon a crash is followed, beside client-go. `silence`: that nothing else is taken
for a death. `rolling`, `drain`: what a planned move costs those who call. Each is
`python -m tests.cluster --live NAME`.
"""
