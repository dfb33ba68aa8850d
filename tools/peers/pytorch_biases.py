"""Biases and relative scores in PyTorch: each changes the logits of the plain form."""
import math

import torch

from pytorch_form import learned, random_numbers, scaled
from pytorch_masks import distances


def kerple(q, k, grad):
    rate, power = learned(grad, q.shape[1], 1, 1), learned(grad, q.shape[1], 1, 1)
    distance = distances(q.shape[2], k.shape[2]).abs()
    return lambda: scaled(q, k) - rate * torch.log1p(power * distance), [rate, power]


def fire(q, k, grad):
    """A ReLU network of width 32 on one number a pair; threshold 512 tokens, learned with the rate."""
    heads, tokens, width = q.shape[1], q.shape[2], 32
    distance, query = distances(tokens, k.shape[2]).abs().float(), torch.arange(tokens).float()[:, None]
    rate, threshold = learned(grad), learned(grad)
    hidden, bias, last = random_numbers(grad, width), random_numbers(grad, width), random_numbers(grad, width, heads)
    log_of = lambda x: torch.log1p(rate.abs() * x)

    def logits():
        share = log_of(distance) / log_of(torch.maximum(query, threshold.abs() * 512))
        return scaled(q, k) + (torch.relu(share[..., None] * hidden + bias) @ last).permute(2, 0, 1)

    return logits, [rate, threshold, hidden, bias, last]


def relative_buckets(q, k, grad):
    """T5's 32 buckets, both directions, up to 128 tokens."""
    table = random_numbers(grad, 32, q.shape[1])
    offset = -distances(q.shape[2], k.shape[2])
    distance = offset.abs()
    far = 8 + (torch.log(distance.clamp(min=1) / 8) / math.log(128 / 8) * 8).long()
    bucket = 16 * (offset > 0) + torch.where(distance < 8, distance, far.clamp(max=15))
    return lambda: scaled(q, k) + table[bucket].permute(2, 0, 1), [table]


def temperature(q, k, grad):
    degree = learned(grad, q.shape[1], 1, 1)
    return lambda: scaled(q, k) / degree, [degree]


def log_n(q, k, grad):
    scale = learned(grad, q.shape[1], 1, 1)
    length = torch.log(torch.arange(q.shape[2])[:, None] + 1.0)
    return lambda: scaled(q, k) * (scale * length), [scale]


def gumbel(q, k, grad):
    def logits():
        s = scaled(q, k)
        return s - torch.log(torch.empty_like(s).exponential_())
    return logits, []


def affine(q, k, grad):
    distance = distances(q.shape[2], k.shape[2])
    return lambda: scaled(q, k) * 1.5 - 0.01 * distance, []


def at_distance(products, distance):
    """products [B, H, T, rows] at the row of each pair's distance."""
    return products.gather(-1, distance.expand(*products.shape[:-1], distance.shape[-1]))


def shaw(q, k, grad):
    """One row for each distance up to 16, both directions, for all heads."""
    table = random_numbers(grad, 33, q.shape[-1])
    row = (-distances(q.shape[2], k.shape[2])).clamp(-16, 16) + 16
    return lambda: (q @ k.transpose(-1, -2) + at_distance(q @ table.T, row)) / math.sqrt(q.shape[-1]), [table]


def transformer_xl(q, k, grad):
    heads, tokens, width = q.shape[1], q.shape[2], q.shape[-1]
    u, v, weight = (random_numbers(grad, *s) for s in ((heads, 1, width), (heads, 1, width), (heads, width, width)))
    places = torch.arange(tokens - 1, -tokens, -1)[:, None] * 10000.0 ** (-torch.arange(width // 2) / (width // 2))
    sinusoids = torch.cat([places.sin(), places.cos()], -1)
    row = tokens - 1 - distances(tokens, tokens)

    def logits():
        far = (q + v) @ (sinusoids @ weight).transpose(-1, -2)
        return ((q + u) @ k.transpose(-1, -2) + at_distance(far, row)) / math.sqrt(width)

    return logits, [u, v, weight]


def deberta(q, k, grad):
    """256 rows of relative keys and queries a head."""
    heads, width, reach = q.shape[1], q.shape[-1], 128
    keys, queries = random_numbers(grad, heads, 2 * reach, width), random_numbers(grad, heads, 2 * reach, width)
    row = (distances(q.shape[2], k.shape[2]) + reach).clamp(0, 2 * reach - 1)

    def logits():
        content = q @ k.transpose(-1, -2) + at_distance(q @ keys.transpose(-1, -2), row)
        back = at_distance(k @ queries.transpose(-1, -2), (2 * reach - row).clamp(max=2 * reach - 1).T)
        return (content + back.transpose(-1, -2)) / math.sqrt(3 * width)

    return logits, [keys, queries]


def local_p(q, k, grad):
    """A predicted centre and a Gaussian of standard deviation 5 around it."""
    tokens, width = k.shape[2], q.shape[-1]
    weight, last = random_numbers(grad, width, width), random_numbers(grad, width, 1)
    places = torch.arange(tokens)

    def logits():
        centre = tokens * torch.sigmoid(torch.tanh(q @ weight) @ last)
        return scaled(q, k) - (places - centre).square() / 50

    return logits, [weight, last]


BIASES = {
    "kerple": kerple, "fire": fire, "relative_buckets": relative_buckets, "temperature": temperature, "log_n": log_n,
    "gumbel": gumbel, "affine": affine, "shaw": shaw, "transformer_xl": transformer_xl, "deberta": deberta,
    "local_p": local_p,
}
