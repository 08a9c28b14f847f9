"""What Shampoo costs: seconds of a step by who renews the roots, memory, time to compile.

    PYTHONPATH=. python benchmarks/refresh.py [--width=128] [--every=20] [--rounds=5] [--quick]

Times are medians (quartiles) of segments of ten refreshes that take turns, relative to roots
that are never renewed; see lpml/measurements/refresh_overhead.py. Memory is the optimizer's
state in numbers per parameter, by block size. The number of operations of the traced step, and
the seconds to compile it, are by layers: equal blocks share a stack, so that an update has as
many matrix products for many layers as for one.
"""

import argparse
import time

import jax
import jax.numpy as jnp

from lpml import models, optim
from lpml.measurements.refresh_overhead import COMPARED, refresh_overhead

CLASSES, CONTEXT = 64, 32


def overhead(width, every, rounds, refreshes):
    measured = refresh_overhead(
        width=width, refresh_every=every, rounds=rounds, refreshes=refreshes
    )
    *_, line = measured.lines(1)
    print(f"width {width}, N = {every}, {rounds} rounds of {refreshes} refreshes")
    print(f"  never renewed  {1e3 * line['seconds_frozen']:.3g} ms a step")
    for mode in COMPARED:
        low, middle, high = (line[f"{end}_{mode}"] for end in ("low", "ratio", "high"))
        print(f"  {mode:13s}  {middle:.3f} ({low:.3f} to {high:.3f})")
    print(f"  a refresh alone takes {1e3 * line['seconds_solve']:.3g} ms of the host;")
    print(
        f"  asynchronous hides {line['hidden']:.0%} of what inline costs and waits for "
        f"{line['waited']:.1%} of its time"
    )


def parameters(layers, width):
    """Shapes of a Transformer's parameters, and its model."""
    model = models.character_transformer(classes=CLASSES, layers=layers, width=width)
    batch = {"x": jnp.zeros((8, CONTEXT), jnp.int32), "y": jnp.zeros((8, CONTEXT), jnp.int32)}
    return model, batch, jax.eval_shape(lambda: model.init(jax.random.key(0), batch)[0])


def memory(width, sizes):
    _, _, params = parameters(2, width)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    adam = _numbers(optim.adam(1e-3), params) / count
    print(
        f"state in numbers per parameter, {count} parameters: adam {adam:.2f}; shampoo", end=""
    )
    for size in sizes:
        state = _numbers(optim.shampoo(1e-3, block_size=size), params) / count
        print(f", blocks of {size} {state:.2f}", end="")
    print()


def _numbers(tx, params):
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(tx.init, params)))


def compilation(width, numbers_of_layers):
    print("layers: operations of the update and of the whole step, seconds to compile the step")
    for layers in numbers_of_layers:
        model, batch, params = parameters(layers, width)
        for name, tx in (("adam", optim.adam(1e-3)), ("shampoo", optim.shampoo(1e-3))):

            def step(params, state, batch, tx=tx, model=model):
                grads = jax.grad(lambda p: model.objective(p, {}, batch)[0])(params)
                return tx.update(grads, state, params)

            state = jax.eval_shape(tx.init, params)
            update = _operations(jax.make_jaxpr(tx.update)(params, state, params))
            whole = _operations(jax.make_jaxpr(step)(params, state, batch))
            lowered = jax.jit(step).lower(params, state, batch)
            started = time.perf_counter()
            lowered.compile()
            seconds = time.perf_counter() - started
            print(
                f"  {layers:2d} {name:8s} update: {update['dot_general']} products of "
                f"{sum(update.values())} operations; step: {sum(whole.values())}; "
                f"{seconds:.1f} s"
            )


def _operations(jaxpr):
    """How often each primitive occurs, those within others too."""
    found = {"dot_general": 0}

    def count(inner):
        for equation in inner.eqns:
            name = equation.primitive.name
            found[name] = found.get(name, 0) + 1
            for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
                if _is_jaxpr(value):
                    count(getattr(value, "jaxpr", value))

    count(jaxpr.jaxpr)
    return found


def _is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    given = parser.parse_args()
    if given.quick:
        given.width, given.every, given.rounds = 16, 4, 1
    memory(given.width, (8, 16) if given.quick else (16, 32, 64, 128, 256))
    compilation(given.width, (1, 2) if given.quick else (1, 2, 4, 8))
    overhead(given.width, given.every, given.rounds, 1 if given.quick else 10)


if __name__ == "__main__":
    main()
