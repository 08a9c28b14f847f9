"""What XLA's levels of optimisation cost in compilation and give in speed, on a CPU.

    PYTHONPATH=. python benchmarks/compile_level.py [--rounds 3]

Programs are compiled and run at level 3, the default, and at level 2, each in a fresh process
without a compile cache, in turns: seconds to compile, milliseconds a call (the median of ten).
They are the processor's, of all threads, so that other work on the machine counts little.
Medians of the rounds, and of the ratios, level 2 over level 3, within a round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

LEVELS = (3, 2)
NUMBERS = 1 << 20


def programs():
    """Names, and functions that give a program to compile and its arguments."""
    import jax
    from bit_centering import METHODS, initial, problem

    from lpml import formats
    from lpml.training.step import make_step

    numbers = jax.random.normal(jax.random.key(0), (NUMBERS // 1024, 1024))

    def rounding(name, **where):
        by_name = formats.by_name(name)
        return jax.jit(lambda x: by_name.round(x, **where)), (numbers,)

    def step(network, method):
        model, batch = problem(network)
        state = initial(model, METHODS[method](), batch)
        return jax.jit(make_step(model, with_grad_norm=False)), (state, batch)

    return {
        "step of LeNet-5, SGD": lambda: step("lenet5", "SGD"),
        "step of a ResNet of 8 layers, SGD": lambda: step("resnet", "SGD"),
        "the same, 8-bit HALP": lambda: step("resnet", "HALP, subtraction"),
        "2^20 numbers to posit16": lambda: rounding("posit16"),
        "to E4M3": lambda: rounding("e4m3fn"),
        "to VSQ of 4 bits": lambda: rounding("vsq4", axis=-1),
    }


def measured():
    """Seconds to compile and milliseconds a call, by program."""
    import jax

    found = {}
    for name, make in programs().items():
        program, arguments = make()
        lowered = program.lower(*arguments)
        start = time.process_time()
        compiled = lowered.compile()
        seconds = time.process_time() - start
        jax.block_until_ready(compiled(*arguments))
        calls = []
        for _ in range(10):
            start = time.process_time()
            jax.block_until_ready(compiled(*arguments))
            calls.append(1e3 * (time.process_time() - start))
        found[name] = (seconds, statistics.median(calls))
    return found


def in_a_process(level):
    """What `measured` gives at a level."""
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_backend_optimization_level={level}",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--child"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main():
    flags = argparse.ArgumentParser()
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    flags = flags.parse_args()
    if flags.child:
        print(json.dumps(measured()))
        return
    rounds = [{level: in_a_process(level) for level in LEVELS} for _ in range(flags.rounds)]
    print("| program | s to compile, level 3 | 2 | of 3 | ms a call, level 3 | 2 | of 3 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in rounds[0][LEVELS[0]]:
        cells = []
        for place in (0, 1):
            high, low = ([r[level][name][place] for r in rounds] for level in LEVELS)
            ratio = statistics.median(b / a for a, b in zip(high, low))
            cells += [f"{statistics.median(v):.3g}" for v in (high, low)] + [f"{ratio:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
