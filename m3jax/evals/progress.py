"""What a person waiting for a simulation sees."""

from m3jax.evals import error_counts
from m3jax.train import progress


class ProgressBar(progress.Bar):
    """Context manager that ``monte_carlo.run`` can call with its progress.

    Example:
      ``with ProgressBar("16-QAM") as bar: monte_carlo.run(..., progress=bar)``
    """

    def __call__(self, counts: error_counts.ErrorCounts, share: float) -> None:
        """Shows the counts so far and the share of the work that is done."""
        errors, trials = counts.errors.sum(), counts.trials.sum()
        self.to(share, f"{errors:.3g} errors in {trials:.3g} trials")
