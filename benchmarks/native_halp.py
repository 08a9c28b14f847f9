"""The native kernels against each other and against compiled JAX, measured side by side.

    PYTHONPATH=. python benchmarks/native_halp.py            (all tables, some ten minutes)
    PYTHONPATH=. python benchmarks/native_halp.py steps      (or epochs, calls)
    PYTHONPATH=. python benchmarks/native_halp.py steps --threads=2 --instructions=plain

Least squares, one sample a step, rows in random order, another draw in every round. The
methods take turns in random order; medians over rounds, and medians of the ratios within a
round, of float32 SVRG's time in the same kernels over theirs. `cache` is 0.5 MB of float32
data, `L3` 8 MB, `DRAM` 400 MB; codes of 8 bits take a quarter of that. `--clock=cpu` takes the
process's processor time, which a busy machine changes less.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from lpml import native

CASES = {
    # name: samples, features, steps
    "d=100 cache": (1250, 100, 20000),
    "d=1000 cache": (125, 1000, 20000),
    "d=1000 L3": (2000, 1000, 20000),
    "d=10000 cache": (12, 10000, 5000),
    "d=10000 L3": (200, 10000, 5000),
    "d=100 DRAM": (1000000, 100, 20000),
    "d=1000 DRAM": (100000, 1000, 20000),
    "d=10000 DRAM": (10000, 10000, 5000),
    "d=100000 DRAM": (1000, 100000, 500),
}
EPOCHS = {"60k x 784": (60000, 784), "10k x 10k": (10000, 10000), "1k x 100k": (1000, 100000)}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
NOTHING = np.zeros((0,), np.float32)


def rows_of(samples, features, dtype):
    """Rows as the kernels want them, uniform in [-1, 1]."""
    random = np.random.default_rng(0)
    if dtype == "float32":
        rows = random.random((samples, features), np.float32) * 2 - 1
    else:
        largest = np.iinfo(dtype).max
        rows = random.integers(-largest, largest + 1, (samples, features), dtype)
    return jax.device_put(native.padded(rows))


def float_steps(rows, places, *, svrg):
    """Steps of SVRG or SGD in the kernels: `index -> result`."""
    shape = (1, rows.shape[1])
    h = jnp.full(shape, 1e-4, jnp.float32) if svrg else None
    y = jnp.zeros((0 if svrg else len(rows),), jnp.float32)

    @jax.jit
    def run(rows, index):
        return native.float_steps(
            jnp.zeros(shape, jnp.float32),
            native.nothing_seen(),
            rows=rows,
            h=h,
            steps=native.Steps(index, jnp.int32(len(index)), jnp.int32(0)),
            at_anchor=jnp.asarray(NOTHING),
            y=y,
            scalars=jnp.array([1e-3 / rows.shape[1], 1.0], jnp.float32),
            loss="squared",
            places=places,
        )[0]

    return functools.partial(run, rows)


def halp_steps(rows, places):
    """Steps of HALP in the kernels: `index -> result`."""
    bits = rows.dtype.itemsize * 8
    largest = 2.0 ** (bits - 1) - 1
    random = np.random.default_rng(1)
    noise = random.integers(1, 2**32, native.noise_shape(1, rows.shape[1]), np.uint32)
    h = jnp.asarray(random.integers(-50, 50, (1, rows.shape[1])), jnp.int16)
    gain = 3e-2 / largest / rows.shape[1]

    @jax.jit
    def run(rows, index):
        return native.halp_steps(
            jnp.zeros((1, rows.shape[1]), rows.dtype),
            jnp.asarray(noise),
            native.nothing_seen(),
            rows=rows,
            h=h,
            steps=native.Steps(index, jnp.int32(len(index)), jnp.int32(0)),
            at_anchor=jnp.asarray(NOTHING),
            seed=jnp.array([1, 2], jnp.uint32),
            scalars=jnp.array([1 / largest, gain, 0], jnp.float32),
            shift=jnp.int32(10),
            loss="squared",
            places=places,
        )[0]

    return functools.partial(run, rows)


def scan_steps(rows):
    """Steps of float32 SVRG as JAX compiles them: outputs at the anchor are known."""
    h = jnp.full(rows.shape[1], 1e-4, jnp.float32)
    rate = 2e-3 / rows.shape[1]

    @jax.jit
    def run(rows, index):
        def step(z, i):
            x = rows[i]
            return z - rate * jnp.dot(x, z) * x - h, None

        return jax.lax.scan(step, jnp.zeros_like(h), index)[0]

    return functools.partial(run, rows)


def halp_epoch(rows, y, places):
    """The pass over codes and 2 N steps: `index -> result`."""
    steps = halp_steps(rows, places)

    @jax.jit
    def full(rows, y):
        return native.full_pass(
            jnp.ones((1, rows.shape[1]), jnp.int8),
            rows=rows,
            y=y,
            outputs=jnp.zeros((len(rows), 1)),
            scalars=jnp.array([1e-3, 1e-2]),
            loss="squared",
            places=places,
        ).gradient

    return lambda index: (full(rows, y), steps(index))


def float_epoch(rows, y, places):
    """The pass over floats and 2 N steps in the kernels."""
    steps = float_steps(rows, places, svrg=True)

    @jax.jit
    def full(rows, y):
        weights = jnp.full((1, rows.shape[1]), 1e-3)
        return native.full_pass(weights, rows=rows, y=y, loss="squared", places=places).gradient

    return lambda index: (full(rows, y), steps(index))


def scan_epoch(rows, y):
    """The same in compiled JAX, all in float32."""
    steps = scan_steps(rows)

    @jax.jit
    def full(rows, y):
        weights = jnp.full(rows.shape[1], 1e-3, jnp.float32)
        return (rows @ weights - y) @ rows

    narrow = y.astype(jnp.float32)
    return lambda index: (full(rows, narrow), steps(index))


def measure(methods, draw, rounds, clock):
    """Seconds of every round by method; `draw()` gives each round's samples."""
    random = np.random.default_rng(2)
    seconds = {name: [] for name in methods}
    for round_number in range(rounds + 1):
        index = jnp.asarray(draw(random), jnp.int32)
        for name in random.permutation(list(methods)):
            start = clock()
            jax.block_until_ready(methods[name](index))
            if round_number:  # the first compiles
                seconds[name].append(clock() - start)
    return seconds


def show(title, seconds, base, unit, scale):
    """A line for each method: its median, and by how much it is faster than `base`."""
    print(title)
    for name, times in seconds.items():
        ratios = np.array(seconds[base]) / np.array(times)
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        median = np.median(times) * scale
        print(f"  {name:16} {median:10.4f} {unit}  {middle:5.2f} ({low:.2f} to {high:.2f})")


def steps(options, places):
    """The table of single steps."""
    for name, (samples, features, most) in CASES.items():
        if options.case and options.case not in name:
            continue
        count = min(most, options.most)
        floats = rows_of(samples, features, "float32")
        methods = {
            "float32 SVRG": float_steps(floats, places, svrg=True),
            "float32 SGD": float_steps(floats, places, svrg=False),
            "int8 HALP": halp_steps(rows_of(samples, features, np.int8), places),
            "int16 HALP": halp_steps(rows_of(samples, features, np.int16), places),
            "scan SVRG": scan_steps(floats),
        }
        seconds = measure(
            methods,
            lambda random, n=samples, count=count: random.integers(0, n, count),
            options.rounds,
            CLOCKS[options.clock],
        )
        show(name, seconds, "float32 SVRG", "us/step", 1e6 / count)


def epochs(options, places):
    """The table of whole epochs."""
    for name, (samples, features) in EPOCHS.items():
        if options.case and options.case not in name:
            continue
        y = jnp.asarray(np.random.default_rng(3).normal(size=samples))
        floats = rows_of(samples, features, "float32")
        methods = {
            "float32 SVRG": float_epoch(floats, y, places),
            "int8 HALP": halp_epoch(rows_of(samples, features, np.int8), y, places),
            "scan SVRG": scan_epoch(floats, y),
        }
        seconds = measure(
            methods,
            lambda random, n=samples: random.integers(0, n, 2 * n),
            options.rounds,
            CLOCKS[options.clock],
        )
        show(name, seconds, "float32 SVRG", "ms", 1e3)


def calls(options, places):
    """What a call costs that takes one step."""
    rows = rows_of(64, 64, np.int8)
    nothing, bare = halp_steps(rows, places), jax.jit(lambda index: index + 1)
    methods = {"native call, 1 step": nothing, "jitted addition": bare}
    seconds = measure(
        methods, lambda random: random.integers(0, 64, 1), 2000, CLOCKS[options.clock]
    )
    show("one call", seconds, "jitted addition", "us", 1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", choices=["steps", "epochs", "calls"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--instructions", default="auto")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--most", type=int, default=20000, help="steps of a call at most")
    parser.add_argument("--case", help="only those with this in their names")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    places = native.Places(options.threads, options.instructions)
    chosen = native.instructions() if options.instructions == "auto" else options.instructions
    print(f"instruction set {chosen}, {options.threads} threads, {options.clock} clock")
    for table in (calls, steps, epochs):
        if options.table in (None, table.__name__):
            table(options, places)


if __name__ == "__main__":
    main()
