"""Masks in PyTorch: a stored matrix of who sees whom, handed to scaled_dot_product_attention."""
import torch
import torch.nn.functional as F

BLOCK, STRIDE, SUMMARY, RANDOM_BLOCKS = 64, 128, 8, 3


def distances(tokens: int, keys: int) -> torch.Tensor:
    return torch.arange(tokens)[:, None] - torch.arange(keys)[None]


def dilated(t):
    d = distances(t, t)
    return (d >= 0) & (d <= t // 2) & (d % 2 == 0)


def prefix_lm(t):
    return (distances(t, t) >= 0) | (torch.arange(t)[None] < t // 4)


def big_bird(t):
    blocks = t // BLOCK
    seen = distances(blocks, blocks).abs() <= 1
    seen[0] = seen[:, 0] = True
    seen.scatter_(1, torch.randint(blocks, (blocks, RANDOM_BLOCKS)), True)
    return seen.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)


def longformer(t):
    seen = distances(t, t).abs() <= t // 16
    seen[0] = seen[:, 0] = True
    return seen


def sparse_strided(t):
    d = distances(t, t)
    return (d >= 0) & ((d < STRIDE) | (d % STRIDE == 0))


def sparse_fixed(t):
    i, j = torch.arange(t)[:, None], torch.arange(t)[None]
    return (i >= j) & ((i // STRIDE == j // STRIDE) | (j % STRIDE >= STRIDE - SUMMARY))


def stored(seen_by):
    def make(q, k, v, grad):
        seen = seen_by(q.shape[2])
        return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=seen), []
    return make


MASKS = {
    "causal": lambda q, k, v, grad: (lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), []),
    "dilated": stored(dilated), "prefix_lm": stored(prefix_lm), "big_bird": stored(big_bird),
    "longformer": stored(longformer), "sparse_strided": stored(sparse_strided), "sparse_fixed": stored(sparse_fixed),
    "local_m": stored(lambda t: distances(t, t).abs() <= t // 16),
    "random": stored(lambda t: torch.rand(t, t) < 0.5),
}
