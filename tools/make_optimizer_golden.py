#!/usr/bin/env python3
"""Writes tests/golden/optimizers.json: weights after 1, 10 and 100 steps of other libraries' optimizers, in float64.

The problem is small and made of numbers that are exact in binary, so that the test computes the same gradients:
weights w_i start at ((29 i) mod 23 - 11) / 8; the gradient at step t is a_i w_i + c_i(t) with a_i = (1 + i mod 5) / 8
and c_i(t) = ((37 i + 101 t) mod 17 - 8) / 16; i counts through all parameters in order. With `spikes` it is 30 times
that at every 13th step from the 30th on.

Needs torch, timm, schedulefree, prodigyopt, pytorch_optimizer and adam-atan2-pytorch. PyTorch's Muon computes its
iteration in bfloat16: here it is told that this is float64, so that its code, not its rounding, is what is compared.
ZClip has no package: its formula (arXiv:2504.02507) stands below.
"""
import contextlib
import io
import json
from importlib.metadata import version
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
    dict(name="adamw_atan2", kind="adamw", learning_rate=0.02, weight_decay=0.1, atan2_scale=1.27),
    dict(name="adamw_average", kind="adamw", learning_rate=0.02, weight_decay=0.1, average=0.95),
    dict(name="adamw_average_warmup", kind="adamw", learning_rate=0.02, average=0.95, average_warmup=0.75),
    dict(name="adamw_clip_adaptive", kind="adamw", learning_rate=0.02, weight_decay=0.1, clip_adaptive=0.2),
    dict(name="adamw_clip_zscore", kind="adamw", learning_rate=0.02, clip_zscore=2.5, spikes=True),
    dict(name="adamw_clip_both", kind="adamw", learning_rate=0.02, clip_zscore=1.5, clip_norm=1.2, spikes=True),
    dict(name="nadam", kind="nadam", learning_rate=0.02),
    dict(name="nadam_decay", kind="nadam", learning_rate=0.02, weight_decay=0.1, momentum_decay=0.01),
    dict(name="nadam_decoupled", kind="nadam", learning_rate=0.02, weight_decay=0.1, decoupled_decay=True),
    dict(name="radam", kind="radam", learning_rate=0.02),
    dict(name="radam_decay", kind="radam", learning_rate=0.02, weight_decay=0.1, betas=[0.9, 0.95]),
    dict(name="radam_decoupled", kind="radam", learning_rate=0.02, weight_decay=0.1, decoupled_decay=True),
    dict(name="adafactor", kind="adafactor", learning_rate=0.05),
    dict(name="adafactor_decay", kind="adafactor", learning_rate=0.2, weight_decay=0.1, threshold=1.1,
         beta2_decay=-0.6, epsilon=0.01, least_square=1e-4),
    dict(name="lamb", kind="lamb", learning_rate=0.02, weight_decay=0.1, epsilon=1e-6),
    dict(name="lamb_always", kind="lamb", learning_rate=0.02, weight_decay=0.0, epsilon=1e-6, always_adapt=True),
    dict(name="lamb_groups", kind="lamb", learning_rate=0.02, weight_decay=0.1, epsilon=1e-6, clip_ratio=True, groups=[
        dict(parameters=[0, 2], learning_rate_factor=1.0, weight_decay=True),
        dict(parameters=[1], learning_rate_factor=0.5, weight_decay=False)]),
    dict(name="lion", kind="lion", learning_rate=0.005, betas=[0.9, 0.99], weight_decay=0.0),
    dict(name="lion_decay", kind="lion", learning_rate=0.005, betas=[0.95, 0.98], weight_decay=0.3),
    dict(name="muon", kind="muon", learning_rate=0.02, weight_decay=0.1),
    dict(name="muon_plain", kind="muon", learning_rate=0.02, weight_decay=0.0, nesterov=False, momentum=0.9,
         scale="adamw"),
    dict(name="muon_spectral", kind="muon", learning_rate=0.02, weight_decay=0.1, scale="spectral"),
    dict(name="ademamix", kind="ademamix", learning_rate=0.005, weight_decay=0.1),
    dict(name="ademamix_warmup", kind="ademamix", learning_rate=0.005, weight_decay=0.0, alpha=3.0, mix_warmup=60,
         betas=[0.9, 0.99, 0.999]),
    dict(name="schedule_free", kind="schedule_free", learning_rate=0.05),
    dict(name="schedule_free_warmup", kind="schedule_free", learning_rate=0.05, weight_decay=0.1, warmup=20, constant=True,
         average_power=1.0, betas=[0.95, 0.99]),
    dict(name="prodigy", kind="prodigy", learning_rate=1.0, first_distance=1e-3),
    dict(name="prodigy_options", kind="prodigy", learning_rate=0.7, first_distance=1e-2, weight_decay=0.1,
         bias_correction=True, safeguard_warmup=True, growth=1.1, coefficient=2.0),
    dict(name="sgd_onecycle", kind="sgd", learning_rate=0.3, momentum=0.9, onecycle=True),
    dict(name="adamw_onecycle", kind="adamw", learning_rate=0.1, weight_decay=0.1, onecycle=True),
    dict(name="prodigy_coupled", kind="prodigy", learning_rate=1.0, first_distance=1e-3, weight_decay=0.1,
         decoupled_decay=False),
]


class ZClip:
    """Mean and variance of the norms that were let through; outliers are pulled towards the mean."""

    def __init__(self, threshold, limit):
        self.threshold, self.limit, self.seen = threshold, limit, []
        self.mean = self.variance = None

    def clip(self, weights):
        norm = torch.cat([w.grad.flatten() for w in weights]).norm().item()
        if self.mean is None:
            self.seen.append(norm)
            if len(self.seen) == 25:
                self.mean = sum(self.seen) / 25
                self.variance = sum((x - self.mean) ** 2 for x in self.seen) / 25
            if self.limit:
                torch.nn.utils.clip_grad_norm_(weights, self.limit)
            return
        deviation = self.variance ** 0.5
        z = (norm - self.mean) / (deviation + 1e-6)
        allowed = norm
        if z > self.threshold:
            allowed = self.mean + self.threshold * deviation / (z / self.threshold)
        self.mean = 0.97 * self.mean + 0.03 * allowed
        self.variance = 0.97 * self.variance + 0.03 * (allowed - self.mean) ** 2
        most = min(allowed, self.limit) if self.limit else allowed
        if norm > most:
            for w in weights:
                w.grad.mul_(most / (norm + 1e-6))


class Together:
    """Several optimizers as one."""

    def __init__(self, parts):
        self.parts = parts

    def step(self):
        for part in self.parts:
            part.step()


class InFloat64:
    """PyTorch's Muon with float64 where it says bfloat16."""

    def __init__(self, muon):
        self.muon = muon

    def step(self):
        narrow, torch.bfloat16 = torch.bfloat16, torch.float64
        try:
            self.muon.step()
        finally:
            torch.bfloat16 = narrow


def make(case, weights, groups, options):
    kind = case["kind"]
    betas = {"betas": tuple(case.get("betas", [0.9, 0.999]))}
    adam = betas | {"eps": case.get("epsilon", 1e-8)}
    if kind == "sgd":
        return torch.optim.SGD(
            groups, **options, **{k: case[k] for k in ("momentum", "dampening", "nesterov") if k in case})
    if kind == "adam":
        return torch.optim.Adam(groups, **options, **adam)
    if kind == "adamw" and "atan2_scale" in case:
        from adam_atan2_pytorch import AdamAtan2
        return AdamAtan2(groups, **options, **betas, a=case["atan2_scale"])
    if kind == "adamw":
        return torch.optim.AdamW(groups, **options, **adam)
    if kind == "nadam":
        return torch.optim.NAdam(groups, **options, **adam, momentum_decay=case.get("momentum_decay", 4e-3),
                                 decoupled_weight_decay=case.get("decoupled_decay", False))
    if kind == "radam":
        return torch.optim.RAdam(groups, **options, **adam,
                                 decoupled_weight_decay=case.get("decoupled_decay", False))
    if kind == "adafactor":
        return torch.optim.Adafactor(groups, **options, beta2_decay=case.get("beta2_decay", -0.8),
                                     eps=(case.get("least_square"), case.get("epsilon", 1e-3)),
                                     d=case.get("threshold", 1.0))
    if kind == "lamb":
        from timm.optim import Lamb
        return Lamb(groups, **options, **adam, max_grad_norm=None, always_adapt=case.get("always_adapt", False),
                    trust_clip=case.get("clip_ratio", False))
    if kind == "lion":
        from timm.optim import Lion
        return Lion(groups, **options, **betas)
    if kind == "muon":
        scale = {"original": "original", "adamw": "match_rms_adamw", "spectral": "spectral_unclamped"}
        matrices = [w for w in weights if w.ndim == 2]
        rest = [w for w in weights if w.ndim != 2]
        muon = torch.optim.Muon(matrices, **options, momentum=case.get("momentum", 0.95),
                                nesterov=case.get("nesterov", True), adjust_lr_fn=scale[case.get("scale", "original")])
        return Together([InFloat64(muon), torch.optim.AdamW(rest, **options, **adam)])
    if kind == "ademamix":
        from pytorch_optimizer import AdEMAMix
        return AdEMAMix(groups, **options, betas=tuple(case.get("betas", [0.9, 0.999, 0.9999])),
                        alpha=case.get("alpha", 5.0), t_alpha_beta3=case.get("mix_warmup"), weight_decouple=True)
    if kind == "schedule_free":
        from schedulefree import AdamWScheduleFree
        free = AdamWScheduleFree(groups, **options, **adam, warmup_steps=case.get("warmup", 0),
                                 r=case.get("average_power", 0.0))
        free.train()
        return free
    assert kind == "prodigy", kind
    from prodigyopt import Prodigy
    with contextlib.redirect_stdout(io.StringIO()):
        return Prodigy(groups, **options, **adam, d0=case["first_distance"], d_coef=case.get("coefficient", 1.0),
                       growth_rate=case.get("growth", float("inf")), decouple=case.get("decoupled_decay", True),
                       use_bias_correction=case.get("bias_correction", False),
                       safeguard_warmup=case.get("safeguard_warmup", False))


def run(case):
    weights, index = [], 0
    for shape in SHAPES:
        n = torch.Size(shape).numel()
        values = [((29 * i) % 23 - 11) / 8 for i in range(index, index + n)]
        weights.append(torch.nn.Parameter(torch.tensor(values, dtype=torch.float64).reshape(shape)))
        index += n
    options = {"lr": case["learning_rate"], "weight_decay": case.get("weight_decay", 0.0)}
    groups = weights
    if "groups" in case:
        groups = [dict(params=[weights[i] for i in g["parameters"]],
                       lr=case["learning_rate"] * g["learning_rate_factor"],
                       weight_decay=case["weight_decay"] if g["weight_decay"] else 0.0) for g in case["groups"]]
    optimizer = make(case, weights, groups, options)
    # The first update learns: warm-up from (t + 1) / W, then straight to 0 at `total`.
    scheduler = None
    if "total" in case:
        warmup, total = case["warmup"], case["total"]
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda t: (t + 1) / warmup if t < warmup else (total - t) / (total - warmup))
    if "onecycle" in case:  # cycles the momentum too
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, case["learning_rate"], total_steps=100)
    zclip = ZClip(case["clip_zscore"], case.get("clip_norm")) if "clip_zscore" in case else None
    model = average = None
    if "average" in case:
        from timm.utils import ModelEmaV3
        model = torch.nn.Module()
        model.w = torch.nn.ParameterList(weights)
        average = ModelEmaV3(model, decay=case["average"], use_warmup="average_warmup" in case,
                             warmup_power=case.get("average_warmup", 2 / 3))
    recorded, evaluated = {}, {}
    for t in range(RECORDED[-1]):
        index = 0
        for w in weights:
            n = w.numel()
            a = torch.tensor([(1 + i % 5) / 8 for i in range(index, index + n)], dtype=torch.float64)
            c = torch.tensor([((37 * i + 101 * t) % 17 - 8) / 16 for i in range(index, index + n)], dtype=torch.float64)
            w.grad = (a * w.detach().flatten() + c).reshape(w.shape)
            if "spikes" in case and t >= 30 and t % 13 == 0:
                w.grad *= 30
            index += n
        if "clip_value" in case:
            torch.nn.utils.clip_grad_value_(weights, case["clip_value"])
        if "clip_adaptive" in case:
            from timm.utils.agc import adaptive_clip_grad
            adaptive_clip_grad(weights, case["clip_adaptive"])
        if zclip:
            zclip.clip(weights)
        elif "clip_norm" in case:
            torch.nn.utils.clip_grad_norm_(weights, case["clip_norm"])
        optimizer.step()
        if scheduler and t + 1 < RECORDED[-1]:
            scheduler.step()
        if average:
            average.update(model, step=t + 1)
        if t + 1 in RECORDED:
            flat = lambda tensors: [x for w in tensors for x in w.detach().flatten().tolist()]
            recorded[str(t + 1)] = flat(weights)
            if average:
                evaluated[str(t + 1)] = flat(average.module.w)
            if case["kind"] == "schedule_free":
                trained = [w.detach().clone() for w in weights]
                optimizer.eval()
                evaluated[str(t + 1)] = flat(weights)
                optimizer.train()
                for w, y in zip(weights, trained):
                    w.data.copy_(y)
    return {"weights": recorded} | ({"evaluated": evaluated} if evaluated else {})


def main():
    torch.set_default_dtype(torch.float64)  # NAdam keeps a product in this type
    target = Path(__file__).resolve().parent.parent / "tests/golden/optimizers.json"
    cases = [case | run(case) for case in CASES]
    packages = ["torch", "timm", "schedulefree", "prodigyopt", "pytorch_optimizer", "adam-atan2-pytorch"]
    source = ", ".join(f"{p} {version(p).split('+')[0]}" for p in packages)
    head = json.dumps({"source": source, "shapes": SHAPES})[:-1]
    body = ",\n".join(json.dumps(case) for case in cases)
    target.write_text(f'{head}, "cases": [\n{body}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
