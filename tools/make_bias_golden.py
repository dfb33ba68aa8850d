#!/usr/bin/env python3
"""Writes tests/golden/biases.json: T5's buckets, and attention with biases in PyTorch, forward and all gradients, float64.

The buckets and the T5 bias come from the module of `transformers`; FIRE is a Linear, a ReLU and a Linear of PyTorch after
the listing of its paper (arXiv:2310.04418), KERPLE (arXiv:2205.09921), log-length scaling and the temperature are
expressions. Every case is softmax(biased scores) . value. Needs torch and transformers.
"""
import json
import math
from pathlib import Path

import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

HEADS, DIM, VALUE_DIM = 2, 4, 3
torch.set_default_dtype(torch.float64)
torch.manual_seed(20240917)


def numbers(*shape, low=-1.5, high=1.5):
    """Uniform numbers of three decimals."""
    return torch.round(low + (high - low) * torch.rand(shape), decimals=3).requires_grad_()


def inputs(queries, keys):
    return [numbers(2, HEADS, queries, DIM), numbers(2, HEADS, keys, DIM), numbers(2, HEADS, keys, VALUE_DIM)]


def scores(arrays):
    return arrays[0] @ arrays[1].mT / math.sqrt(DIM)


def distance(queries, keys, offset):
    """|position of query - key|, [Tq, Tk]."""
    return (torch.arange(queries)[:, None] + offset - torch.arange(keys)).abs().double()


def case(bias, options, offset, arrays, parameters, logits):
    out = torch.softmax(logits, -1) @ arrays[2]
    dout = numbers(*out.shape).detach()
    everything = arrays + parameters
    gradients = torch.autograd.grad(out, everything, dout)
    plain = lambda x: {"shape": list(x.shape), "numbers": x.detach().flatten().tolist()}
    return {"bias": bias, "options": options, "offset": offset, "arrays": [plain(x) for x in everything],
            "dout": plain(dout), "out": plain(out), "gradients": [plain(g) for g in gradients]}


def buckets():
    reach = 300
    relative = torch.arange(-reach, reach + 1)
    for causal in (False, True):
        for count, farthest in ((32, 128), (32, 256), (64, 256), (8, 16), (12, 50), (128, 1024)):
            found = T5Attention._relative_position_bucket(relative, not causal, count, farthest)
            yield {"num_buckets": count, "max_distance": farthest, "causal": causal, "first": -reach,
                   "buckets": found.tolist()}


def t5():
    for causal, offset in ((False, 0), (True, 4)):
        a = inputs(6, 9)
        config = T5Config(d_model=8, d_kv=DIM, num_heads=HEADS, relative_attention_num_buckets=8,
                          relative_attention_max_distance=7, is_decoder=causal)
        module = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
        table = module.relative_attention_bias.weight  # [buckets, H]
        with torch.no_grad():
            table.copy_(numbers(*table.shape))
        bias = module.compute_bias(6, 9, past_seen_tokens=offset)
        made = case("relative_buckets", {"num_buckets": 8, "max_distance": 7, "causal": causal}, offset, a, [table],
                    scores(a) + bias)
        for array in (made["arrays"][3], made["gradients"][3]):  # here [H, buckets]
            array["numbers"] = torch.tensor(array["numbers"]).view(array["shape"]).T.flatten().tolist()
            array["shape"].reverse()
        yield made


def kerple():
    d = distance(5, 8, 2)
    for kernel in ("log", "power"):
        a = inputs(5, 8)
        scale, second = numbers(HEADS, low=0.2, high=2), numbers(HEADS, low=0.2, high=1.5)
        r, s = scale[:, None, None], second[:, None, None]
        bias = r * torch.log(1 + s * d) if kernel == "log" else r * d.clamp(min=1e-300)**s
        yield case("kerple", {"kernel": kernel}, 2, a, [scale, second], scores(a) - bias)


def fire():
    width, queries, keys, offset, length = 6, 7, 9, 2, 8
    a = inputs(queries, keys)
    hidden, last = torch.nn.Linear(1, width), torch.nn.Linear(width, HEADS)
    rate, threshold = numbers(1, low=0.2, high=0.9), numbers(1, low=0.4, high=0.45)
    positions = (torch.arange(queries) + offset).double()[:, None]
    log_of = lambda x: torch.log(torch.abs(rate * x) + 1)
    share = log_of(distance(queries, keys, offset)) / (log_of(torch.maximum(positions, threshold * length)) + 1e-6)
    bias = last(torch.relu(hidden(share[..., None]))).permute(2, 0, 1)
    made = case("fire", {"hidden_dim": width, "length": length}, offset, a,
                [hidden.weight, hidden.bias, last.weight, last.bias, rate, threshold], scores(a) + bias)
    for array in (made["arrays"][3], made["gradients"][3]):
        array["shape"] = [width]
    yield made


def factors():
    a = inputs(5, 8)
    temperature = numbers(HEADS, low=0.3, high=1.8)
    yield case("temperature", {"learned": True}, 0, a, [temperature], scores(a) / temperature[:, None, None])
    a = inputs(5, 8)
    scale = numbers(HEADS, low=0.3, high=1.8)
    n = torch.arange(1, 6)[:, None] + 3
    yield case("log_n", {"learned": True}, 3, a, [scale], scores(a) * scale[:, None, None] * torch.log(n.double()))


if __name__ == "__main__":
    cases = [c for make in (t5, kerple, fire, factors) for c in make()]
    path = Path(__file__).resolve().parent.parent / "tests" / "golden" / "biases.json"
    lines = lambda rows: "[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]"
    text = '{"buckets":' + lines(list(buckets())) + ',\n"cases":' + lines(cases) + "}\n"
    path.write_text(text)
    print(f"{path}: {len(cases)} cases, {len(text)} bytes")
