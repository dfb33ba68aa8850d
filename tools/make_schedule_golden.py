#!/usr/bin/env python3
"""Writes tests/golden/schedules.json: factors of the base learning rate, step by step, from the packages themselves.

Each maker below draws a random specification, says it in attune's words, and asks a package for the same schedule at a
few steps: the edges and some between. Base rates are 1, so that a rate is a factor. Beside 200 random rows and more there
are fixed ones for the edges: no warm-up, nothing but warm-up, one step.

Noam has no such package; its rows are the formula of arXiv:1706.03762. Needs torch, transformers, timm, optax, keras,
megatron-core and torch-lr-finder (the last two without their dependencies, with matplotlib and tqdm); a package that
starts its warm-up with 0 has warmup_start = "zero" in the row, one that goes on past the end by its formula
past_end = "reference". float32 nowhere: jax and keras are told to use float64.
"""
import json
import os
import random
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")
import keras  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler as Megatron  # noqa: E402
from timm import scheduler as timm  # noqa: E402
from torch.optim import lr_scheduler as pt  # noqa: E402
from torch_lr_finder import lr_finder  # noqa: E402
from transformers import optimization as hf  # noqa: E402

keras.config.set_floatx("float64")
rng = random.Random(2026)
ZERO = dict(warmup_start="zero")
PERIODIC = dict(past_end="reference")


def pick(low, high):
    return rng.randint(low, high)


def ratio(low=0.0, high=1.0):
    return round(rng.uniform(low, high), 3)


def optimizer(lr=1.0):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=lr, momentum=0.5)


def stepping(make, lr=1.0, key="lr"):
    """By stepping on, for schedulers that have no formula of their own: the rates are exact where they do not recur."""
    def at(steps):
        o = optimizer(lr)
        s, rates = make(o), []
        for _ in range(max(steps) + 1):
            rates.append(o.param_groups[0][key])
            if len(rates) <= max(steps):
                o.step()
                s.step()
        return [rates[t] for t in steps]
    return at


def closed(make):
    """By PyTorch's closed form, which does not gather rounding errors."""
    def at(steps):
        s, rates = make(optimizer()), []
        for t in steps:
            s.last_epoch = t
            rates.append(s._get_closed_form_lr()[0])
        return rates
    return at


def lambdas(make):
    return lambda steps: [make(optimizer()).lr_lambdas[0](t) for t in steps]


def function(f):
    return lambda steps: [float(f(t)) for t in steps]


def by_timm(make):
    return lambda steps: [make(optimizer())._get_lr(t)[0] for t in steps]


def by_megatron(style, v, r, w, total, **more):
    def at(steps):
        class Groups:
            param_groups = [{}]
        rates = []
        for t in steps:
            s = Megatron(Groups(), v, 1.0, r, w, total, style, 0, 0, total, "constant", **more)
            s.step(t)
            rates.append(Groups.param_groups[0]["lr"])
        return rates
    return at


# Each maker: (kind, fields, at(steps) -> factors, length[, more]), more = steps to leave out, or at(steps) of momentum.


def hf_rows():
    T = pick(2, 60)
    W = pick(0, T - 1)
    r, n = ratio(), pick(1, 4)
    wt = dict(warmup=W, total=T) | ZERO
    tau = pick(1, 200)
    yield "constant", dict(warmup=W) | ZERO, lambdas(lambda o: hf.get_constant_schedule_with_warmup(o, W)), T
    yield "linear", wt, lambdas(lambda o: hf.get_linear_schedule_with_warmup(o, W, T)), T
    yield ("cosine", wt | PERIODIC | dict(cycles=n / 2),
           lambdas(lambda o: hf.get_cosine_schedule_with_warmup(o, W, T, n / 2)), T)
    yield ("cosine", wt | PERIODIC | dict(min_ratio=r),
           lambdas(lambda o: hf.get_cosine_with_min_lr_schedule_with_warmup(o, W, T, min_lr_rate=r)), T)
    yield ("cosine_restarts", wt | PERIODIC | dict(cycles=n),
           lambdas(lambda o: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, W, T, n)), T)
    yield ("polynomial", wt | dict(end_ratio=r * 0.9, power=n / 2),
           lambdas(lambda o: hf.get_polynomial_decay_schedule_with_warmup(o, W, T, r * 0.9, n / 2)), T)
    yield ("inverse_sqrt", dict(warmup=W, timescale=tau) | ZERO,
           lambdas(lambda o: hf.get_inverse_sqrt_schedule(o, W, timescale=tau)), T)
    first = dict(warmup_start="value", warmup_from=r / 2) if n > 2 else dict(warmup_start="nonzero")
    yield ("cosine_min_lr_warm", wt | PERIODIC | dict(min_ratio=r) | first,
           lambdas(lambda o: hf.get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
               o, W, T, min_lr_rate=r, warmup_lr_rate=r / 2 if n > 2 else None)), T)
    D, up, down = pick(0, T - W), rng.choice(["linear", "cosine", "1-sqrt"]), rng.choice(["linear", "cosine", "1-sqrt"])
    yield ("wsd", wt | dict(decay=D, min_ratio=r, warmup_shape=up, decay_shape=down),
           lambdas(lambda o: hf.get_wsd_schedule(o, W, D, num_stable_steps=T - W - D, warmup_type=up, decay_type=down,
                                                 min_lr_ratio=r)), T)


def torch_rows():
    T, s = pick(3, 60), pick(1, 12)
    g, r, k = ratio(0.2, 0.99), ratio(0.05, 0.9), pick(1, 3)
    marks = sorted(pick(1, T) for _ in range(pick(1, 4)))
    yield "step", dict(interval=s, gamma=g), closed(lambda o: pt.StepLR(o, s, g)), T
    yield ("multistep", dict(milestones=rng.sample(marks, len(marks)), gamma=g),
           closed(lambda o: pt.MultiStepLR(o, marks, g)), T)
    yield "exponential", dict(gamma=g), closed(lambda o: pt.ExponentialLR(o, g)), T
    yield ("linear_lr", dict(start_ratio=r, end_ratio=g, steps=s), closed(lambda o: pt.LinearLR(o, r, g, s)), s)
    yield "constant_lr", dict(ratio=r, steps=s), closed(lambda o: pt.ConstantLR(o, r, s)), s
    yield "polynomial", dict(total=T, power=k), closed(lambda o: pt.PolynomialLR(o, T, k)), T
    yield ("cosine_annealing", dict(period=T, min_ratio=r) | PERIODIC,
           closed(lambda o: pt.CosineAnnealingLR(o, T, r)), T)
    yield ("sgdr", dict(first_period=s, period_factor=k, min_ratio=r),
           stepping(lambda o: pt.CosineAnnealingWarmRestarts(o, s, k, r)), T)
    shape, three, rise, div = rng.choice(["cosine", "linear"]), pick(0, 1) == 1, ratio(0.05, 0.45), pick(2, 50)
    cycle = dict(max_lr=1.0, total_steps=T, pct_start=rise, anneal_strategy=shape[:3] if shape == "cosine" else shape,
                 div_factor=div, three_phase=three, final_div_factor=100.0)
    if rise * T > 2:
        yield ("onecycle", dict(total=T, rise=rise, div=div, final_div=100, shape=shape, three_phase=three) | PERIODIC,
               stepping(lambda o: pt.OneCycleLR(o, **cycle)), T,
               stepping(lambda o: pt.OneCycleLR(o, **cycle), key="momentum"))
    down, mode = pick(1, 12), rng.choice(["triangular", "triangular2", "exp_range"])
    cyc = dict(base_lr=r, max_lr=1.0, step_size_up=s, step_size_down=down, mode=mode, gamma=g)
    yield ("cyclic", dict(min_ratio=r, up=s, down=down, mode=mode, gamma=g),
           stepping(lambda o: pt.CyclicLR(o, **cyc)), T, stepping(lambda o: pt.CyclicLR(o, **cyc), key="momentum"))
    first = dict(kind="linear_lr", start_ratio=r, steps=s)
    yield ("sequential", dict(milestones=[s], schedules=[first, PERIODIC | dict(kind="cosine_annealing", period=T,
                                                                            min_ratio=r)]),
           stepping(lambda o: pt.SequentialLR(o, [pt.LinearLR(o, r, 1.0, s), pt.CosineAnnealingLR(o, T, r)], [s])), T)
    yield ("sequential", dict(milestones=[s, s + 5], schedules=[dict(kind="constant_lr", ratio=r, steps=s),
                                                               dict(kind="exponential", gamma=g),
                                                               dict(kind="step", interval=2, gamma=g)]),
           stepping(lambda o: pt.SequentialLR(o, [pt.ConstantLR(o, r, s), pt.ExponentialLR(o, g), pt.StepLR(o, 2, g)],
                                              [s, s + 5])), T)
    yield ("chained", dict(schedules=[first, dict(kind="multistep", milestones=marks, gamma=g)]),
           stepping(lambda o: pt.ChainedScheduler([pt.LinearLR(o, r, 1.0, s), pt.MultiStepLR(o, marks, g)])), T)


def optax_rows():
    T = pick(4, 60)
    W, s = pick(1, T - 2), pick(1, 12)
    v, r, g, k = ratio(), ratio(0.01, 0.9), ratio(0.2, 0.99), pick(1, 3)
    warm = dict(warmup=W, warmup_start="value", warmup_from=v)
    yield ("polynomial", dict(warmup=W, warmup_start="value", warmup_from=1, total=T, end_ratio=r, power=k),
           function(optax.polynomial_schedule(1.0, r, k, T - W, W)), T)
    yield "linear_lr", dict(start_ratio=v, end_ratio=r, steps=T), function(optax.linear_schedule(v, r, T)), T
    yield ("warmup_cosine", dict(total=T, min_ratio=r, exponent=k), function(optax.cosine_decay_schedule(1.0, T, r, k)), T)
    stairs = pick(0, 1) == 1
    decay = dict(gamma=g, interval=s, begin=W, staircase=stairs, end_ratio=r)
    yield "exponential", decay, function(optax.exponential_decay(1.0, s, g, W, stairs, r)), T
    marks = sorted(rng.sample(range(1, T), pick(1, 3)))
    scales = [ratio(0.1, 1.5) for _ in marks]
    steps = dict(milestones=marks, scales=scales)
    yield "piecewise_constant", steps, function(optax.piecewise_constant_schedule(1.0, dict(zip(marks, scales)))), T
    shape = rng.choice(["cosine", "linear"])
    yield ("interpolate", steps | dict(shape=shape),
           function(optax.schedules.piecewise_interpolate_schedule(shape, 1.0, dict(zip(marks, scales)))), T)
    rise, div = ratio(0.1, 0.5), float(pick(2, 50))
    one = dict(total=T, rise=rise, div=div, final_div=1000)
    # Three boundaries in a dictionary: where two fall on one step, the library keeps the last one only.
    yield ("onecycle_optax", one | dict(shape="cosine"),
           function(optax.cosine_onecycle_schedule(T, 1.0, rise, div, 1000.0)), T)
    yield ("onecycle_optax", one | dict(shape="linear", back=0.75),
           function(optax.linear_onecycle_schedule(T, 1.0, rise, 0.75, div, 1000.0)), T)
    yield ("warmup_cosine", warm | dict(total=T, min_ratio=r, exponent=k),
           function(optax.warmup_cosine_decay_schedule(v, 1.0, W, T, r, k)), T)
    yield ("warmup_exp", warm | decay | dict(begin=s),
           function(optax.warmup_exponential_decay_schedule(v, 1.0, W, s, g, s, stairs, r)), T)
    waves = [dict(init_value=v, peak_value=1.0, warmup_steps=W, decay_steps=T, end_value=r),
             dict(init_value=r, peak_value=1.0, warmup_steps=s, decay_steps=s + 9, end_value=0.0)]
    yield ("sequential", dict(milestones=[T], total=T + s + 9,
                              schedules=[dict(kind="warmup_cosine", min_ratio=r) | warm,
                                         dict(kind="warmup_cosine", warmup=s, warmup_start="value", warmup_from=r)]),
           function(optax.schedules.sgdr_schedule(waves)), T + s)


def restarts(first, factor, count=40):
    """Where cycles begin. Packages that find the cycle by a logarithm may take the wrong one there."""
    found, at, period = set(), 0, first
    for _ in range(count):
        at, period = at + period, period * factor
        found.add(round(at))
    return found if factor != 1 else set()


def timm_rows():
    T, W, s = pick(4, 40), pick(1, 10), pick(2, 12)
    r, v, g, mul, k = ratio(0, 0.5), ratio(), ratio(0.6, 1), pick(1, 3), rng.choice([0.5, 1.0, 1.5, 2.0])
    warm = dict(warmup=W, warmup_start="value", warmup_from=v)
    own = dict(warmup_t=W, warmup_lr_init=v, warmup_prefix=True)
    cosine = dict(t_initial=s, lr_min=r, cycle_mul=mul, cycle_decay=g, cycle_limit=3, k_decay=k)
    here = dict(first_period=s, period_factor=mul, min_ratio=r, gamma=g, cycles=3, k_decay=k)
    yield ("sgdr", warm | here, by_timm(lambda o: timm.CosineLRScheduler(o, **cosine, **own)), T,
           {t + W for t in restarts(s, mul)})
    first = dict(kind="linear_lr", start_ratio=v, steps=W)
    yield ("sequential", dict(restart=False, milestones=[W], schedules=[first, dict(kind="sgdr") | here]),
           by_timm(lambda o: timm.CosineLRScheduler(o, **cosine, warmup_t=W, warmup_lr_init=v)), T, restarts(s, mul))
    yield ("tanh", warm | dict(total=T + W, min_ratio=r, lower=-6, upper=2),
           by_timm(lambda o: timm.TanhLRScheduler(o, T, -6.0, 2.0, r, **own)), T + W)
    yield ("polynomial", warm | dict(total=T + W, end_ratio=r, power=mul, k_decay=k),
           by_timm(lambda o: timm.PolyLRScheduler(o, T, mul, r, k_decay=k, **own)), T + W)
    yield ("sequential", dict(milestones=[W], schedules=[first, dict(kind="step", interval=s, gamma=g)]),
           by_timm(lambda o: timm.StepLRScheduler(o, s, g, W, v)), T)
    # There a milestone m acts at m - 1.
    marks = sorted(rng.sample(range(2, T), 2))
    yield ("sequential", dict(milestones=[W], schedules=[first, dict(kind="multistep", gamma=g,
                                                                     milestones=[m - 1 for m in marks])]),
           by_timm(lambda o: timm.MultiStepLRScheduler(o, marks, g, W, v)), T)


def keras_rows():
    s = keras.optimizers.schedules
    T, W, n = pick(3, 40), pick(1, 10), pick(1, 12)
    r, v, g, k, stairs = ratio(0.01, 0.9), ratio(), ratio(0.2, 0.99), pick(1, 3), pick(0, 1) == 1
    yield ("exponential", dict(gamma=g, interval=n, staircase=stairs), function(s.ExponentialDecay(1.0, n, g, stairs)), T)
    yield ("inverse_time", dict(rate=g, interval=n, staircase=stairs), function(s.InverseTimeDecay(1.0, n, g, stairs)), T)
    yield ("polynomial", dict(total=T, end_ratio=r, power=k, cycle=stairs),
           function(s.PolynomialDecay(1.0, T, r, float(k), stairs)), T)
    yield ("cosine", dict(warmup=W, warmup_start="value", warmup_from=v, total=T + W, min_ratio=r),
           function(s.CosineDecay(v, T, r, warmup_target=1.0, warmup_steps=W)), T + W)
    mul = rng.choice([1.0, 1.5, 2.0])
    yield ("sgdr", dict(first_period=n, period_factor=mul, min_ratio=r, gamma=g, gamma_of="height"),
           function(s.CosineDecayRestarts(1.0, n, mul, g, r)), T, restarts(n, mul))
    # There a boundary is the last step of its piece.
    marks = sorted(rng.sample(range(1, T), 2))
    values = [1.0, ratio(0.1, 1), ratio(0.1, 1)]
    yield ("piecewise_constant", dict(milestones=[m + 1 for m in marks], scales=[values[1], values[2] / values[1]]),
           function(s.PiecewiseConstantDecay(marks, values)), T)


def megatron_rows():
    T = pick(4, 60)
    W, r, v = pick(0, T - 2), ratio(0, 0.5), ratio(0, 0.5)
    wt = dict(warmup=W, warmup_start="value", warmup_from=v, total=T)
    yield "constant", wt, by_megatron("constant", v, r, W, T), T
    yield "linear", wt | dict(min_ratio=r), by_megatron("linear", v, r, W, T), T
    yield "cosine", wt | dict(min_ratio=r), by_megatron("cosine", v, r, W, T), T
    w = max(1, W)  # there the rate falls to the minimum at the end; here it has one all along
    yield ("inverse_sqrt", wt | dict(warmup=w, min_ratio=r), by_megatron("inverse-square-root", v, r, w, T), T,
           set(range(T + 1, 4 * T)))
    D, own = pick(1, T - W - 1), rng.choice(["linear", "cosine", "exponential", "minus_sqrt"])
    yield ("wsd", wt | dict(min_ratio=r if own != "linear" else 0, decay=D,
                            decay_shape={"minus_sqrt": "1-sqrt"}.get(own, own)),
           by_megatron("WSD", v, r if own != "linear" else 0, W, T, wsd_decay_steps=D, lr_wsd_decay_style=own), T)


def lr_finder_rows():
    n, r = pick(3, 60), 10.0**-pick(2, 8)
    for shape, scheduler in (("exponential", lr_finder.ExponentialLR), ("linear", lr_finder.LinearLR)):
        yield ("lr_range", dict(total=n, start_ratio=r, shape=shape, reach_end=True),
               stepping(lambda o, s=scheduler: s(o, 1.0, n), r), n - 1, set(range(n, 4 * n)))


def edge_rows():
    """No warm-up, nothing but warm-up, one step: by transformers, which guards against each."""
    for W, T in [(4, 20), (0, 20), (20, 20), (0, 1), (1, 1)]:
        wt = dict(warmup=W, total=T) | ZERO
        yield "constant", dict(warmup=W) | ZERO, lambdas(lambda o: hf.get_constant_schedule_with_warmup(o, W)), T
        yield "linear", wt, lambdas(lambda o: hf.get_linear_schedule_with_warmup(o, W, T)), T
        yield "cosine", wt | PERIODIC, lambdas(lambda o: hf.get_cosine_schedule_with_warmup(o, W, T)), T
        yield ("cosine_restarts", wt | PERIODIC | dict(cycles=2),
               lambdas(lambda o: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, W, T, 2)), T)
        yield ("cosine_min_lr_warm", wt | PERIODIC | dict(warmup_start="nonzero", min_ratio=0.1),
               lambdas(lambda o: hf.get_cosine_with_min_lr_schedule_with_warmup_lr_rate(o, W, T, min_lr_rate=0.1)), T)
        yield "inverse_sqrt", dict(warmup=W) | ZERO, lambdas(lambda o: hf.get_inverse_sqrt_schedule(o, W)), T
    for d, W in [(512, 4000), (64, 0)]:
        yield ("noam", dict(model_dim=d, warmup=W),
               function(lambda t: d**-0.5 * min((t + 1)**-0.5, (t + 1) * W**-1.5 if W else 1)), 16000)


def plateau_row():
    """What ReduceLROnPlateau makes of metrics that wander, some of them NaN."""
    mode, cut, patience, cooldown = rng.choice(["min", "max"]), ratio(0.1, 0.9), pick(0, 3), pick(0, 2)
    threshold, kind, least = rng.choice([1e-4, 0.05]), rng.choice(["rel", "abs"]), rng.choice([0.0, 0.05])
    s = pt.ReduceLROnPlateau(o := optimizer(), mode, cut, patience, threshold, kind, cooldown, least)
    metrics, factors = [rng.choice([None] + [round(3 + rng.gauss(0, 0.5), 3)] * 9) for _ in range(40)], []
    for m in metrics:
        s.step(float("nan") if m is None else m)
        factors.append(o.param_groups[0]["lr"])
    return {"mode": mode, "cut": cut, "patience": patience, "cooldown": cooldown, "threshold": threshold,
            "threshold_mode": {"rel": "relative", "abs": "absolute"}[kind], "min_ratio": least, "metrics": metrics,
            "factors": factors}


def row(source, kind, fields, at, length, more=()):
    W = fields.get("warmup", 0)
    steps = {0, 1, 2, W - 1, W, W + 1, length // 2, length - 1, length, length + 1, 2 * length, 3 * length}
    steps |= {pick(0, length + 4) for _ in range(6)}
    one_cycle = kind == "onecycle"  # the library refuses steps past the total
    skipped = more if isinstance(more, (set, tuple)) else ()
    steps = sorted(t for t in steps if t >= 0 and t not in skipped and not (one_cycle and t > length))
    made = {"source": source, "spec": {"kind": kind} | fields, "factors": [list(p) for p in zip(steps, at(steps))]}
    if callable(more):
        made["momenta"] = [list(p) for p in zip(steps, more(steps))]
    return made


def main():
    makers = {"transformers": hf_rows, "torch": torch_rows, "optax": optax_rows, "timm": timm_rows, "keras": keras_rows,
              "megatron-core": megatron_rows, "torch-lr-finder": lr_finder_rows}
    rows = [row("transformers" if m[0] != "noam" else "formula", *m) for m in edge_rows()]
    edges = len(rows)
    while len(rows) - edges < 200:
        for source, maker in makers.items():
            rows += [row(source, *m) for m in maker()]
    plateaus = [json.dumps(plateau_row(), separators=(",", ":")) for _ in range(20)]
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/golden/schedules.json")
    packages = ", ".join(f"{name} {version(name)}" for name in makers)
    body = ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows)
    also = ",\n".join(plateaus)
    target.write_text(f'{{"source": "{packages}", "rows": [\n{body}\n], "plateaus": [\n{also}\n]}}\n',
                      encoding="utf-8")
    print(f"{len(rows)} rows, {sum(len(r['factors']) for r in rows)} factors")


if __name__ == "__main__":
    main()
