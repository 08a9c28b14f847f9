"""Shampoo as an optimizer: direction and grafting, momentum, weight decay and rate joined."""

import jax
import optax

from lpml.optim.refresher import HostRefreshedTransformation, HostWork
from lpml.optim.reporting import ReportingTransformation
from lpml.optim.roots import Damping
from lpml.optim.schedules import Decay, scheduled
from lpml.optim.shampoo.blocks import Blocking
from lpml.optim.shampoo.filtered import filtered
from lpml.optim.shampoo.hosted import host_side, report
from lpml.optim.shampoo.refresh import Refreshing
from lpml.optim.shampoo.storage import Named, Storage
from lpml.optim.shampoo.transformation import scale_by_shampoo


def shampoo(
    learning_rate: optax.ScalarOrSchedule,
    *,
    block_size: int = 128,
    max_dim: int = 8192,
    merge: bool = True,
    vectors: bool = False,
    exponent: int | None = None,
    beta2: float | jax.Array = 0.99,
    epsilon: float | jax.Array = 1e-5,
    damping: str = "relative",
    root: str | None = None,
    refresh: str = "program",
    refresh_every: int = 20,
    start_at: int | None = None,
    delay: int | None = None,
    first_delay: int = 0,
    executor: str = "thread",
    host_workers: int | None = None,
    late: str = "block",
    timeout: float = 600.0,
    max_failures: int = 3,
    on_failure: str = "graft",
    grafting: str = "rmsprop",
    graft_eps: float | jax.Array = 1e-8,
    b1: float | jax.Array = 0.9,
    averaged: bool = True,
    nesterov: bool = False,
    weight_decay: float | jax.Array = 0.0,
    warmup_steps: int = 0,
    decay: Decay = "none",
    decay_steps: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    statistics_format: Named = None,
    roots_format: Named = None,
    state_form: str = "factor",
    state_rounding: str = "stochastic",
) -> optax.GradientTransformationExtraArgs:
    r"""Shampoo with blocks, grafting, momentum and decoupled weight decay.

    .. math::
      m \leftarrow \beta_1 m + (1 - \beta_1) u, \qquad w \leftarrow w - \alpha (m + \lambda w)

    with u as in `scale_by_shampoo`: for a matrix L^(-1/4) G R^(-1/4), in length
    the update of `grafting`.

    Args:
      learning_rate: alpha, or a schedule of the step count; with grafting, one that suits the
        grafted method.
      block_size, max_dim, merge, vectors, exponent: which matrices a tensor gets and the p of
        their roots A^(-1/p), see `Blocking`.
      beta2: decay of the statistics, in (0, 1]; 1 sums them.
      epsilon: of the damping, >= 0. In float32, 1e-6 leaves matrices of low rank, as they are
        in the beginning, with residuals near the 0.5 at which a root is refused.
      damping: "relative" to the largest eigenvalue, "absolute", or "truncate" small ones.
      root: the solver, "newton" or "eigh" (which "truncate" needs); on the host also "svd".
        None is Newton in the program and eigh on the host.
      refresh: "program" renews roots in the step; "host" in float64 on the CPU while the
        training goes on, by a `RootRefresher` that the training loop of this package calls by
        itself and a loop of one's own between two steps.
      refresh_every: steps between two refreshes, >= 1.
      start_at: the step (from 1) of the first refresh; `refresh_every` by default.
      delay, first_delay, executor, host_workers, late, timeout, max_failures, on_failure: of
        refresh "host" alone; see `HostWork`. By default the roots of one refresh are swapped in
        when the next begins.
      grafting: "none", "sgd", "adagrad", "rmsprop" or "adam": whose length updates have, and
        who moves what has no roots.
      graft_eps: of the grafted method, > 0.
      b1: decay of the momentum of updates, in [0, 1).
      averaged: False is the heavy ball, m <- b1 m + u.
      nesterov: one step ahead of the momentum.
      weight_decay: lambda >= 0; it does not pass the momentum, and is scaled by alpha once.
      warmup_steps, decay, decay_steps: of the rate, see `scheduled`.
      mesh: over whose devices matrices, roots and the work for them are shared out; that of
        the framework's `mesh` section by default.
      statistics_format, roots_format: what the state holds either kind of matrices in: a name
        of `lpml.formats.by_name`, a format, or None for floats.
      state_form, state_rounding: how, see `Storage`; "stochastic" needs the extra argument
        `key` in update if there is a `statistics_format`.

    Raises:
      ValueError: a number out of its range, or a word that is none of these.

    References:
      As in `scale_by_shampoo`; Agarwal et al., Disentangling Adaptive Gradient Methods from
      Learning Rates, arXiv 2002.11803, for grafting.
    """
    rate = scheduled(
        learning_rate, warmup_steps=warmup_steps, decay=decay, decay_steps=decay_steps
    )
    if isinstance(b1, (int, float)) and not 0 <= b1 < 1:
        raise ValueError(f"b1 = {b1} must be in [0, 1)")
    if isinstance(weight_decay, (int, float)) and not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay = {weight_decay} must be >= 0 and finite")
    blocking = Blocking(block_size, max_dim, exponent, merge, vectors)
    refreshing = Refreshing(refresh_every, start_at, root, Damping(damping, epsilon), refresh)
    work = HostWork(
        delay, first_delay, executor, host_workers, late, timeout, max_failures, on_failure
    )
    if refresh == "host":
        work.check(refresh_every)
    else:
        work.check_unused()
    chain = optax.chain(
        scale_by_shampoo(
            blocking,
            refreshing,
            beta2=beta2,
            grafting=grafting,
            graft_eps=graft_eps,
            mesh=mesh,
            storage=Storage(statistics_format, roots_format, state_form, state_rounding),
        ),
        filtered(b1, averaged=averaged, nesterov=nesterov),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(rate),
    )
    init, update = optax.with_extra_args_support(chain)
    if refresh == "host":
        return HostRefreshedTransformation(
            init, update, host=host_side(refreshing, work), report=report
        )
    return ReportingTransformation(init, update, report=report)
