"""Seconds of inverse fourth roots by eigh, two SVDs and Newton's iteration, one BLAS thread.

    PYTHONPATH=. python benchmarks/roots.py [--up-to=1024] [--rounds=3] [--quick]

Condition 1e6, ridge 1e-6. The host's methods in float64 take turns (interleaved rounds), then
those of programs, in float64 and float32, whose products go to all cores. The host's are
milliseconds of the processor, which other work moves least, a program's of the clock: the
smallest and (in brackets) the median; ratios are the median of those inside a round. Residuals
are part of the work, since no root is used without.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
from threadpoolctl import threadpool_limits

from lpml.measurements.root_accuracy import known_root, solvers
from lpml.optim.roots import Damping, eigh_roots, newton_roots

P = 4
DAMPING = Damping("absolute", 1e-6)
RATIOS = (("gesvd", "newton"), ("gesdd", "newton"), ("newton", "eigh"))


def host(a, rounds):
    """Seconds of the processor, of every round by method."""
    methods = solvers("float64", P, DAMPING)
    seconds = {name: [] for name in methods}
    with threadpool_limits(1):
        for _ in range(rounds):
            for name, solve in methods.items():
                started = time.process_time()
                solve(a[None])
                seconds[name].append(time.process_time() - started)
    return seconds


def programs(a, rounds):
    """The same of jitted ones, by method and type, in seconds of the clock."""
    runs = {}
    for dtype in ("float64", "float32"):
        for name, solver in (("eigh", eigh_roots), ("newton", newton_roots)):
            run = jax.jit(lambda stack, solver=solver: solver(stack, P, damping=DAMPING))
            stack = jnp.asarray(a[None], dtype)
            jax.block_until_ready(run(stack))
            runs[f"{name} {dtype[-2:]}"] = (run, stack)
    seconds = {name: [] for name in runs}
    with threadpool_limits(1):
        for _ in range(rounds):
            for name, (run, stack) in runs.items():
                started = time.perf_counter()
                jax.block_until_ready(run(stack))
                seconds[name].append(time.perf_counter() - started)
    return seconds


def shown(seconds):
    return "   ".join(
        f"{name} {1e3 * min(times):.3g} ({1e3 * statistics.median(times):.3g})"
        for name, times in seconds.items()
    )


def ratios(seconds):
    return {
        (above, below): statistics.median(
            a / b for a, b in zip(seconds[above], seconds[below], strict=True)
        )
        for above, below in RATIOS
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--up-to", type=int, default=1024, help="largest n; 2048 takes minutes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="n = 64, to see that it runs")
    arguments = parser.parse_args()
    sizes = [128 * 2**k for k in range(6) if 128 * 2**k <= arguments.up_to]
    jax.config.update("jax_enable_x64", True)
    found = {}
    for n in [64] if arguments.quick else sizes:
        a, _ = known_root(n, 1e6, P, DAMPING.epsilon, seed=0)
        seconds = host(a, arguments.rounds)
        found[n] = ratios(seconds)
        print(f"n = {n:4}  host     ms: {shown(seconds)}")
        words = (f"{a} / {b} {ratio:.2f}" for (a, b), ratio in found[n].items())
        print(f"          ratios: {'   '.join(words)}", flush=True)
        print(f"          program  ms: {shown(programs(a, arguments.rounds))}", flush=True)
    if 1024 in found:
        last = found[1024]
        print("at n = 1024:")
        for claim, holds in {
            "eigh is faster than Newton": last["newton", "eigh"] > 1,
            "SVD by gesdd is faster than Newton": last["gesdd", "newton"] < 1,
            "SVD by gesvd is slower than Newton": last["gesvd", "newton"] > 1,
            "gesvd / Newton is larger than at n = 128": last["gesvd", "newton"]
            > found[128]["gesvd", "newton"],
        }.items():
            print(f"  {claim}: {'yes' if holds else 'no'}")


if __name__ == "__main__":
    main()
