"""Inverse p-th roots A^(-1/p) of stacks of symmetric matrices, [K, b, b].

In a program: `newton_roots` (products only) and `eigh_roots`. On the host, in float64 and off
the training loop: `host_roots`. All take a `Damping` and give a `RootReport`, whose flags say
which roots may be used; `accepted` puts only those in the place of older ones.
"""

from lpml.optim.roots.eigh import eigh_roots
from lpml.optim.roots.host import host_roots
from lpml.optim.roots.newton import newton_roots
from lpml.optim.roots.report import Damping, RootReport, accepted

__all__ = ["Damping", "RootReport", "accepted", "eigh_roots", "host_roots", "newton_roots"]
