"""A full gradient in a compiled loop: convolutions laid out for XLA's CPU code, and as JAX's.

    PYTHONPATH=. python benchmarks/convolutions.py [--rounds 3]

The mean gradient over a data set, so many samples at a time, by `mean_over_data`: a loop
within one compiled program. Then steps in a compiled loop, and one by one. "by JAX" are
gradients of `lax.conv_general_dilated` as JAX writes them, "laid out" those of
`lpml.quant.windows`. All take turns; medians, in seconds of the wall.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml.models.lenet import lenet5
from lpml.models.resnet import resnet20
from lpml.optim import mean_over_data
from lpml.quant import windows

STEPS = 5


def problems():
    """Name, network, shape of an image, samples, sizes of a chunk, size of a step's batch."""
    yield "LeNet-5, 28 x 28", lenet5(classes=10), (28, 28, 1), 1000, (125, 500), 100
    thin = resnet20(classes=10, depth=20, width=8, norm="group")
    yield "ResNet-20 of width 8, 32 x 32", thin, (32, 32, 3), 250, (125,), 32


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for name, net, shape, samples, chunks, batch in problems():
        rng = np.random.default_rng(0)
        data = {
            "x": jnp.asarray(rng.standard_normal((samples, *shape)), jnp.float32),
            "y": jnp.asarray(rng.integers(0, 10, samples), jnp.int32),
        }
        params, state = net.init(jax.random.key(0), {k: v[:2] for k, v in data.items()})

        def gradient(params, batch, net=net, state=state):
            return jax.grad(lambda p: net.objective(p, state, batch)[0])(params)

        found = {}
        for laid_out in (False, True):
            windows._lays_out = lambda laid_out=laid_out: laid_out

            # made anew: jit knows a function that it has traced
            def step(params, start, gradient=gradient, data=data, batch=batch):
                part = {
                    k: jax.lax.dynamic_slice_in_dim(data[k], start, batch) for k in ("x", "y")
                }
                slope = gradient(params, part)
                return jax.tree.map(lambda p, g: p - 0.01 * g, params, slope)

            def many(params, step=step, batch=batch):
                return jax.lax.fori_loop(0, STEPS, lambda i, p: step(p, i * batch), params)

            made = {
                f"full gradient, {chunk} at a time": jax.jit(
                    lambda p, chunk=chunk, gradient=gradient, data=data: mean_over_data(
                        lambda b: gradient(p, b), data, batch_size=chunk
                    )
                )
                for chunk in chunks
            }
            made[f"{STEPS} steps of {batch}, in a loop"] = jax.jit(many)
            one = jax.jit(step)

            def apart(params, one=one, batch=batch):
                for i in range(STEPS):
                    params = one(params, i * batch)
                return params

            made[f"{STEPS} steps of {batch}, one by one"] = apart
            for what, run in made.items():
                start = time.process_time()
                jax.block_until_ready(run(params))
                found[what, laid_out] = (run, time.process_time() - start, [])
        for _ in range(rounds):
            for run, _, seconds in found.values():
                start = time.perf_counter()
                jax.block_until_ready(run(params))
                seconds.append(time.perf_counter() - start)
        print(f"{name}: seconds by JAX, laid out, ratio; first calls, of the processor")
        for what in dict.fromkeys(what for what, _ in found):
            old, new = (statistics.median(found[what, kind][2]) for kind in (False, True))
            first = (found[what, kind][1] for kind in (False, True))
            print(
                f"  {what:32} {old:7.3f} {new:7.3f} {old / new:6.2f}",
                *map("{:6.1f}".format, first),
            )


if __name__ == "__main__":
    main()
