"""How the objects are written down: plain YAML, kustomize, or a Helm chart, all from one model.

`yaml` has what all of them share, `table` the words about who can be two, `files` what is written
into a folder.
"""
