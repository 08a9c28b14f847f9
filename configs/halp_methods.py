"""The sub-tree `optim` of HALP and the methods it is compared with."""

from ml_collections.config_dict import FieldReference, placeholder

METHODS = ("halp", "lm_halp", "svrg", "lp_svrg", "lp_sgd", "sgd")


def optimizer(method, *, learning_rate, inner_steps, radius, mu, scale="global", bits=8):
    """What the method takes of these settings, and nothing else.

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
    if method not in ("sgd", "lp_sgd"):
        optim["inner_steps"] = inner_steps
    if method not in ("sgd", "svrg"):
        optim["bits"] = bits
    # None: what the function itself takes when it is not told
    optim["weight_decay"] = placeholder(float)
    if method in ("halp", "svrg", "lp_svrg"):
        optim["option"] = placeholder(str)
    if method in ("halp", "lp_svrg", "lp_sgd"):
        optim["rounding"] = placeholder(str)
    if method in ("lp_sgd", "lp_svrg"):
        optim["radius"] = radius
    if method in ("halp", "lm_halp"):
        # an object field, because --config.optim.mu=auto must be possible too
        optim["mu"] = FieldReference(mu, field_type=object)
    if method == "halp":
        optim.update(scale=scale, rescale=placeholder(bool))
    if method == "lm_halp":
        del optim["weight_decay"]  # its L2 term is the model's
    return optim
