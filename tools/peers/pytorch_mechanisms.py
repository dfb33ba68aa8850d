"""Mechanisms that PyTorch has no fused call for, as its user would write them: the plain form, which holds all logits.

Each takes query, key, value [B, H, T, D] and gives the call and the tensors that learn besides.
"""
import math

import torch
import torch.nn.functional as F


def learned(grad: bool, *shape: int) -> torch.Tensor:
    return torch.full(shape, 0.6).requires_grad_(grad)


def scaled(q, k):
    return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])


def with_logits(change):
    """softmax of changed logits; change(q, k, grad) -> (function of nothing that gives logits, what learns)."""
    def make(q, k, v, grad):
        logits, learns = change(q, k, grad)
        return lambda: torch.softmax(logits(), -1) @ v, learns
    return make


def with_weights(weigh):
    """weigh(logits) instead of softmax."""
    return lambda q, k, v, grad: (lambda: weigh(scaled(q, k)) @ v, [])


def turned(x, cos, sin):
    half = x.shape[-1] // 2
    return torch.cat([x[..., :half] * cos - x[..., half:] * sin, x[..., half:] * cos + x[..., :half] * sin], -1)


def rotary(q, k, v, grad):
    half = q.shape[-1] // 2
    angles = torch.arange(q.shape[2])[:, None] * 10000.0 ** (-torch.arange(half) / half)
    cos, sin = angles.cos(), angles.sin()
    return lambda: F.scaled_dot_product_attention(turned(q, cos, sin), turned(k, cos, sin), v), []


def bilinear(q, k, grad):
    weight = (torch.randn(q.shape[1], q.shape[-1], k.shape[-1]) / 8).requires_grad_(grad)
    return lambda: (q @ weight) @ k.transpose(-1, -2), [weight]


def cosine(q, k, grad):
    temperature = learned(grad, q.shape[1], 1, 1)
    return lambda: F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2) / temperature, [temperature]


def gaussian(q, k, grad):
    bandwidth = learned(grad, q.shape[1], 1, 1)
    return lambda: -torch.cdist(q, k).square() / (2 * bandwidth.square()), [bandwidth]


def kerple(q, k, grad):
    rate, power = learned(grad, q.shape[1], 1, 1), learned(grad, q.shape[1], 1, 1)
    distance = (torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])[None]).abs()
    return lambda: scaled(q, k) - rate * torch.log1p(power * distance), [rate, power]


def relative_buckets(q, k, grad):
    """T5's 32 buckets, both directions, up to 128 tokens."""
    table = torch.randn(32, q.shape[1]).requires_grad_(grad)
    offset = torch.arange(k.shape[2])[None] - torch.arange(q.shape[2])[:, None]
    distance = offset.abs()
    far = 8 + (torch.log(distance.clamp(min=1) / 8) / math.log(128 / 8) * 8).long()
    bucket = 16 * (offset > 0) + torch.where(distance < 8, distance, far.clamp(max=15))
    return lambda: scaled(q, k) + table[bucket].permute(2, 0, 1), [table]


def temperature(q, k, grad):
    degree = learned(grad, q.shape[1], 1, 1)
    return lambda: scaled(q, k) / degree, [degree]


def off_by_one(logits):
    top = logits.amax(-1, keepdim=True).clamp(min=0)
    weights = torch.exp(logits - top)
    return weights / (weights.sum(-1, keepdim=True) + torch.exp(-top))


def sparsemax(logits):
    ordered = logits.sort(-1, descending=True).values
    sums = ordered.cumsum(-1) - 1
    size = (ordered * torch.arange(1, logits.shape[-1] + 1) > sums).sum(-1, keepdim=True)
    return (logits - sums.gather(-1, size - 1) / size).clamp(min=0)


MECHANISMS = {
    "rotary": rotary,
    "causal": lambda q, k, v, grad: (lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), []),
    "bilinear": with_logits(bilinear), "cosine": with_logits(cosine), "gaussian": with_logits(gaussian),
    "kerple": with_logits(kerple), "relative_buckets": with_logits(relative_buckets),
    "temperature": with_logits(temperature),
    "sigmoid": with_weights(torch.sigmoid), "softmax_off_by_one": with_weights(off_by_one),
    "sparsemax": with_weights(sparsemax),
}
