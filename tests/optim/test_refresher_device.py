"""Between device and host: where the rows of a stack lie."""

import jax.numpy as jnp
import numpy as np

from lpml.optim.refresher.device import layout_of, per_matrix, placed, rows_within


def test_shards_are_found_and_laid_again():
    parts = {0: np.arange(6.0).reshape(3, 2), 3: np.arange(6.0, 10).reshape(2, 2)}
    np.testing.assert_array_equal(rows_within(parts, 3, 2), parts[3])
    np.testing.assert_array_equal(rows_within(parts, 1, 2), parts[0][1:])
    assert rows_within(parts, 2, 2) is None
    stack = jnp.arange(8.0).reshape(2, 2, 2)
    layout = layout_of(stack)
    assert layout.sharding is None
    again = placed({0: np.asarray(stack)}, layout)
    np.testing.assert_array_equal(again, stack)
    assert not again.committed
    assert per_matrix(layout, bool).shape == (2,)
