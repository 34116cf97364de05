"""Large-scale model of 3GPP TR 38.901 for outdoor users: UMi street canyon and UMa.

    loss = UMI.path_loss(distance, UMI.draw_los(key, distance), Hertz(3.5e9))

Distances are in metres along the ground (the report's d_2D-out), heights in metres.
Methods broadcast over distances, line-of-sight states and user heights, and are
differentiable by distance, height and carrier. Outside the ranges of the report they
extrapolate; ``check_range`` tells, on the host. Indoor users and the correlation of
line of sight between neighbours are not modelled.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.channels import topology
from m3jax.ops import numbers, quantities

_LIGHT_SPEED = 3.0e8  # note 1 of table 7.4.1-1 rounds it
_DISTANCES = 10.0, 5000.0
_CARRIERS = 0.5e9, 100e9
_HEIGHTS = 1.5, 22.5
_NOBODY_FAR = 1e4  # metres; from there on C(d, h_UT) is below 1e-22


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One scenario: its rows in the tables of the report (as of release 16).

    ``UMI`` and ``UMA`` are the two that are here; ``dataclasses.replace`` changes one.

    Attributes:
      name: for messages.
      base_height: h_BS.
      los_loss: A of ``PL_LOS``, table 7.4.1-1, in dB.
      los_slope: B of ``PL_LOS``, dB per decade up to the breakpoint; 40 beyond it.
      nlos_loss: A' of ``PL'_NLOS``, in dB.
      nlos_slope: B' of ``PL'_NLOS``, dB per decade of distance.
      nlos_carrier_slope: dB per decade of the carrier.
      nlos_height_slope: dB by which each metre of the user above 1.5 m helps.
      los_decay: metres in the exponent of the LOS probability, table 7.4.2-1.
      tall_users: whether a user above 13 m sees over buildings (UMa only).
      los_std: shadowing in line of sight, table 7.4.1-1, in dB.
      nlos_std: shadowing without it, in dB.
      los_correlation: correlation distance of shadowing, table 7.5-6, in metres.
      nlos_correlation: the same without line of sight.
    """

    name: str
    base_height: float
    los_loss: float
    los_slope: float
    nlos_loss: float
    nlos_slope: float
    nlos_carrier_slope: float
    nlos_height_slope: float
    los_decay: float
    tall_users: bool
    los_std: float
    nlos_std: float
    los_correlation: float
    nlos_correlation: float

    def los(
        self,
        distance: base.Array,
        carrier: quantities.Hertz,
        user_height: base.Array = 1.5,
        environment_height: base.Array = 1.0,
    ) -> quantities.Db:
        """Path loss in line of sight, table 7.4.1-1.

            PL = A + B log10 d_3D + 20 log10 f_GHz + (40 - B) max(0, log10(d_3D / d_b))

        where d_b is the distance d_3D at the breakpoint
        ``d'_BP = 4 (h_BS - h_E) (h_UT - h_E) f / c`` on the ground. This is PL_1 and
        PL_2 of the table in one: they meet at the breakpoint.

        Args:
          distance: along the ground, any shape.
          carrier: scalar or broadcastable.
          user_height: h_UT.
          environment_height: h_E; see ``draw_environment_height`` for tall UMa users.

        Returns:
          The loss, of the broadcast shape.

        Raises:
          TypeError: if ``carrier`` is no ``Hertz``.

        Example:
          >>> round(float(UMI.los(100.0, quantities.Hertz(5e9)).value), 2)
          88.41
        """
        gigahertz = _gigahertz(carrier)
        bend = self.breakpoint_distance(carrier, user_height, environment_height)
        decades = self._decades(distance, user_height)
        beyond = jnp.maximum(decades - self._decades(bend, user_height), 0.0)
        return quantities.Db(
            self.los_loss
            + self.los_slope * decades
            + 20.0 * jnp.log10(gigahertz)
            + (40.0 - self.los_slope) * beyond
        )

    def nlos(
        self,
        distance: base.Array,
        carrier: quantities.Hertz,
        user_height: base.Array = 1.5,
        environment_height: base.Array = 1.0,
    ) -> quantities.Db:
        """Path loss without line of sight, table 7.4.1-1.

            PL = max(PL_LOS, A' + B' log10 d_3D + C' log10 f_GHz - D' (h_UT - 1.5))

        Args:
          distance: along the ground, any shape.
          carrier: scalar or broadcastable.
          user_height: h_UT.
          environment_height: h_E, as for ``los``.

        Returns:
          The loss, of the broadcast shape.

        Raises:
          TypeError: if ``carrier`` is no ``Hertz``.
        """
        least = self.los(distance, carrier, user_height, environment_height)
        own = (
            self.nlos_loss
            + self.nlos_slope * self._decades(distance, user_height)
            + self.nlos_carrier_slope * jnp.log10(_gigahertz(carrier))
            - self.nlos_height_slope * (user_height - 1.5)
        )
        return quantities.Db(jnp.maximum(least.value, own))

    def path_loss(
        self,
        distance: base.Array,
        los: base.Array,
        carrier: quantities.Hertz,
        user_height: base.Array = 1.5,
        environment_height: base.Array = 1.0,
    ) -> quantities.Db:
        """Path loss for given line-of-sight states; arguments as for ``los``.

        Args:
          distance: along the ground, any shape.
          los: bool, True in line of sight, such as ``draw_los`` gives.
          carrier: scalar or broadcastable.
          user_height: h_UT.
          environment_height: h_E.

        Returns:
          The loss, of the broadcast shape.
        """
        args = distance, carrier, user_height, environment_height
        return quantities.Db(
            jnp.where(los, self.los(*args).value, self.nlos(*args).value)
        )

    def expected_path_loss(
        self,
        distance: base.Array,
        carrier: quantities.Hertz,
        user_height: base.Array = 1.5,
    ) -> quantities.Db:
        """Path loss averaged over the line-of-sight state, in dB.

            E[PL] = P PL_LOS + (1 - P) PL_NLOS,   P: the LOS probability

        A mean of decibels is not the decibels of the mean gain, which is larger: that
        of ``path_loss(...)`` over many draws. Smooth in the distance where a draw is
        not. The environment height is 1 m, which is exact for users up to 13 m.

        Args:
          distance: along the ground, any shape.
          carrier: scalar or broadcastable.
          user_height: h_UT.

        Returns:
          The mean loss, of the broadcast shape.
        """
        p = self.los_probability(distance, user_height)
        los = self.los(distance, carrier, user_height)
        return los * p + self.nlos(distance, carrier, user_height) * (1.0 - p)

    def los_probability(
        self, distance: base.Array, user_height: base.Array = 1.5
    ) -> base.Array:
        """Probability of line of sight, table 7.4.2-1.

            P = 1 for d <= 18, else min(1, p (1 + C'(h_UT) g(d)))
            p = 18 / d + exp(-d / D) (1 - 18 / d)
            g = 5/4 (d / 100)^3 exp(-d / 150),   C' = ((h_UT - 13) / 10)^1.5 above 13 m

        C' is 0 for UMi. The minimum is ours: just beyond 18 m, the formula for tall
        users exceeds 1 by up to 0.6 %.

        Args:
          distance: along the ground, any shape.
          user_height: h_UT, scalar or broadcastable.

        Returns:
          Probabilities, of the broadcast shape.

        Example:
          >>> round(float(UMA.los_probability(100.0)), 3)
          0.348
        """
        distance = numbers.as_float(distance, least=jnp.float32)
        near = 18.0 / jnp.maximum(distance, 18.0)
        p = near + jnp.exp(-distance / self.los_decay) * (1.0 - near)
        p = jnp.minimum(p * (1.0 + self._over_roofs(distance, user_height)), 1.0)
        return jnp.where(distance <= 18.0, 1.0, p)

    def draw_los(
        self, key: base.Array, distance: base.Array, user_height: base.Array = 1.5
    ) -> base.Array:
        """Draws line-of-sight states, independent between users.

        Args:
          key: random key, consumed.
          distance: along the ground, any shape.
          user_height: h_UT, scalar or broadcastable.

        Returns:
          bool, of the broadcast shape, True in line of sight.
        """
        return jax.random.bernoulli(key, self.los_probability(distance, user_height))

    def draw_environment_height(
        self, key: base.Array, distance: base.Array, user_height: base.Array
    ) -> base.Array:
        """Draws h_E, the height from which the ground reflects; note 1, table 7.4.1-1.

        1 m with probability ``1 / (1 + C(d, h_UT))``, otherwise one of 12, 15, ...,
        ``h_UT - 1.5`` with equal chance. Always 1 m for UMi and for users up to 13 m.

        Args:
          key: random key, consumed.
          distance: along the ground, any shape.
          user_height: h_UT, scalar or broadcastable.

        Returns:
          Heights in metres, of the broadcast shape.
        """
        tall = self._over_roofs(distance, user_height)
        num_roofs = jnp.maximum(jnp.floor((user_height - 13.5) / 3.0) + 1.0, 1.0)
        u, v = jax.random.uniform(key, (2, *tall.shape))
        roof = 12.0 + 3.0 * jnp.minimum(jnp.floor(v * num_roofs), num_roofs - 1.0)
        return jnp.where(u * (1.0 + tall) < 1.0, 1.0, roof)

    def breakpoint_distance(
        self,
        carrier: quantities.Hertz,
        user_height: base.Array = 1.5,
        environment_height: base.Array = 1.0,
    ) -> base.Array:
        """d'_BP along the ground, metres, where the slope turns to 40 dB per decade."""
        above_base = self.base_height - environment_height
        above_user = user_height - environment_height
        hertz = numbers.as_float(carrier.value, least=jnp.float32)
        return 4.0 * above_base * above_user * hertz / _LIGHT_SPEED

    def shadowing_std(self, los: base.Array) -> quantities.Db:
        """Standard deviation of shadowing for line-of-sight states ``los``."""
        return quantities.Db(jnp.where(los, self.los_std, self.nlos_std))

    def correlation_distance(self, los: base.Array) -> base.Array:
        """Correlation distance of shadowing in metres for states ``los``."""
        return jnp.where(los, self.los_correlation, self.nlos_correlation)

    def check_range(
        self,
        distance,
        carrier: quantities.Hertz,
        user_height=1.5,
    ) -> None:
        """Checks on the host that the report covers these values.

        Args:
          distance: along the ground, any shape; 10 to 5000 m.
          carrier: 0.5 to 100 GHz.
          user_height: h_UT, any shape; 1.5 to 22.5 m.

        Raises:
          TypeError: if ``carrier`` is no ``Hertz``.
          ValueError: naming what is out of range, and the range.
        """
        quantities.require(carrier, quantities.Hertz, "carrier")
        for name, values, (low, high), unit in (
            ("distance", distance, _DISTANCES, "m"),
            ("carrier", carrier.value, _CARRIERS, "Hz"),
            ("user_height", user_height, _HEIGHTS, "m"),
        ):
            values = np.asarray(values)
            if not ((values >= low) & (values <= high)).all():
                raise ValueError(
                    f"{self.name} covers a {name} of {low:g} to {high:g} {unit}, got "
                    f"{values.min():g} to {values.max():g}."
                )

    def _decades(self, distance: base.Array, user_height: base.Array) -> base.Array:
        """log10 of d_3D; one metre at least, for a user at the antenna itself."""
        length = topology.distance_3d(distance, self.base_height - user_height)
        return jnp.log10(jnp.maximum(length, 1.0))

    def _over_roofs(self, distance: base.Array, user_height: base.Array) -> base.Array:
        """C(d, h_UT): how much more often a tall user sees the antenna."""
        distance, user_height = numbers.as_floats(distance, user_height)
        distance = jnp.minimum(distance, _NOBODY_FAR)  # no inf times 0 beyond
        tall = jnp.maximum((user_height - 13.0) / 10.0, 0.0) ** 1.5
        near = 1.25 * (distance / 100.0) ** 3 * jnp.exp(-distance / 150.0)
        return tall * jnp.where(distance > 18.0, near, 0.0) * float(self.tall_users)


def _gigahertz(carrier: quantities.Hertz) -> base.Array:
    quantities.require(carrier, quantities.Hertz, "carrier")
    return numbers.as_float(carrier.value, least=jnp.float32) / 1e9


UMI = Scenario(
    name="UMi street canyon",
    base_height=10.0,
    los_loss=32.4,
    los_slope=21.0,
    nlos_loss=22.4,
    nlos_slope=35.3,
    nlos_carrier_slope=21.3,
    nlos_height_slope=0.3,
    los_decay=36.0,
    tall_users=False,
    los_std=4.0,
    nlos_std=7.82,
    los_correlation=10.0,
    nlos_correlation=13.0,
)
"""Urban micro cell below the roofs, in a street."""

UMA = Scenario(
    name="UMa",
    base_height=25.0,
    los_loss=28.0,
    los_slope=22.0,
    nlos_loss=13.54,
    nlos_slope=39.08,
    nlos_carrier_slope=20.0,
    nlos_height_slope=0.6,
    los_decay=63.0,
    tall_users=True,
    los_std=4.0,
    nlos_std=6.0,
    los_correlation=37.0,
    nlos_correlation=50.0,
)
"""Urban macro cell above the roofs."""
