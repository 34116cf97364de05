"""How a search goes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a search goes; frozen and hashable.

    Attributes:
      num: evaluations in all.
      num_initial: of them, by a Latin hypercube before anything is modelled.
      xi: what an improvement must at least be, in standard deviations of the values
        so far. MSAO has 0.1.
      num_candidates: points that are drawn evenly in each round.
      num_near: points that are drawn around the best one in each round.
      fit_steps: of Adam in each round, from the last round's kernel.
      learning_rate: of them.
      num_refined: candidates that are refined in each round, where some variable takes
        any value; 0: none.
      refine_steps: of Adam, of each of them.
      refine_rate: about the length of the first steps, in edges of the cube.
      fit_mean: the process has the constant mean of the greatest likelihood, not that
        of the values; None: where some variable takes any value.

    Raises:
      ValueError: names the field that makes no sense.
    """

    num: int = 50
    num_initial: int = 10
    xi: float = 0.1
    num_candidates: int = 512
    num_near: int = 256
    fit_steps: int = 20
    learning_rate: float = 0.1
    num_refined: int = 8
    refine_steps: int = 15
    refine_rate: float = 0.03
    fit_mean: bool | None = None

    def __post_init__(self):
        for name in ("num_initial", "num_candidates", "num_near"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.num < self.num_initial:
            raise ValueError(
                f"num is {self.num}; give at least num_initial, {self.num_initial}"
            )
        if self.xi < 0.0 or self.fit_steps < 0 or not self.learning_rate > 0.0:
            raise ValueError("xi and fit_steps must not be negative, nor the rate 0")
        most = self.num_candidates + self.num_near
        if not 0 <= self.num_refined <= most:
            raise ValueError(
                f"num_refined is {self.num_refined}; give 0 up to num_candidates +"
                f" num_near, {most}"
            )
        if self.refine_steps < 1 or not self.refine_rate > 0.0:
            raise ValueError(
                "refine_steps and refine_rate must be above 0; num_refined of 0 refines"
                " nothing"
            )
