"""Kubernetes manifests for one application that must not be active twice.

`model` is what is told of the application, `modes` who can be two and for how long, `times` how the
seconds follow from one another, `objects` what is made of it, `render` how that is written down.
Plain dictionaries everywhere below the model: what is printed is what is sent.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Object"]

Object = dict[str, Any]
"""A Kubernetes object as JSON."""
