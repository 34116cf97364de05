"""ASEM: a variational state-space model with a fast and a slow latent.

M3LLM (section III-B, equations 19 to 21) feeds its policy with what this model infers
from noisy channel observations q_t, a context u_t (task embedding, last reward) and the
state h_{t-1} of a GRU. The paper leaves the prior open; here (docs/asem.md)

    p(z2_t | z2_{t-1}) = N(a z2_{t-1}, 1 - a^2),   a = exp(-1 / timescale)
    p(z1_t | z2_t, h_{t-1}) = N(m(z2_t, h_{t-1}), s(z2_t, h_{t-1})^2)
    p(q_t | z1_t, z2_t) = N(W1 z1_t + W2 z2_t + b, R)
    h_t = GRU(h_{t-1}, [q_t, u_t])

and the bound (equation 21), summed over time, with q the posteriors by networks:

    L = E_q[sum_t log p(q_t | z_t) - KL(q(z1_t) || p(z1_t)) - KL(q(z2_t) || p(z2_t))]
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from m3jax import base
from m3jax.nn import state_space_cell
from m3jax.nn import state_space_types as types
from m3jax.ops import gaussians

PRIORS = ("learned", "standard_normal")
CORES = ("observations", "latents")


class StateSpace(nn.Module):
    """The model; its methods go through ``apply(params, ..., method="filter")``.

    Series are ``[*B, T, P]`` with any leading axes, of about zero mean and unit
    variance. ``mask`` is bool of that shape, True where observed (None: everywhere);
    what is masked may be anything, NaN too. ``context`` is ``[*B, T, num_context]``;
    None is a context of zeros. Without a ``key`` latents are carried on at their means,
    which is deterministic and what a policy wants; with one they are sampled, and
    a leading axis of copies of the series gives as many paths.

    Attributes:
      num_observed: P, values in an observation: one for each channel.
      num_context: C, width of the context.
      fast_dim, slow_dim: widths of z1 and z2.
      hidden_dim: width of the GRU, and of the networks.
      prior: "learned", or "standard_normal" for both latents at all times, the literal
        reading of equation 21.
      core: what the GRU reads: "observations", as the paper's does, or "latents"
        (samples of z1 and z2), which makes the latents all that the model remembers.
      min_timescale: steps within which no part of z2 forgets more than 1 - 1/e.
      observation_std: of the noise on the observations, in their unit, where it is
        known; None: learnt. Knowing it is what tells signal from noise: see the docs.
      smoother: whether a backward GRU can inform the posterior of what came later.
      kl_balance: weight of the prior's own pull (DreamerV2); None: the plain gradient.

    Raises:
      ValueError: a setting is not known or out of range.
    """

    num_observed: int
    num_context: int = 0
    fast_dim: int = 32
    slow_dim: int = 16
    hidden_dim: int = 64
    prior: str = "learned"
    core: str = "observations"
    min_timescale: float = 10.0
    observation_std: float | None = None
    smoother: bool = False
    kl_balance: float | None = None

    def setup(self):
        """Makes the cell, and the backward GRU if there is one."""
        _check_settings(self)
        scan = {"variable_broadcast": "params", "split_rngs": {"params": False}}
        self.cell = nn.scan(state_space_cell.Cell, **scan)(
            *(self.fast_dim, self.slow_dim, self.hidden_dim, self.prior, self.core),
            *(self.min_timescale, self.observation_std),
        )
        if self.smoother:
            self.backward = nn.scan(state_space_cell.Backward, reverse=True, **scan)(
                self.hidden_dim
            )

    def __call__(self, observations, mask=None, context=None, key=None):
        """`elbo`, with the smoother if there is one; for ``init``."""
        key = jax.random.key(0) if key is None else key
        return self.elbo(observations, key, mask, context, smooth=self.smoother)

    def initial_state(self, batch_shape: tuple[int, ...] = ()) -> types.State:
        """The state before the first step; needs no parameters."""
        return types.State(
            jnp.zeros((*batch_shape, self.hidden_dim), jnp.float32),
            jnp.zeros((*batch_shape, self.slow_dim), jnp.float32),
            jnp.zeros(batch_shape, bool),
        )

    def filter(
        self,
        observations: base.Array,
        mask: base.Array | None = None,
        context: base.Array | None = None,
        key: base.Array | None = None,
        state: types.State | None = None,
    ) -> tuple[types.State, types.Step]:
        """Infers the latents of each step from that step and those before.

        Args:
          observations: ``[*B, T, P]``; an agent passes one step, ``T = 1``.
          mask: where observed. Where nothing is, the posterior is the prior.
          context: u_t.
          key: randomness of the latents that are carried on; None: their means.
          state: from a call before, to go on; None: the start.

        Returns:
          The state after the last step, and ``Step`` with leaves ``[*B, T, ...]``.

        Raises:
          ValueError: if shapes disagree.
        """
        return self._run(observations, mask, context, key, state, smooth=False)

    def smooth(
        self,
        observations: base.Array,
        mask: base.Array | None = None,
        context: base.Array | None = None,
        key: base.Array | None = None,
    ) -> types.Step:
        """Infers the latents of each step from the whole series.

        Args:
          observations: ``[*B, T, P]``.
          mask: where observed.
          context: u_t.
          key: as for `filter`.

        Returns:
          ``Step`` with leaves ``[*B, T, ...]``; ``predicted`` follows the path of the
          smoothed z2, which knows the future.

        Raises:
          ValueError: there is no smoother, or shapes disagree.
        """
        return self._run(observations, mask, context, key, None, smooth=True)[1]

    def forecast(
        self,
        state: types.State,
        num_steps: int,
        context: base.Array | None = None,
        key: base.Array | None = None,
    ) -> gaussians.Gaussian:
        """Forecasts observations: `filter` over steps in which nothing is observed.

        Args:
          state: as `filter` left it.
          num_steps: h, how many steps ahead.
          context: of these steps, ``[*B, h, C]``; None: zeros.
          key: randomness of the latents; None: at their means, which leaves the spread
            of z2 out of the forecast's.

        Returns:
          Mean and standard deviation, ``[*B, h, P]``; row k is k + 1 steps ahead.
          Sampled paths along a first axis are a mixture, as `ops.scores` takes it.

        Raises:
          ValueError: if shapes disagree.
        """
        shape = (*state.started.shape, num_steps, self.num_observed)
        nothing, unseen = jnp.zeros(shape), jnp.zeros(shape, bool)
        return self.filter(nothing, unseen, context, key, state)[1].predicted

    def elbo(
        self,
        observations: base.Array,
        key: base.Array,
        mask: base.Array | None = None,
        context: base.Array | None = None,
        smooth: bool = False,
    ) -> types.Elbo:
        """The evidence lower bound, by one sampled path of the latents.

        Args:
          observations: ``[*B, T, P]``.
          key: randomness of the path.
          mask: where observed.
          context: u_t.
          smooth: whether the posterior is that of `smooth`, or of `filter`. Train on
            the sum of both to use both.

        Returns:
          ``Elbo``; the expectation of its ``total()`` is a lower bound.

        Raises:
          ValueError: as for `filter` and `smooth`.
        """
        _, step = self._run(observations, mask, context, key, None, smooth)
        mask = jnp.ones(jnp.shape(observations)) if mask is None else mask
        return types.Elbo(
            step.log_likelihood,
            self._kl(step.fast, step.fast_prior),
            self._kl(step.slow, step.slow_prior),
            jnp.sum(mask, axis=-1, dtype=jnp.float32),
        )

    def _kl(self, posterior, prior):
        if self.kl_balance is None:
            return jnp.sum(gaussians.kl_divergence(posterior, prior), axis=-1)
        kl = gaussians.balanced_kl_divergence(posterior, prior, self.kl_balance)
        return jnp.sum(kl, axis=-1)

    def _run(self, observations, mask, context, key, state, smooth):
        """Scans over time, which is put first and then back."""
        if smooth and not self.smoother:
            raise ValueError("smooth needs a model made with smoother=True.")
        mask, context = types.complete(
            *(observations, mask, context, state),
            sizes=(self.num_observed, self.num_context),
        )
        *batch_shape, num_steps, _ = observations.shape
        axis = len(batch_shape)
        observations, mask, context = (
            jnp.moveaxis(jnp.asarray(x, jnp.float32), axis, 0)
            for x in (jnp.where(mask, observations, 0.0), mask, context)
        )
        informed = jnp.any(mask > 0, axis=-1)
        width = self.hidden_dim * self.smoother
        later = jnp.zeros((num_steps, *batch_shape, width), jnp.float32)
        if smooth:
            informed = lax.cummax(informed.astype(jnp.int32), reverse=True) > 0
            seen = jnp.concatenate([observations, mask, context], axis=-1)
            _, later = self.backward(later[0], (seen, informed))
        dims = (self.fast_dim, self.slow_dim)
        noise = types.draw_noise(key, (num_steps, *batch_shape), dims)
        state = self.initial_state(tuple(batch_shape)) if state is None else state
        state, step = self.cell(
            state,
            types.Inputs(observations, mask, context, later, informed, *noise),
        )
        return state, jax.tree.map(lambda x: jnp.moveaxis(x, 0, axis), step)


def _check_settings(model: StateSpace) -> None:
    for name, choices in (("prior", PRIORS), ("core", CORES)):
        if getattr(model, name) not in choices:
            raise ValueError(
                f"{name} must be one of {choices}, got {getattr(model, name)!r}."
            )
    names = ["num_observed", "fast_dim", "slow_dim", "hidden_dim", "min_timescale"]
    if model.observation_std is not None:
        names.append("observation_std")
    for name in names:
        if not getattr(model, name) > 0:
            raise ValueError(f"{name} must be positive, got {getattr(model, name)}.")
