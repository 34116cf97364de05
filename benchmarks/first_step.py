"""The program whose start is timed: one train step in a new process, then "done".

python -m benchmarks.first_step torch small
python -m benchmarks.first_step m3jax small --scan_unroll=6 --cache=DIR
"""

import argparse
import collections.abc

from benchmarks import vit_workload


def first_step_m3jax(
    workload: vit_workload.Workload, scan_unroll: int, cache_dir: str | None
) -> float:
    """Does what a launcher of m3jax does up to the end of its first step."""
    import jax

    from benchmarks import vit_m3jax
    from m3jax.train import cache

    cache.enable_compilation_cache(cache_dir)
    batch = vit_workload.make_batch(workload)
    learner, state = vit_m3jax.start(workload, scan_unroll, batch)
    return vit_m3jax.make_step(learner, state, jax.device_put(batch))()


def first_step_torch(workload: vit_workload.Workload) -> float:
    """Does the same step in eager PyTorch, from its own initial weights."""
    from benchmarks import vit_torch

    batch = vit_workload.make_batch(workload)
    model = vit_torch.make_model(workload)
    loss_fn = vit_torch.make_loss(model, batch)
    return vit_torch.make_step(list(model.parameters()), loss_fn)()


def main(argv: collections.abc.Sequence[str] | None = None) -> None:
    """Does the step and says so at once, before the process is torn down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("m3jax", "torch"))
    parser.add_argument("size", choices=tuple(vit_workload.WORKLOADS))
    parser.add_argument("--scan_unroll", type=int, default=1)
    parser.add_argument("--cache")
    args = parser.parse_args(argv)
    workload = vit_workload.WORKLOADS[args.size]
    if args.side == "m3jax":
        loss = first_step_m3jax(workload, args.scan_unroll, args.cache)
    else:
        loss = first_step_torch(workload)
    print(f"done, loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
