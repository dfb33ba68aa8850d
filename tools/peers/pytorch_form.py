"""The plain form of attention in PyTorch, which holds all logits, with a blank for what differs."""
import math

import torch


def learned(grad: bool, *shape: int) -> torch.Tensor:
    return torch.full(shape, 0.6).requires_grad_(grad)


def random_numbers(grad: bool, *shape: int) -> torch.Tensor:
    return (torch.randn(shape) / 8).requires_grad_(grad)


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
