"""Scikit-optimize and BoTorch on the work of ``benchmarks.bayesopt``.

Each is imported in its own functions, so that one can be compared with alone.
"""

from collections.abc import Callable

import numpy as np

Objective = Callable[[np.ndarray], float]


def search_skopt(
    objective: Objective,
    num_dims: int,
    num: int,
    num_initial: int,
    xi: float,
    seed: int,
) -> float:
    """Scikit-optimize's ``gp_minimize``, by expected improvement; the least value.

    Its Gaussian process standardises the values, and its ``xi`` is in their unit.
    """
    import skopt

    found = skopt.gp_minimize(
        objective,
        [(0.0, 1.0)] * num_dims,
        acq_func="EI",
        n_calls=num,
        n_initial_points=num_initial,
        xi=xi,
        random_state=seed,
    )
    return float(found.fun)


def posterior_skopt(points, values, queries, lengths, amplitude, noise):
    """Mean and standard deviation at queries, of a kernel that is given."""
    from skopt.learning import gaussian_process
    from skopt.learning.gaussian_process import kernels

    kernel = kernels.ConstantKernel(amplitude) * kernels.Matern(lengths, nu=2.5)
    model = gaussian_process.GaussianProcessRegressor(
        kernel, alpha=noise, optimizer=None, normalize_y=False, noise=None
    )
    return model.fit(points, values).predict(queries, return_std=True)


def search_botorch(
    objective: Objective,
    num_dims: int,
    num: int,
    num_initial: int,
    xi: float,
    seed: int,
) -> float:
    """The loop of BoTorch's tutorial with Matern 5/2 and expected improvement."""
    import torch
    from botorch import acquisition, fit, models, optim
    from botorch.models.transforms import outcome
    from gpytorch import kernels, mlls

    torch.manual_seed(seed)
    bounds = torch.stack([torch.zeros(num_dims), torch.ones(num_dims)]).double()
    points = torch.rand(num_initial, num_dims, dtype=torch.double)
    values = torch.tensor([[-objective(x.numpy())] for x in points], dtype=torch.double)
    for _ in range(num - num_initial):
        model = models.SingleTaskGP(
            points,
            values,
            covar_module=kernels.ScaleKernel(
                kernels.MaternKernel(nu=2.5, ard_num_dims=num_dims)
            ),
            outcome_transform=outcome.Standardize(1),
        )
        fit.fit_gpytorch_mll(mlls.ExactMarginalLogLikelihood(model.likelihood, model))
        # xi in standard deviations, as m3jax has it.
        best = values.max() + xi * values.std()
        gain = acquisition.LogExpectedImprovement(model, best_f=best)
        point, _ = optim.optimize_acqf(
            gain, bounds, q=1, num_restarts=5, raw_samples=256
        )
        value = -objective(point[0].numpy())
        points = torch.cat([points, point])
        values = torch.cat([values, torch.tensor([[value]], dtype=torch.double)])
    return -float(values.max())


def posterior_botorch(points, values, queries, lengths, amplitude, noise):
    """Mean and standard deviation at queries, of a kernel that is given."""
    import torch
    from botorch import models
    from gpytorch import kernels, means

    given = [torch.as_tensor(a, dtype=torch.double) for a in (points, values, queries)]
    kernel = kernels.ScaleKernel(
        kernels.MaternKernel(nu=2.5, ard_num_dims=len(lengths))
    )
    kernel.outputscale = amplitude
    kernel.base_kernel.lengthscale = torch.as_tensor(lengths)
    model = models.SingleTaskGP(
        given[0],
        given[1][:, None],
        torch.full((len(points), 1), noise, dtype=torch.double),
        covar_module=kernel.double(),
        mean_module=means.ZeroMean(),
        outcome_transform=None,
    )
    model.eval()
    with torch.no_grad():
        found = model.posterior(given[2])
    return found.mean[:, 0].numpy(), found.variance[:, 0].sqrt().numpy()


SEARCHES = {"skopt": search_skopt, "botorch": search_botorch}
POSTERIORS = {"skopt": posterior_skopt, "botorch": posterior_botorch}
