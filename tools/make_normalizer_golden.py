#!/usr/bin/env python3
"""Writes tests/golden/normalizers.json: attention with other normalizers, forward and all gradients, float64.

Sparsemax, 1.5-entmax and alpha-entmax (with alpha's gradient) are the package `entmax` of their papers' authors; the
straight-through choice is the last lines of torch.nn.functional.gumbel_softmax; stick-breaking is the sum of
log-sigmoids of its paper (arXiv:2410.17980); the others are expressions of PyTorch. Needs torch and entmax.
"""
import json
import math
from pathlib import Path

import entmax
import torch
from torch.nn.functional import logsigmoid

BATCH, HEADS, QUERIES, KEYS, DIM, VALUE_DIM = 2, 2, 4, 7, 3, 2
torch.set_default_dtype(torch.float64)
torch.manual_seed(20250102)


def numbers(*shape, low=-2.0, high=2.0):
    """Uniform numbers of three decimals."""
    return torch.round(low + (high - low) * torch.rand(shape), decimals=3).requires_grad_()


def off_by_one(x):
    return torch.softmax(torch.cat([x, torch.zeros_like(x[..., :1])], -1), -1)[..., :-1]


def adaptive(x, alpha_logit):
    """alpha = 1 + sigmoid(alpha_logit), one a head."""
    alpha = 1 + torch.sigmoid(alpha_logit)
    return entmax.entmax_bisect(x, alpha[None, :, None, None].expand(x.shape[0], -1, x.shape[2], 1), n_iter=200)


def straight_through(x):
    soft = x.softmax(-1)
    hard = torch.zeros_like(x).scatter_(-1, soft.max(-1, keepdim=True)[1], 1.0)
    return hard - soft.detach() + soft


def stick_breaking(x):
    left = logsigmoid(-x)
    after = left.flip(-1).cumsum(-1).flip(-1) - left  # sum over the keys after this one
    return (logsigmoid(x) + after).exp()


def case(name, weights, parameters=()):
    arrays = [numbers(BATCH, HEADS, QUERIES, DIM), numbers(BATCH, HEADS, KEYS, DIM),
              numbers(BATCH, HEADS, KEYS, VALUE_DIM), *parameters]
    out = weights(arrays[0] @ arrays[1].mT / math.sqrt(DIM), *parameters) @ arrays[2]
    dout = numbers(*out.shape).detach()
    gradients = torch.autograd.grad(out, arrays, dout)
    plain = lambda x: {"shape": list(x.shape), "numbers": x.detach().flatten().tolist()}
    return {"normalizer": name, "arrays": [plain(x) for x in arrays], "dout": plain(dout), "out": plain(out),
            "gradients": [plain(g) for g in gradients]}


def main():
    cases = [case("sparsemax", lambda x: entmax.sparsemax(x, -1)),
             case("entmax15", lambda x: entmax.entmax15(x, -1)),
             case("entmax", adaptive, [torch.tensor([-0.7, 1.1], requires_grad=True)]),
             case("softmax_off_by_one", off_by_one),
             case("relu", lambda x: torch.relu(x) / x.shape[-1]),
             case("relu_squared", lambda x: torch.relu(x) ** 2 / x.shape[-1]),
             case("unnormalized", lambda x: x),
             case("hard", straight_through),
             case("stick_breaking", stick_breaking)]
    path = Path(__file__).parent.parent / "tests" / "golden" / "normalizers.json"
    path.write_text('{"cases":[\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")


if __name__ == "__main__":
    main()
