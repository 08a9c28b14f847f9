"""lpml: training with few bits and with curvature, on JAX, Flax and Optax."""

__version__ = "0.1.0"
