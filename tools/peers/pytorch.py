"""PyTorch's side of the benchmark: the work of a row as its user would write it.

Where scaled_dot_product_attention does it, that; FlexAttention, compiled, where a score or a mask is a function; else
the plain form, which holds all logits. Protocol: see protocol.py.
"""
import math

import torch
import torch.nn.functional as F

import protocol
from pytorch_form import scaled
from pytorch_masks import distances
from pytorch_mechanisms import MECHANISMS, way_of
from pytorch_models import step_way

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
WINDOW = 255  # keys before the query's own, as in the rows of attention_bench
CAP = 30.0


def arrays(row: dict, grad: bool):
    batch, heads, kv_heads, queries, keys, width = row["extents"]
    dtype = DTYPES[row["dtype"]]
    make = lambda h, t: torch.randn(batch, h, t, width).to(dtype).requires_grad_(grad)
    return make(heads, queries), make(kv_heads, keys), make(kv_heads, keys)


def alibi_slopes(heads: int) -> torch.Tensor:
    return torch.tensor([2.0 ** (-8.0 * (h + 1) / heads) for h in range(heads)])


def hidden_later(queries: int, keys: int) -> torch.Tensor:
    """True where a key comes after the query."""
    return torch.ones(queries, keys, dtype=torch.bool).triu(1)


def plain_form(q, k, v, change, causal: bool):
    logits = change(scaled(q, k))
    if causal:
        logits = logits.masked_fill(hidden_later(*logits.shape[-2:]), -math.inf)
    return torch.softmax(logits, -1) @ v


def plain_form_told(q, k, v):
    """With the entropy, the variance and the extremes of each row's logits."""
    logits = scaled(q, k)
    logs = torch.log_softmax(logits, -1)
    weights = logs.exp()
    mean = (weights * logits).sum(-1, keepdim=True)
    told = (weights * logs).sum(-1), (weights * (logits - mean).square()).sum(-1), logits.amax(-1), logits.amin(-1)
    return weights @ v, *told


def attention(row: dict, grad: bool):
    """The forward call of the row and the tensors that learn."""
    q, k, v = arrays(row, grad)
    heads, tokens, keys = q.shape[1], q.shape[2], k.shape[2]
    sdpa = F.scaled_dot_product_attention
    variant, causal = row["variant"], row["causal"]
    learns = [q, k, v]
    if variant in ("plain", "growth"):
        grouped = k.shape[1] != heads
        return lambda: sdpa(q, k, v, is_causal=causal, enable_gqa=grouped), learns
    if variant == "grouped":
        return lambda: sdpa(q, k, v, is_causal=causal, enable_gqa=True), learns
    if variant == "dropout":
        return lambda: sdpa(q, k, v, is_causal=causal, dropout_p=0.1), learns
    distance = distances(tokens, keys)
    if variant == "dense_bias":
        bias = torch.randn(1, heads, tokens, keys, requires_grad=grad)
        return lambda: sdpa(q, k, v, attn_mask=bias), learns + [bias]
    if variant == "window":
        seen = (distance >= 0) & (distance <= WINDOW)
        return lambda: sdpa(q, k, v, attn_mask=seen), learns
    if variant in ("alibi", "alibi_dropout"):
        dropout = 0.1 if variant == "alibi_dropout" else 0.0
        bias = -alibi_slopes(heads)[:, None, None] * distance.abs()
        if causal:
            bias = bias.masked_fill(hidden_later(tokens, keys), -math.inf)
        return lambda: sdpa(q, k, v, attn_mask=bias[None], dropout_p=dropout), learns
    if variant == "statistics":
        return lambda: plain_form_told(q, k, v), learns
    if variant == "soft_cap":
        return lambda: plain_form(q, k, v, lambda s: CAP * torch.tanh(s / CAP), causal), learns
    if variant == "sink":
        sink = torch.zeros(heads, 1, 1, requires_grad=grad)

        def with_sink():
            logits = scaled(q, k)
            logits = torch.cat([logits, sink.expand(*logits.shape[:-1], 1)], -1)
            return torch.softmax(logits, -1)[..., :-1] @ v

        return with_sink, learns + [sink]
    if variant in MECHANISMS:
        call, more = MECHANISMS[variant](q, k, v, grad)
        return call, learns + more
    return None, None


def forward_way(row: dict):
    call, _ = attention(row, False)

    def run():
        with torch.no_grad():
            call()

    return run


def backward_way(row: dict):
    call, learns = attention(row, True)
    out = call()
    dout = torch.randn_like(out)
    # A location score leaves keys without a gradient.
    return lambda: torch.autograd.grad(out, learns, dout, retain_graph=True, allow_unused=True)


def flex_way(row: dict):
    """FlexAttention, compiled; on a processor it has no backward pass."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    q, k, v = arrays(row, False)
    variant, tokens, keys, heads = row["variant"], q.shape[2], k.shape[2], q.shape[1]
    slopes = alibi_slopes(heads)
    score = {
        "alibi": lambda s, b, h, i, j: s - slopes[h] * (i - j).abs(),
        "soft_cap": lambda s, b, h, i, j: CAP * torch.tanh(s / CAP),
        "window": None,
    }[variant]
    mask = None
    if variant == "window":
        seen = lambda b, h, i, j: (i >= j) & (i - j <= WINDOW)
        mask = create_block_mask(seen, None, None, tokens, keys, device="cpu")
    elif row["causal"]:
        mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, tokens, keys, device="cpu")
    torch._dynamo.reset()  # every row is a program of its own: no recompilation with guessed sizes
    compiled = torch.compile(flex_attention)

    def run():
        with torch.no_grad():
            compiled(q, k, v, score_mod=score, block_mask=mask)

    return run


def ways(row: dict) -> list:
    if row["pass"] == "step":
        if row["variant"] not in ("gpt", "translation"):
            return []
        return [("PyTorch", lambda: step_way(row, False)), ("PyTorch compiled", lambda: step_way(row, True))]
    if len(row["extents"]) != 6 or row["variant"] not in KNOWN:
        return []
    found = [(KNOWN[row["variant"]], lambda: (backward_way if row["pass"] == "backward" else forward_way)(row))]
    if row["variant"] in ("alibi", "soft_cap", "window") and row["pass"] == "forward":
        found.append(("PyTorch FlexAttention", lambda: flex_way(row)))
    return found


KNOWN = {
    "plain": "PyTorch", "growth": "PyTorch", "grouped": "PyTorch", "dropout": "PyTorch", "dense_bias": "PyTorch",
    "window": "PyTorch, mask stored", "alibi": "PyTorch, bias stored", "soft_cap": "PyTorch, plain form",
    "sink": "PyTorch, plain form", "alibi_dropout": "PyTorch, bias stored", "statistics": "PyTorch, plain form",
} | {name: way_of(name) for name in MECHANISMS}

if __name__ == "__main__":
    chosen = protocol.options()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    protocol.serve(ways, chosen.threads, {"name": "PyTorch", "version": torch.__version__})
