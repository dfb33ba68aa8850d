#!/usr/bin/env python3
"""Writes tests/golden/optimizers.json: weights after 1, 10 and 100 steps of PyTorch's optimizers, in float64.

The problem is small and made of numbers that are exact in binary, so that the test computes the same gradients:
weights w_i start at ((29 i) mod 23 - 11) / 8; the gradient at step t is a_i w_i + c_i(t) with a_i = (1 + i mod 5) / 8
and c_i(t) = ((37 i + 101 t) mod 17 - 8) / 16; i counts through all parameters in order. Needs torch.
"""
import json
from pathlib import Path

import torch

SHAPES = [[3, 4], [5], [2, 3]]
RECORDED = [1, 10, 100]

CASES = [
    dict(name="sgd", kind="sgd", learning_rate=0.05),
    dict(name="sgd_momentum", kind="sgd", learning_rate=0.05, momentum=0.9),
    dict(name="sgd_dampening_decay", kind="sgd", learning_rate=0.05, momentum=0.8, dampening=0.3, weight_decay=0.1),
    dict(name="sgd_nesterov_decay", kind="sgd", learning_rate=0.02, momentum=0.9, nesterov=True, weight_decay=0.05),
    dict(name="sgd_clip_value", kind="sgd", learning_rate=0.05, momentum=0.5, clip_value=0.25),
    dict(name="adam", kind="adam", learning_rate=0.02),
    dict(name="adam_decay", kind="adam", learning_rate=0.02, weight_decay=0.1, epsilon=1e-6),
    dict(name="adamw", kind="adamw", learning_rate=0.02, weight_decay=0.1),
    dict(name="adamw_no_decay", kind="adamw", learning_rate=0.01, weight_decay=0.0, betas=[0.9, 0.98]),
    dict(name="adamw_clip_norm", kind="adamw", learning_rate=0.02, betas=[0.9, 0.98], weight_decay=0.01, clip_norm=0.5),
    dict(name="adamw_groups", kind="adamw", learning_rate=0.02, weight_decay=0.1, groups=[
        dict(parameters=[0, 2], learning_rate_factor=1.0, weight_decay=True),
        dict(parameters=[1], learning_rate_factor=0.5, weight_decay=False)]),
    dict(name="adamw_schedule", kind="adamw", learning_rate=0.02, weight_decay=0.1, warmup=10, total=100),
]


def run(case):
    weights, index = [], 0
    for shape in SHAPES:
        n = torch.Size(shape).numel()
        values = [((29 * i) % 23 - 11) / 8 for i in range(index, index + n)]
        weights.append(torch.nn.Parameter(torch.tensor(values, dtype=torch.float64).reshape(shape)))
        index += n
    options = {"lr": case["learning_rate"], "weight_decay": case.get("weight_decay", 0.0)}
    if case["kind"] == "sgd":
        make = torch.optim.SGD
        options |= {k: case[k] for k in ("momentum", "dampening", "nesterov") if k in case}
    else:
        make = torch.optim.Adam if case["kind"] == "adam" else torch.optim.AdamW
        options |= {"betas": tuple(case.get("betas", [0.9, 0.999])), "eps": case.get("epsilon", 1e-8)}
    groups = weights
    if "groups" in case:
        groups = [dict(params=[weights[i] for i in g["parameters"]],
                       lr=case["learning_rate"] * g["learning_rate_factor"],
                       weight_decay=case["weight_decay"] if g["weight_decay"] else 0.0) for g in case["groups"]]
    optimizer = make(groups, **options)
    # The first update learns: warm-up from (t + 1) / W, then straight to 0 at `total`.
    scheduler = None
    if "total" in case:
        warmup, total = case["warmup"], case["total"]
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda t: (t + 1) / warmup if t < warmup else (total - t) / (total - warmup))
    recorded = {}
    for t in range(RECORDED[-1]):
        index = 0
        for w in weights:
            n = w.numel()
            a = torch.tensor([(1 + i % 5) / 8 for i in range(index, index + n)], dtype=torch.float64)
            c = torch.tensor([((37 * i + 101 * t) % 17 - 8) / 16 for i in range(index, index + n)], dtype=torch.float64)
            w.grad = (a * w.detach().flatten() + c).reshape(w.shape)
            index += n
        if "clip_value" in case:
            torch.nn.utils.clip_grad_value_(weights, case["clip_value"])
        if "clip_norm" in case:
            torch.nn.utils.clip_grad_norm_(weights, case["clip_norm"])
        optimizer.step()
        if scheduler:
            scheduler.step()
        if t + 1 in RECORDED:
            recorded[str(t + 1)] = [x for w in weights for x in w.detach().flatten().tolist()]
    return recorded


def main():
    target = Path(__file__).resolve().parent.parent / "tests/golden/optimizers.json"
    cases = [case | {"weights": run(case)} for case in CASES]
    head = json.dumps({"source": f"PyTorch {torch.__version__.split('+')[0]}", "shapes": SHAPES})[:-1]
    body = ",\n".join(json.dumps(case) for case in cases)
    target.write_text(f'{head}, "cases": [\n{body}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
