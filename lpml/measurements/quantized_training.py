"""What a network loses when its weights get few bits, after its training or during it."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lpml import data as sources
from lpml import models, optim
from lpml.measurements.measurement import Lines, Measurement
from lpml.optim.loss_aware import second_moment, weights_only
from lpml.quant import laq, objective

EPS = 1e-8  # added to the root of the second moment, as in the optimizers
NETWORKS = ("mlp", "cifarnet")
DATA = ("digits", "mnist", "cifar10")
METRICS = ("bits", "loss", "test_accuracy", "float_loss", "float_test_accuracy", "excess")


class Problem(NamedTuple):
    """A network, the samples on the device, and the size of a mini-batch."""

    model: models.Supervised
    train: dict[str, jax.Array]
    test: dict[str, jax.Array]
    batch_size: int


class Rule(NamedTuple):
    """How weights become codes; see `quantized_training`."""

    weighted: bool
    per: Literal["tensor", "channel"]
    solver: Literal["alternating", "exact", "absmax"]


def quantized_training(
    *, network: str = "mlp", width: int = 64, data: str = "digits", dir: str | None = None,
    bits: Sequence[int] = (1, 2, 3, 4), weighted: bool = True, per: str = "tensor",
    solver: str = "exact", float_epochs: int = 30, tuning_epochs: int = 0,
    learning_rate: float = 3e-3, batch_size: int = 64,
) -> Measurement:  # fmt: skip
    r"""Losses and accuracies of a network whose kernels were quantised in one of several ways.

    A float network is trained with Adam, its rate a tenth from two thirds of the way on. Then,
    for each number of bits,

    - without `tuning_epochs` its kernels are quantised and no step is taken. The curvature is
      d = \sqrt{\mathrm{mean}\, g^2} + \epsilon, with g the gradients of an epoch's mini-batches
      at the float weights, which do not move meanwhile;
    - with them it trains on for so many epochs with `optim.loss_aware`, with a fresh Adam
      whose second moment is the curvature. With `float_epochs` = 0 that is from scratch.

    A line of the log is a number of bits: `loss` (nats) and `test_accuracy` (0 to 1) of the
    quantised network over all samples; `float_*`, of a float network after as many epochs in
    all, and of the same seed; `excess`, how much the weighted error sum d (w - q)^2 of the
    unweighted optimum is above the least one, over all kernels, relative to it; `excess/LAYER`
    for each kernel. What weighting could gain at best is in `excess`; 0 is nothing.

    Args:
      network: "mlp" (one hidden layer of `width`) or "cifarnet" (`width` filters, dense
        layers of 6 and 3 times as many).
      width: >= 1.
      data: "digits", "mnist" or "cifar10".
      dir: folder of the data's files; None: where `lpml.data` looks.
      bits: of the weights, one line each.
      weighted: whether errors are weighted with the curvature.
      per: a scale per "tensor" or per "channel" (a kernel's last axis).
      solver: as of `lpml.quant.laq`.
      float_epochs: >= 0.
      tuning_epochs: >= 0, and not both 0.
      learning_rate: of Adam, > 0, in both trainings.
      batch_size: samples a step.

    Raises:
      ValueError: a setting that does not exist or is out of its range.
    """
    for name, word, known in (("network", network, NETWORKS), ("data", data, DATA)):
        if word not in known:
            raise ValueError(f"{name} {word!r} does not exist; choose from {', '.join(known)}")
    if min(float_epochs, tuning_epochs) < 0 or float_epochs + tuning_epochs == 0:
        raise ValueError(
            f"float_epochs = {float_epochs} and tuning_epochs = {tuning_epochs} must be at "
            "least 0, and one of them more"
        )
    if width < 1 or batch_size < 1 or not bits:
        raise ValueError(
            f"width = {width} and batch_size = {batch_size} must be positive, and bits "
            "must name at least one width"
        )
    rule = Rule(weighted, per, solver)  # type: ignore[arg-type]
    for one in bits:  # refuses what does not exist before anything is trained
        optim.loss_aware(learning_rate, bits=one, **rule._asdict())

    shape = (network, width, data, dir, batch_size)
    training = (float_epochs, tuning_epochs, learning_rate)

    def lines(seed: int) -> Lines:
        reference = evaluated(shape, trained(shape, seed, sum(training[:2]), learning_rate))
        for one in bits:
            ends = _quantised(shape, seed, one, rule, training)
            found = evaluated(shape, ends.quantised)
            yield {
                "bits": float(one),
                "loss": found[0],
                "test_accuracy": found[1],
                "float_loss": reference[0],
                "float_test_accuracy": reference[1],
                **excesses(ends.master, ends.curvature, one, per),
            }

    named = tuple(f"excess/{layer}" for layer in _layers(network))
    return Measurement(lines, len(bits), METRICS + named)


class Ends(NamedTuple):
    """Parameters as they are used, in full precision, and the curvature of the latter."""

    quantised: Any
    master: Any
    curvature: Any


def _layers(network):
    dense = ("Dense_0", "Dense_1")
    return dense if network == "mlp" else ("Conv_0", "Conv_1", *dense, "Dense_2")


@functools.lru_cache(maxsize=4)
def problem(network: str, width: int, data: str, dir: str | None, batch_size: int) -> Problem:
    """The network and its data; every seed has the same split."""
    flat = network == "mlp"
    if data == "digits":
        found = sources.digits(train_samples=1024, flat=flat)
    elif data == "mnist":
        found = sources.mnist(dir=dir, flat=flat)
    else:
        found = sources.cifar10(dir=dir)
    assert found.classes is not None
    assert found.test is not None
    if network == "mlp":
        model = models.mlp(classes=found.classes, hidden=(width,), activation="relu")
    else:
        crop = 24 if data == "cifar10" else None
        hidden = (6 * width, 3 * width)
        model = models.cifarnet(classes=found.classes, width=width, hidden=hidden, crop=crop)
    train, test = (jax.tree.map(jnp.asarray, part) for part in (found.train, found.test))
    return Problem(model, train, test, batch_size)


@functools.lru_cache(maxsize=64)
def trained(shape: tuple[Any, ...], seed: int, epochs: int, learning_rate: float) -> Any:
    """Parameters of a float network after so many epochs; those at the start for 0."""
    made = problem(*shape)
    few = jax.tree.map(lambda x: x[:1], made.train)
    params, _ = made.model.init(jax.random.key(seed), few)
    if not epochs:
        return params
    steps = epochs * (len(made.train["y"]) // made.batch_size)
    start, step = _trainer(shape, learning_rate, steps, None, Rule(True, "tensor", "exact"))
    return _run(made, step, start(params), seed, steps)[0]


def _quantised(shape, seed, bits, rule, training):
    float_epochs, tuning_epochs, learning_rate = training
    made = problem(*shape)
    params = trained(shape, seed, float_epochs, learning_rate)
    if tuning_epochs:
        steps = tuning_epochs * (len(made.train["y"]) // made.batch_size)
        start, step = _trainer(shape, learning_rate, steps, bits, rule)
        params, state = _run(made, step, start(params), seed + 10_000, steps)
        moment = second_moment(state.inner, params)
        curvature = jax.tree.map(lambda v: jnp.sqrt(v) + EPS, moment)
        return Ends(params, optim.master_params(state, params), curvature)
    curvature = curvature_at(shape, params, seed)
    axis = -1 if rule.per == "channel" else None

    def one(w, d, kernel):
        if not kernel:
            return w
        d = d if rule.weighted else None
        return laq(w, d, bits, solver=rule.solver, axis=axis).dequantize()

    quantised = jax.tree.map(one, params, curvature, weights_only(params))
    return Ends(quantised, params, curvature)


@functools.lru_cache(maxsize=32)
def _trainer(shape, learning_rate, steps, bits, rule):
    """`start(params)` gives what `step` moves by a mini-batch; compiled once for all seeds."""
    made = problem(*shape)
    milestones = (2 * steps // 3,) if steps >= 3 else ()
    tx = optim.loss_aware(
        learning_rate, bits=bits, milestones=milestones, eps=EPS, b2=0.99, **rule._asdict()
    )

    def visible(state, params):
        return params if bits is None else tx.visible(state, params)

    def start(params):
        state = tx.init(params)
        return visible(state, params), state

    def step(carry, rows):
        params, state = carry
        grads = jax.grad(_loss, argnums=1)(made.model, params, _rows(made.train, rows))
        updates, state = tx.update(grads, state, params)
        return visible(state, optax.apply_updates(params, updates)), state

    return jax.jit(start), _over_batches(made, step)


def _over_batches(made, step):
    """`step` for every row of indices: one program, or, where that is slow, one by one."""
    if not made.model.heavy:
        return jax.jit(
            lambda carry, order: jax.lax.scan(
                lambda c, rows: (step(c, rows), None), carry, order
            )[0]
        )
    compiled = jax.jit(step, donate_argnums=0)

    def all_of_them(carry, order):
        carry = jax.tree.map(jnp.copy, carry)  # the first is not ours to give away
        for rows in order:
            carry = compiled(carry, rows)
        return carry

    return all_of_them


def _run(made, step, carry, seed, steps):
    order = sources.batch_indices(
        seed,
        0,
        steps,
        size=len(made.train["y"]),
        batch_size=made.batch_size,
        sampling="shuffle",
    )
    return step(carry, order)


def _loss(model, params, batch):
    return model.objective(params, {}, batch)[0]


def _rows(samples, rows):
    return jax.tree.map(lambda x: x[rows], samples)


def curvature_at(shape: tuple[Any, ...], params: Any, seed: int) -> Any:
    """Root of the mean of squared gradients over the mini-batches of an epoch at `params`."""
    made = problem(*shape)
    zeros = jax.tree.map(jnp.zeros_like, params)
    steps = len(made.train["y"]) // made.batch_size
    _, total = _run(made, _squares(shape), (params, zeros), seed, steps)
    return jax.tree.map(lambda v: jnp.sqrt(v / steps) + EPS, total)


@functools.lru_cache(maxsize=4)
def _squares(shape):
    made = problem(*shape)

    def step(carry, rows):
        params, total = carry
        grads = jax.grad(_loss, argnums=1)(made.model, params, _rows(made.train, rows))
        return params, jax.tree.map(lambda v, g: v + g * g, total, grads)

    return _over_batches(made, step)


def evaluated(shape: tuple[Any, ...], params: Any) -> tuple[float, float]:
    """Loss over the training samples (nats), accuracy over the test samples."""
    made, evaluate = problem(*shape), _evaluation(shape)
    loss = _mean(evaluate, params, made.train)[0]
    return loss, _mean(evaluate, params, made.test)[1]


@functools.lru_cache(maxsize=4)
def _evaluation(shape):
    model = problem(*shape).model

    def evaluate(params, batch):
        value, (_, metrics) = model.objective(params, {}, batch)
        return value, metrics["accuracy"]

    return jax.jit(evaluate)


def _mean(evaluate, params, samples, at_a_time=2048):
    """Means over all samples, a few at a time."""
    count, total = len(samples["y"]), np.zeros(2)
    for first in range(0, count, at_a_time):
        part = jax.tree.map(lambda x, at=first: x[at : at + at_a_time], samples)
        total += len(part["y"]) * np.array([float(x) for x in evaluate(params, part)])
    return tuple(float(x) for x in total / count)


def excesses(params: Any, curvature: Any, bits: int, per: str) -> dict[str, float]:
    """Weighted error of the unweighted optimum over the least one, minus 1.

    Args:
      params: in full precision, by layer.
      curvature: d, like the parameters.
      bits: of the kernels.
      per: a scale per "tensor" or "channel".

    Returns:
      `excess/LAYER` of each kernel, and `excess` for the sums over all. 0 where nothing errs.
    """
    both = {
        layer: _errors(params[layer]["kernel"], curvature[layer]["kernel"], bits, per)
        for layer in params
        if "kernel" in params[layer]
    }
    total = np.sum(list(both.values()), axis=0)
    found = {f"excess/{layer}": _above(*errors) for layer, errors in both.items()}
    return {"excess": _above(*total), **found}


def _errors(w, d, bits, per):
    axis = -1 if per == "channel" else None
    each: Iterator[Any] = (laq(w, c, bits, solver="exact", axis=axis) for c in (None, d))
    return np.array([float(objective(w, d, q)) for q in each])


def _above(error, least):
    return float(error / least - 1) if least > 0 else 0.0
