#!/usr/bin/env python3
"""Writes tests/golden/schedules.json: factors of the base learning rate, step by step, from Hugging Face transformers.

Noam has no such reference; its rows are the formula of arXiv:1706.03762, evaluated here. `spec` is the schedule in
attune's words. The references start a warm-up with 0, so every spec says warmup_start = "zero"; a reference that goes
on past the end by its formula says past_end = "reference". Needs torch and transformers.
"""
import json
from pathlib import Path

import torch
import transformers
from transformers import optimization as hf


def factors(make, steps):
    """The factors of `make(optimizer)` at the given steps, by its own function of the step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=1.0)
    f = make(optimizer).lr_lambdas[0]
    return [[t, f(t)] for t in steps]


def row(name, spec, make, steps):
    return {"name": name, "spec": {"warmup_start": "zero"} | spec, "factors": factors(make, steps)}


def main():
    s20, long = range(0, 31), [0, 1, 2, 3, 4, 5, 8, 16, 100, 1000, 100000]
    rows = [row("constant W4", dict(kind="constant", warmup=4),
                lambda o: hf.get_constant_schedule_with_warmup(o, 4), long),
            row("constant W0", dict(kind="constant"), lambda o: hf.get_constant_schedule_with_warmup(o, 0), long)]
    for w, total in [(4, 20), (0, 20), (20, 20), (0, 1), (1, 1)]:
        rows.append(row(f"linear W{w} T{total}", dict(kind="linear", warmup=w, total=total),
                        lambda o: hf.get_linear_schedule_with_warmup(o, w, total), s20))
    for w, total, n in [(4, 20, 0.5), (0, 20, 0.5), (20, 20, 0.5), (0, 1, 0.5), (4, 20, 1.5)]:
        rows.append(row(f"cosine W{w} T{total} n{n}",
                        dict(kind="cosine", warmup=w, total=total, cycles=n, past_end="reference"),
                        lambda o: hf.get_cosine_schedule_with_warmup(o, w, total, n), range(0, 41)))
    # The reference's minimum applies to the warm-up as well; here the warm-up has none, so there is none to compare.
    rows.append(row("cosine W0 T20 r0.1", dict(kind="cosine", warmup=0, total=20, min_ratio=0.1, past_end="reference"),
                    lambda o: hf.get_cosine_with_min_lr_schedule_with_warmup(o, 0, 20, min_lr_rate=0.1), range(0, 41)))
    for w, tau in [(4, None), (4, 100), (0, None)]:
        spec = dict(kind="inverse_sqrt", warmup=w) | ({"timescale": tau} if tau else {})
        rows.append(row(f"inverse_sqrt W{w} tau{tau}", spec,
                        lambda o: hf.get_inverse_sqrt_schedule(o, w, timescale=tau), long))
    for up, down, r in [("linear", "1-sqrt", 0.1), ("linear", "cosine", 0.0), ("cosine", "linear", 0.2),
                        ("1-sqrt", "1-sqrt", 0.0)]:
        rows.append(row(f"wsd {up} {down} r{r}",
                        dict(kind="wsd", warmup=4, decay=8, total=20, min_ratio=r, warmup_shape=up, decay_shape=down),
                        lambda o: hf.get_wsd_schedule(o, 4, 8, num_stable_steps=8, warmup_type=up, decay_type=down,
                                                      min_lr_ratio=r), s20))
    for d, w in [(512, 4000), (64, 0)]:
        steps = [0, 1, 1999, 3999, 4000, 15999]
        noam = [[t, d**-0.5 * min((t + 1)**-0.5, (t + 1) * w**-1.5 if w else 1)] for t in steps]
        rows.append({"name": f"noam d{d} W{w}", "spec": dict(kind="noam", model_dim=d, warmup=w), "factors": noam})
    target = Path(__file__).resolve().parent.parent / "tests/golden/schedules.json"
    body = ",\n".join(json.dumps(r) for r in rows)
    target.write_text(f'{{"source": "transformers {transformers.__version__}", "rows": [\n{body}\n]}}\n',
                      encoding="utf-8")


if __name__ == "__main__":
    main()
