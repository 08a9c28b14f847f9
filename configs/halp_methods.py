"""The sub-tree `optim` of HALP and the methods it is compared with."""

from ml_collections.config_dict import FieldReference, placeholder

METHODS = ("halp", "lm_halp", "svrg", "lp_svrg", "lp_sgd", "sgd")


def optimizer(method, *, learning_rate, inner_steps, radius, mu, scale="global", bits=8):
    """What the method takes of these settings, and nothing else.

    halp, lp_svrg and lp_sgd have a `format` too. Once it is set, `bits` and `radius`, which
    are fixed point's, become None, unless they are set as well.

    Args:
      method: one of METHODS.
      learning_rate: step size alpha.
      inner_steps: steps between two full gradients.
      radius: half-width of the box of lp_sgd and lp_svrg.
      mu: box parameter of HALP, a number or "auto".
      scale: "global" or "leaf", HALP's grid spacing.
      bits: width of the codes.
    """
    optim = {"name": method, "learning_rate": learning_rate}
    # None: what the function itself takes when it is not told
    fmt = placeholder(str)
    if method not in ("sgd", "lp_sgd"):
        optim["inner_steps"] = inner_steps
    if method in ("halp", "lp_svrg", "lp_sgd"):
        optim["format"] = fmt
        optim["bits"] = _unless(fmt, bits)
        optim["rounding"] = placeholder(str)
    if method in ("halp", "svrg", "sgd"):
        optim["backend"] = placeholder(str)
        optim["threads"] = placeholder(int)
    if method in ("lp_sgd", "lp_svrg"):
        optim["radius"] = _unless(fmt, radius)
    optim["weight_decay"] = placeholder(float)
    if method in ("halp", "svrg", "lp_svrg"):
        optim["option"] = placeholder(str)
    if method in ("halp", "lm_halp"):
        # an object field, because --config.optim.mu=auto must be possible too
        optim["mu"] = FieldReference(mu, field_type=object)
    if method == "halp":
        optim.update(scale=scale, rescale=placeholder(bool), layer_offsets=placeholder(str))
    if method == "lm_halp":
        optim["bits"] = bits
        del optim["weight_decay"]  # its L2 term is the model's
    return optim


def _unless(other, value):
    """A field that is `value` while the field `other` is None, until it is set itself."""
    return FieldReference(value, op=_Unless(other))


class _Unless:
    """An operation as FieldReference applies it when it is read: fn of the value and args."""

    args = ()

    def __init__(self, other):
        # held by an object, not a closure, so that a copied config looks at its own `other`
        self.other = other

    def fn(self, value):
        """`value`, or None where the other field has one."""
        return value if self.other.get() is None else None
