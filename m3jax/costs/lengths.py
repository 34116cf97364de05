"""How long prompts and answers are, by application."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from m3jax import base
from m3jax.costs import checks
from m3jax.ops import tracing

ANSWERS = ("geometric", "fixed")


@dataclasses.dataclass
class Application:
    """What one application asks; plain and mutable, for configs.

    Attributes:
      prompt_tokens: mean length of prompts, which are log-normal.
      prompt_spread: standard deviation of their logarithm.
      answer_tokens: mean length of answers, at least 1.
      answers: "geometric", each token being the last with the same probability;
        "fixed": all of the mean length.
      share: of all requests, relative to the other applications'.
    """

    prompt_tokens: float = 65.0
    prompt_spread: float = 0.5
    answer_tokens: float = 3.0
    answers: str = "geometric"
    share: float = 1.0

    def validate(self, owner: str = "application") -> None:
        """Raises ValueError naming the first field that makes no sense."""
        given = tracing.known(self)
        checks.number(owner, "prompt_tokens", given.prompt_tokens, least=1.0)
        checks.number(owner, "prompt_spread", given.prompt_spread, least=0.0)
        checks.number(owner, "answer_tokens", given.answer_tokens, least=1.0)
        checks.number(owner, "share", given.share)
        checks.choice(owner, "answers", given.answers, ANSWERS)


def draw(
    key: base.Array, applications: tuple[Application, ...], num: int
) -> tuple[base.Array, base.Array, base.Array]:
    """Draws lengths; an application has its share of the draws to one, not by chance.

    Args:
      key: random key, consumed.
      applications: M of them.
      num: K.

    Returns:
      Tokens of prompts, float ``[K]``, of answers, float ``[K]``, and the number of
      the application, int32 ``[K]``.
    """
    prompt_key, answer_key = jax.random.split(key)
    shares = np.cumsum([application.share for application in applications])
    places = (np.arange(num) + 0.5) / num
    which = np.minimum(np.searchsorted(shares / shares[-1], places), len(shares) - 1)

    def of_each(field):
        return jnp.array([getattr(app, field) for app in applications])[which]

    spread = of_each("prompt_spread")
    logs = jnp.log(of_each("prompt_tokens")) - spread**2 / 2
    prompt = jnp.exp(logs + spread * jax.random.normal(prompt_key, (num,)))
    mean = of_each("answer_tokens")
    random = _geometric(jax.random.uniform(answer_key, (num,), minval=1e-7), mean)
    fixed = np.array([app.answers == "fixed" for app in applications])[which]
    answer = jnp.where(fixed, jnp.round(mean), random)
    return jnp.maximum(jnp.round(prompt), 1.0), answer, jnp.array(which, jnp.int32)


def _geometric(uniform: base.Array, mean: base.Array) -> base.Array:
    """Lengths of the given mean, at least 1, as floats."""
    stop = jnp.minimum(1.0 / mean, 1.0 - 1e-6)
    lengths = 1.0 + jnp.floor(jnp.log(uniform) / jnp.log1p(-stop))
    return jnp.where(mean > 1.0, lengths, 1.0)
