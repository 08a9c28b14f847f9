"""Quantised products against float64 references of all three products of a layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from reference import ROUND

from lpml import formats, quant
from lpml.formats import VSQ, Fixed, by_name
from lpml.quant import Roles

# weights, activations, gradients; blocks of 16 and 32 divide none of the axes
TRIPLES = [
    ("vsq4", "vsq4", "vsq4"),
    ("mxfp4", "mxfp4", "mxfp4"),
    ("e4m3", "e4m3", "e4m3"),
    ("fixed8", "fixed8", "fixed8"),
    ("int8channel", "uvsq4t", "mxfp4"),
    ("vsq3", "uvsq4", None),
    (None, None, "vsq4t"),
    ("e4m3", None, None),
]
every_triple = pytest.mark.parametrize("names", TRIPLES, ids=str)


def roles_of(names, **options):
    return Roles(*(name and by_name(name) for name in names), **options)


def normal(shape, seed, positive=False):
    draw = 0.3 * np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(np.abs(draw) if positive else draw, jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def all_three(product, x, w, g, key=None):
    """Output, dx and dw of one product."""
    y, pull_back = jax.vjp(lambda x, w: product(x, w, key=key), x, w)
    return y, *pull_back(g)


def wide(*arrays):
    return [np.asarray(a, np.float64) for a in arrays]


def assert_close(found, expected, to=2e-6):
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=0, atol=to * np.abs(e).max())


@every_triple
def test_each_of_the_three_products_rounds_along_its_own_axis(names):
    x, w, g = (
        normal((20, 40), 0, "u" in str(names[1])),
        normal((40, 10), 1),
        normal((20, 10), 2),
    )
    found = all_three(functools.partial(quant.dense, roles=roles_of(names)), x, w, g)
    qw, qa, qg = (ROUND[name] for name in names)
    x, w, g = wide(x, w, g)
    assert_close(
        found,
        (qa(x, 1) @ qw(w, 0), qg(g, 1) @ qw(w, 1).T, qa(x, 0).T @ qg(g, 0)),
    )


def patches_of(x, window, stride):
    """(N, H', W', *window, C) of zero-padded ("SAME") images; odd windows."""
    reach = [(k - 1) // 2 for k in window]
    # SAME puts the smaller half of an odd padding before
    places = [-(-s // stride) for s in x.shape[1:3]]
    pads = [max((p - 1) * stride + k - s, 0) for p, k, s in zip(places, window, x.shape[1:3])]
    assert all(pad // 2 <= r for pad, r in zip(pads, reach))
    x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    at = np.lib.stride_tricks.sliding_window_view(x, window, axis=(1, 2))
    return np.moveaxis(at[:, ::stride, ::stride], 3, -1)


def joined(rounded, w, axis):
    """The kernel with its window as part of the line, blocks anew at every place of it."""
    lines = np.moveaxis(w, axis, -2)
    block = 1 if rounded is ROUND["int8channel"] else 32
    padded = np.pad(lines, [(0, 0), (0, 0), (0, -lines.shape[-2] % block), (0, 0)])
    flat = rounded(padded.reshape(-1, padded.shape[-1]), 0)
    return np.moveaxis(flat.reshape(padded.shape)[..., : lines.shape[-2], :], -2, axis)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "names",
    [
        ("vsq4", "uvsq4t", "vsq4t"),
        ("mxfp4", "mxfp4", "mxfp4"),
        ("int8channel", "e4m3", "fixed8"),
    ],
    ids=str,
)
def test_convolutions_are_sums_over_their_window(names, stride):
    # 20 channels: an incomplete second block of 16, at every place of the window
    x, w = normal((18, 6, 5, 20), 0, "u" in names[1]), normal((3, 3, 20, 7), 1)
    size = -(-6 // stride), -(-5 // stride)
    g = normal((18, *size, 7), 2)
    product = functools.partial(quant.conv, roles=roles_of(names), strides=stride)
    found = all_three(product, x, w, g)

    qw, qa, qg = (ROUND[name] for name in names)
    x, w, g = wide(x, w, g)
    seen = patches_of(qa(x, 3), (3, 3), stride)
    y = np.einsum("nhwijc,ijco->nhwo", seen, joined(qw, w, 2))
    seen = patches_of(qa(x, 0), (3, 3), stride)
    dw = np.einsum("nhwijc,nhwo->ijco", seen, qg(g, 0))
    to_patches = np.einsum("nhwo,ijco->nhwijc", qg(g, 3), joined(qw, w, 3))
    # the transpose of taking patches, found by taking those of numbered pixels
    number = 1 + np.arange(x.size, dtype=float).reshape(x.shape)
    index = patches_of(number, (3, 3), stride).astype(int)
    dx = np.bincount(index.ravel(), to_patches.ravel(), x.size + 1)[1:].reshape(x.shape)
    assert_close(found, (y, dx, dw))


def test_a_convolution_is_a_dense_product_of_its_patches():
    # one block is one place of the window in both readings
    roles = roles_of(("vsq4", "uvsq4t", None))
    x, w = normal((3, 5, 5, 16), 0, positive=True), normal((3, 3, 16, 8), 1)
    flat = jnp.asarray(patches_of(np.asarray(x), (3, 3), 1).reshape(3, 5, 5, -1))
    expected = jax.jit(quant.dense)(flat, w.reshape(-1, 8), roles)
    assert_close([jax.jit(quant.conv)(x, w, roles)], [expected], to=1e-6)


def test_without_formats_products_are_the_plain_ones_bit_for_bit():
    x, w, g = normal((2, 3, 40), 0), normal((40, 10), 1), normal((2, 3, 10), 2)
    none = functools.partial(quant.dense, roles=Roles(gradient_rounding="stochastic"))

    def plain(x, w, key):
        return lax.dot_general(x, w, (((2,), (0,)), ((), ())))

    for found, expected in zip(all_three(none, x, w, g), all_three(plain, x, w, g)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("pair", [("vsq4", "uvsq4t"), ("vsq3v64m8", "vsq4v64m6")], ids=str)
def test_rounded_floats_give_what_the_integer_machine_gives(pair):
    x, w = normal((24, 200), 0, positive=True), normal((200, 12), 1)
    fw, fa = map(by_name, pair)
    found = jax.jit(quant.dense)(x, w, Roles(fw, fa))
    # 200 is no multiple of the blocks
    padded = jnp.pad(x, [(0, 0), (0, 56)]), jnp.pad(w, [(0, 56), (0, 0)])
    product = functools.partial(formats.dot_general, fa=fa, fb=fw, dot="integer")
    integers = jax.jit(product)(*padded)
    assert_close([found], [integers], to=1e-6)


def test_leading_axes_are_one_batch():
    roles = roles_of(("vsq4", "vsq4", "vsq4"))
    product = functools.partial(quant.dense, roles=roles)
    x, w, g = normal((4, 5, 40), 0), normal((40, 10), 1), normal((4, 5, 10), 2)
    y, dx, dw = all_three(product, x, w, g)
    flat = all_three(product, x.reshape(20, 40), w, g.reshape(20, 10))
    assert_close((y.reshape(20, 10), dx.reshape(20, 40), dw), flat, to=1e-6)
    assert jax.eval_shape(quant.dense, x[0, 0], w, roles).shape == (10,)


def test_stochastic_gradients_are_unbiased_and_nearest_ones_are_not():
    """Means of 4000 draws within 5 standard errors of the products with the exact gradient."""
    count = 4000
    gradients = VSQ(3, scale_mode="away")  # scales rounded up: no maximum is clipped
    x, w, g = normal((6, 20), 0), normal((20, 5), 1), normal((6, 5), 2)
    exact = roles_of(("vsq4", "vsq4", None))
    _, *expected = all_three(functools.partial(quant.dense, roles=exact), x, w, g)

    def biases(rounding, keys):
        roles = Roles(exact.weights, exact.activations, gradients, rounding)
        product = functools.partial(quant.dense, roles=roles)
        draw = jax.jit(jax.vmap(lambda key: all_three(product, x, w, g, key)[1:]))
        for draws, mean in zip(wide(*draw(keys)), wide(*expected), strict=True):
            bound = 5 * draws.std(0) / np.sqrt(len(draws)) + 1e-5
            yield np.abs(draws.mean(0) - mean) / bound

    keys = jax.random.split(jax.random.key(0), count)
    assert all(bias.max() < 1 for bias in biases("stochastic", keys))
    assert all(bias.max() > 100 for bias in biases("nearest", keys[:2]))


def test_both_backward_products_draw_words_of_their_own():
    roles = Roles(gradients=Fixed(1.0, 8), gradient_rounding="stochastic")
    product = functools.partial(quant.dense, roles=roles)
    g = jnp.full((64, 64), 0.5)
    eye = jnp.eye(64)
    _, dx, dw = all_three(product, eye, eye, g, jax.random.key(0))  # the rounded g, twice
    assert set(np.unique(dx)) == set(np.unique(dw)) == {0, 1}
    # independent halves agree in 2048 +- 32 of the 4096 places
    assert abs(int((dx == dw).sum()) - 2048) < 5 * 32


def test_a_key_decides_the_draws_and_without_one_gradients_are_rounded_to_nearest():
    roles = roles_of(("vsq4", "vsq4", "vsq4"), gradient_rounding="stochastic")
    product = functools.partial(quant.dense, roles=roles)
    x, w, g = normal((20, 40), 0), normal((40, 10), 1), normal((20, 10), 2)
    first, again, other = (all_three(product, x, w, g, jax.random.key(k)) for k in (0, 0, 1))
    for a, b, c in zip(first, again, other):
        np.testing.assert_array_equal(a, b)
        assert (np.asarray(a) == np.asarray(c)).all() == (a is first[0])
    nearest = functools.partial(quant.dense, roles=roles_of(("vsq4", "vsq4", "vsq4")))
    for a, b in zip(all_three(product, x, w, g), all_three(nearest, x, w, g)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_jit_and_vmap_agree(kind):
    roles = roles_of(("vsq4", "uvsq4t", "vsq4"), gradient_rounding="stochastic")
    shapes = {
        "dense": ((3, 20, 40), (40, 10), (3, 20, 10)),
        "conv": ((3, 4, 3, 3, 18), (3, 3, 18, 10), (3, 4, 3, 3, 10)),
    }[kind]
    product = functools.partial(getattr(quant, kind), roles=roles)
    x, w, g = normal(shapes[0], 0, positive=True), normal(shapes[1], 1), normal(shapes[2], 2)
    keys = jax.random.split(jax.random.key(0), 3)
    mapped = jax.vmap(functools.partial(all_three, product), (0, None, 0, 0))(x, w, g, keys)
    jitted = [all_three(product, x[i], w, g[i], keys[i]) for i in range(3)]
    assert_close(mapped, [np.stack(part) for part in zip(*jitted)], to=1e-6)


def test_eager_and_jit_agree():
    # eager calls compile operation by operation: formats of few
    roles = Roles(*(Fixed(2.0**-6, 6),) * 3, "stochastic")
    product = functools.partial(quant.conv, roles=roles)
    x, w, g = normal((2, 3, 3, 4), 0), normal((3, 3, 4, 2), 1), normal((2, 3, 3, 2), 2)
    arguments = product, x, w, g, jax.random.key(0)
    assert_close(all_three.__wrapped__(*arguments), all_three(*arguments), to=1e-6)


def test_widths_may_be_traced_and_mapped():
    x, w, g = normal((6, 8), 0), normal((8, 5), 1), normal((6, 5), 2)

    def run(bits, scale):
        fmt = Fixed(scale, bits)
        product = functools.partial(quant.dense, roles=Roles(fmt, fmt, fmt))
        return all_three.__wrapped__(product, x, w, g)

    bits, scales = jnp.array([4, 8]), jnp.array([0.1, 0.01], jnp.float32)
    mapped = jax.jit(jax.vmap(run))(bits, scales)
    for i in range(2):
        assert_close([part[i] for part in mapped], run(int(bits[i]), float(scales[i])), 1e-6)


@pytest.mark.parametrize(
    ("fmt", "most"), [(Fixed(0.1, 4), 3), (by_name("fp8tensor"), 3), (by_name("mxfp4"), 6)]
)
def test_operands_are_rounded_again_only_where_their_blocks_turn(fmt, most, monkeypatch):
    count = []
    kind = type(fmt)
    plain = kind.round
    monkeypatch.setattr(kind, "round", lambda *a, **k: (count.append(1), plain(*a, **k))[1])
    product = functools.partial(quant.dense, roles=Roles(fmt, fmt, fmt))
    shapes = ((4, 32), (32, 8), (4, 8))
    jax.make_jaxpr(functools.partial(all_three.__wrapped__, product))(*map(jnp.ones, shapes))
    assert len(count) == most


def test_float64_is_rounded_in_float64():
    with jax.enable_x64(True):
        x, w, g = (
            jnp.asarray(normal(s, 1), jnp.float64) for s in ((20, 40), (40, 10), (20, 10))
        )
        product = functools.partial(quant.dense, roles=roles_of(("vsq4",) * 3))
        found = all_three(product, x, w, g)
        q = ROUND["vsq4"]
        x, w, g = wide(x, w, g)
        expected = (q(x, 1) @ q(w, 0), q(g, 1) @ q(w, 1).T, q(x, 0).T @ q(g, 0))
        assert_close(found, expected, to=1e-13)


def test_bad_arguments_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="'floor' does not exist; choose from nearest, stoch"):
        Roles(gradient_rounding="floor")
    with pytest.raises(ValueError, match=r"pass formats.by_name\('vsq4'\)"):
        Roles("vsq4")
    with pytest.raises(ValueError, match="do not multiply"):
        quant.dense(jnp.ones((2, 3)), jnp.ones((4, 5)), Roles())
    with pytest.raises(ValueError, match="make no convolution"):
        quant.conv(jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 2, 4)), Roles())
