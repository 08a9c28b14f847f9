"""Means of quantised gradients: what arrives, with which noise, in how many bytes."""

import functools
import json
import math
import subprocess
import sys
from pathlib import Path

import exchanged
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launching import environment

from lpml.parallel import Exchange, quantized_mean, wire_report
from lpml.parallel.codecs import FormatCodec
from lpml.parallel.exchange import SCHEMES, sum_dtype
from lpml.parallel.wire import compiled_collectives, compiled_wire_bytes

WORKERS = exchanged.WORKERS


@pytest.fixture(scope="module")
def on_devices(tmp_path_factory):
    """What `exchanged.py` wrote: arrays that arrived, and collectives."""
    folder = tmp_path_factory.mktemp("exchanged")
    script = Path(exchanged.__file__)
    variables = environment(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="8")
    subprocess.run([sys.executable, script, folder], env=variables, check=True, timeout=300)
    with np.load(folder / "arrived.npz") as arrived:
        return dict(arrived), json.loads((folder / "sent.json").read_text())


def exchanged_mean(exchange, grads, key):
    """The means that the workers hold, (workers, ...), on one device."""
    mean = functools.partial(quantized_mean, axis_name="workers", exchange=exchange)
    return jax.vmap(mean, in_axes=(0, None), axis_name="workers")(grads, key)


def step(bits, largest):
    return largest / (2 ** (bits - 1) - 1)


def rounding_variance(x, spacing):
    """Of stochastic rounding to multiples of `spacing`, entry by entry; float64."""
    rest = np.abs(x).astype(np.float64) / spacing % 1
    return spacing**2 * rest * (1 - rest)


@pytest.mark.parametrize("name", exchanged.BITWISE)
def test_replicas_and_the_simulation_hold_the_same_bits(on_devices, name):
    arrived, _ = on_devices
    for leaf, shape in exchanged.SHAPES.items():
        devices, simulation = (
            arrived[f"{name} {place} {leaf}"] for place in ("devices", "simulation")
        )
        assert devices.shape == (WORKERS, *shape)
        assert np.all(np.isfinite(devices))
        for replica in devices:
            np.testing.assert_array_equal(replica.view(np.uint32), devices[0].view(np.uint32))
        np.testing.assert_array_equal(devices.view(np.uint32), simulation.view(np.uint32))
    exact = exchanged.gradients()["bias"].mean(0)
    np.testing.assert_allclose(arrived[f"{name} devices bias"][0], exact, atol=1e-6)


def expected_collectives(workers, exchange):
    """(kind, type, bytes received), spelled out for the sizes of `exchanged.SHAPES`."""
    bits, others = exchange.bits, workers - 1
    large = [math.prod(s) for s in exchanged.SHAPES.values() if math.prod(s) >= 1024]
    bias = 2 * others / workers * 4 * 37
    small = ("all-reduce", "f32", bias)
    if exchange.scheme == "one_shot":
        words, floats = sum(math.ceil(n * bits / 8) for n in large), len(large)
        if exchange.format == "int12":  # eight bits of each code, then the other four
            words = sum(n + math.ceil(n * 4 / 8) for n in large)
        if exchange.format == "vsq4":  # of 16 entries a scale of 4 bits, and one above these
            blocks = [math.ceil(n / 16) for n in large]
            words = sum(16 * n // 2 + math.ceil(n / 2) for n in blocks)
            floats = 2 * len(large)
        return [
            small,
            ("all-gather", "f32", 4 * floats * others),
            ("all-gather", "u8", words * others),
        ]
    if exchange.scheme == "two_shot":
        words = sum(math.ceil(math.ceil(n / workers) * bits / 8) for n in large)
        return [small] + [
            (kind, dtype, size * others)
            for kind in ("all-to-all", "all-gather")
            for dtype, size in (("f32", 4 * len(large)), ("u8", words))
        ]
    wide = 1 if workers * (2 ** (bits - 1) - 1) <= 127 else 2
    ring = 2 * others / workers
    return [
        small,
        ("all-reduce", "f32", ring * 4 * len(large)),
        ("all-reduce", f"s{8 * wide}", ring * wide * sum(large)),
    ]


@pytest.mark.parametrize("name", exchanged.COUNTED)
def test_bytes_are_those_of_the_compiled_program(on_devices, name):
    found = on_devices[1][name]
    workers, exchange = exchanged.COUNTED[name]
    compiled = [(c["kind"], ",".join(c["dtypes"]), c["received"]) for c in found]
    assert sorted(compiled) == sorted(expected_collectives(workers, exchange))
    assert {c["devices"] for c in found} == {workers}
    like = {
        leaf: jax.ShapeDtypeStruct(shape, jnp.float32)
        for leaf, shape in exchanged.SHAPES.items()
    }
    report = wire_report(like, workers, exchange)
    assert report.received == sum(c["received"] for c in found)
    assert report.float32 == 2 * (workers - 1) / workers * 4 * (37 + 30 * 41 + 1025)
    assert {t.name: t.quantised for t in report.tensors} == dict(
        bias=False, kernel=True, head=True
    )


def test_savings_are_those_of_large_tensors():
    like = jax.ShapeDtypeStruct((2**20,), jnp.float32)
    for bits in (2, 4, 8):
        even = wire_report(like, 64 // bits, Exchange(bits))
        assert even.saving == pytest.approx(1, rel=1e-4)  # one-shot wins below 64 / bits
        for workers in (2, 16, 64):
            two = wire_report(like, workers, Exchange(bits, scheme="two_shot"))
            assert two.saving == pytest.approx(32 / bits, rel=2e-3)
    assert wire_report(like, 4, Exchange(4, scheme="shared_scale")).saving == pytest.approx(
        4, rel=1e-4
    )
    assert wire_report(like, 1, Exchange()).received == 0
    assert wire_report(like, 1, Exchange()).saving == 1


SIZE, DRAWS = 20_000, 40


@pytest.fixture(scope="module")
def drawn():
    """`drawn(exchange, grads)`: DRAWS means of (workers, SIZE) gradients."""

    def means(exchange, grads):
        def one(key):
            return exchanged_mean(exchange, grads, key)[0]

        keys = jax.random.split(jax.random.key(1), DRAWS)
        return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(keys), np.float64)

    return means


def two_shot_noise(rng, grads, bits):
    """||error||^2 of the two-shot scheme, and how far that of DRAWS draws may be off.

    Float64, in numpy: the second noise in closed form, over many draws of the first, because
    its scale is the largest of the owner's means, and of 2 bits that takes few values.
    """
    rows = grads.reshape(WORKERS, WORKERS, -1).astype(np.float64)  # worker, owner, entry
    spacing = step(bits, np.abs(rows).max(-1, keepdims=True))
    second = []
    for _ in range(160):
        mean = (np.floor(rows / spacing + rng.random(rows.shape)) * spacing).mean(0)
        own = step(bits, np.abs(mean).max(-1, keepdims=True))
        second.append(rounding_variance(mean, own).sum())
    first = rounding_variance(rows, spacing).sum() / WORKERS**2
    off = np.std(second) * np.sqrt(1 / len(second) + 1 / DRAWS)
    return first + np.mean(second), 4 * off + 0.01 * np.mean(second)


# With what was measured elsewhere: relative to ||mean||^2 of independent Gaussian gradients.
# Two shots had one scale per tensor there; here each owner's part has its own, a smaller one.
NOISE = {
    ("one_shot", 2): (2.3, 2.5),
    ("one_shot", 4): (0.056, 0.062),
    ("two_shot", 2): (5, 8.4),
    ("two_shot", 4): (0.08, 0.117),
    ("shared_scale", 4): (0.056, 0.15),
}


@pytest.mark.parametrize(("scheme", "bits"), NOISE)
def test_means_are_unbiased_with_the_noise_of_their_scheme(drawn, scheme, bits):
    rng = np.random.default_rng(4)
    grads = rng.standard_normal((WORKERS, SIZE)).astype(np.float32)
    mean = grads.astype(np.float64).mean(0)
    errors = drawn(Exchange(bits, scheme=scheme), grads) - mean
    noise = np.mean(np.sum(errors**2, 1))
    # The mean of the draws is as far off as DRAWS independent unbiased ones: this ratio of
    # sums over 20,000 entries deviates by some 0.01 to 0.02. A bias of a tenth of one draw's
    # noise would add 0.4.
    off = np.sum(errors.mean(0) ** 2) / (noise / DRAWS)
    assert off == pytest.approx(1, abs=0.06)
    if scheme == "two_shot":
        expected, off = two_shot_noise(rng, grads, bits)
    else:
        largest = np.abs(grads).max(1 if scheme == "one_shot" else None, keepdims=True)
        expected = rounding_variance(grads, step(bits, largest)).sum() / WORKERS**2
        off = 0.01 * expected
    assert noise == pytest.approx(expected, abs=off)
    low, high = NOISE[scheme, bits]
    assert low <= noise / np.sum(mean**2) <= high


SPECIAL = [*(Exchange(scheme=s) for s in SCHEMES), Exchange(clip=2.0), Exchange(format="int8")]


@pytest.mark.parametrize("exchange", SPECIAL, ids=lambda e: f"{e.scheme} {e.format} {e.clip}")
def test_zeros_stay_and_what_is_not_finite_reaches_every_worker_and_no_other_tensor(exchange):
    size = 6000  # so many that a maximum of floats would forget NaN
    rng = np.random.default_rng(0)
    small = rng.standard_normal((WORKERS, 3)).astype(np.float32)
    other = rng.standard_normal((WORKERS, size)).astype(np.float32)
    send = jax.jit(functools.partial(exchanged_mean, exchange))
    for worst in (np.nan, -np.inf, 0):
        lost = np.zeros((WORKERS, size), np.float32)
        lost[2, 5400] = worst
        mean = send(dict(lost=lost, other=other, small=small), jax.random.key(0))
        assert np.all(np.isfinite(mean["other"]))
        np.testing.assert_allclose(mean["small"][0], small.mean(0), atol=1e-6)
        # under two shots: the part of the last of four owners
        owned = 4500 if exchange.scheme == "two_shot" else 0
        assert np.all(np.isnan(mean["lost"][:, owned:]) == (worst != 0))
        np.testing.assert_array_equal(mean["lost"][:, :owned], 0)
    np.testing.assert_array_equal(mean["lost"], 0)


@pytest.mark.parametrize("name", ["e4m3fn", "int12", "bfloat16", "mxfp4", "vsq4t"])
def test_messages_of_formats_decode_to_what_the_format_rounds_to(name):
    codec = Exchange(format=name).codec
    rng = np.random.default_rng(0)
    x = 5 * rng.standard_normal(100).astype(np.float32)
    words = rng.integers(0, 2**32, 100, dtype=np.uint32)
    block = getattr(codec.format, "block", 1)

    @jax.jit
    def both(x, words):
        message = codec.encode(x, words)
        # as the sender of a flat tensor sees it: blocks that are not full end in zeros
        full = [jnp.pad(part, (0, -100 % block)) for part in (x, words)]
        rounded = codec.format.round(full[0], "stochastic", bits=full[1])[:100]
        return message, codec.decode(message, 100), rounded

    message, decoded, rounded = both(x, words)
    assert (message.words.size, message.floats.size) == codec.sizes(100)
    np.testing.assert_array_equal(decoded, rounded)
    assert len(np.unique(decoded)) > 8


def test_messages_of_formats_have_their_true_size():
    sizes = {name: Exchange(format=name).codec.sizes(160) for name in ("e2m3", "int12")}
    assert sizes == {"e2m3": (120, 1), "int12": (240, 1)}
    # 10 blocks of 16: a scale of 4 bits each, and the outer one of the row
    assert Exchange(format="vsq4").codec.sizes(160) == (80 + 5, 1 + 1)
    assert Exchange(format="mxfp4").codec.sizes(160) == (80 + 5, 1)


def test_sums_of_codes_take_the_narrowest_type():
    assert [sum_dtype(2, n) for n in (127, 128)] == [jnp.int8, jnp.int16]
    assert [sum_dtype(4, n) for n in (18, 19)] == [jnp.int8, jnp.int16]
    assert [sum_dtype(8, n) for n in (258, 259)] == [jnp.int16, jnp.int32]


def test_a_leaf_keeps_its_dtype_and_the_noise_of_workers_and_tensors_differs():
    same = np.full((WORKERS, 2000), 0.3, np.float32)
    same[:, 0] = 1
    grads = dict(a=jnp.asarray(same), b=jnp.asarray(same), c=jnp.asarray(same, jnp.bfloat16))
    send = jax.jit(functools.partial(exchanged_mean, Exchange(bits=2)))
    mean = send(grads, jax.random.key(0))
    assert mean["c"].dtype == jnp.bfloat16
    one, other = np.asarray(mean["a"][0]), np.asarray(mean["b"][0])
    # workers that round alike would leave only 0 and 1: four independent ones are binomial
    shares, counts = np.unique(one[1:], return_counts=True)
    expected = [1999 * math.comb(4, k) * 0.3**k * 0.7 ** (4 - k) for k in range(5)]
    np.testing.assert_array_equal(shares, [0, 0.25, 0.5, 0.75, 1])
    assert np.sum((counts - expected) ** 2 / expected) < 25  # chi^2 of 4 degrees of freedom
    # 0.31 of the entries agree by chance
    assert np.mean(one == other) == pytest.approx(0.31, abs=0.05)


REFUSED = {
    "bits = 1 must be": dict(bits=1),
    "clip = 0 must be positive": dict(clip=0),
    "scheme 'ring' does not exist; choose from one_shot": dict(scheme="ring"),
    "exempt_below = 1.5 must be": dict(exempt_below=1.5),
    "number format 'e99' does not exist": dict(format="e99"),
    "gradients have signs, and format = uint4tensor": dict(format="uint4tensor"),
    'leave format away, or choose "one_shot"': dict(format="e4m3fn", scheme="shared_scale"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_does_not_go_together_is_refused(sentence):
    with pytest.raises(ValueError, match=sentence):
        Exchange(**REFUSED[sentence])


def test_a_missing_axis_and_integers_are_refused():
    send = functools.partial(quantized_mean, axis_name="workers", exchange=Exchange())
    with pytest.raises(ValueError, match="there is no axis 'workers' here"):
        send(jnp.ones(4), jax.random.key(0))
    with pytest.raises(ValueError, match="gradients are floats, and one is of int32"):
        jax.vmap(send, in_axes=(0, None), axis_name="workers")(
            jnp.ones((2, 4), jnp.int32), jax.random.key(0)
        )
    with pytest.raises(ValueError, match="workers = 0 must be at least 1"):
        wire_report(jnp.ones(4), 0, Exchange())


WRITTEN = """HloModule jit_f, is_scheduled=true, num_partitions=4
%a = f32[8]{0} all-reduce(%p), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
%b = (u8[16]{0}, u8[4,16]{1,0:T(8,128)}) all-gather-start(%q), replica_groups=[2,4]<=[8]
%c = u8[4,16]{1,0} all-gather-done(%b), metadata={op_name="x = f32[4] all-gather(y)"}
ROOT %d = (s8[6]{0}, bf16[2,3]{1,0}) all-to-all(%r, %s), replica_groups={{0,1},{2,3}}
%e = (f32[5]{0}, f32[5]{0}, u32[], u32[]) collective-permute-start(%t), channel_id=3
%f = f32[3]{0} reduce-scatter(%u), replica_groups={}, dimensions={0}
%g = (s4[10]{0}, pred[5]{0}) all-gather(%v), replica_groups={{0,2},{1,3}}
%h = f32[8]{0} all-reduce(%p), replica_groups=mesh['x'=4,'y'=2] {'x'}, to_apply=%add
"""


def test_collectives_are_read_in_all_their_spellings():
    found = [(c.kind, c.devices, c.received) for c in compiled_collectives(WRITTEN)]
    assert found == [
        ("all-reduce", 4, 2 * 32 * 3 / 4),
        ("all-gather", 4, 48),
        ("all-to-all", 2, 9),
        ("collective-permute", 1, 20),
        ("reduce-scatter", 4, 36),
        ("all-gather", 2, 5),
        ("all-reduce", 4, 2 * 32 * 3 / 4),
    ]
    assert compiled_wire_bytes(WRITTEN) == 48 + 48 + 9 + 20 + 36 + 5 + 48
    with pytest.raises(ValueError, match="devices of this collective cannot be read"):
        compiled_wire_bytes("%a = f32[8]{0} all-reduce(%p), replica_groups=@mesh")


def test_formats_of_traced_widths_are_refused():
    from lpml.formats import Fixed

    with pytest.raises(ValueError, match="a format whose width is traced cannot be sent"):
        jax.jit(lambda bits: Exchange(format=Fixed(1.0, bits)) and bits)(8)
    assert FormatCodec(Fixed(1.0, 6)).sizes(8) == (6, 1)
