"""Training steps in PyTorch, as bench/steps_bench.cpp has them: forward, loss, backward, clipping, AdamW."""
import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Queries of one sequence, keys and values of another."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, memory, causal: bool):
        batch, tokens, width = x.shape
        split = lambda y: y.view(batch, -1, self.heads, width // self.heads).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(memory)), split(self.value(memory)),
                                               is_causal=causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class SelfAttention(nn.Module):
    """One projection for queries, keys and values, causal."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.project, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.project(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class GptLayer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention, self.norms = SelfAttention(width, heads), nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Gpt(nn.Module):
    """Pre-norm, GELU, learned positions, the embedding as the output."""

    def __init__(self, layers: int, width: int, heads: int, tokens: int, vocabulary: int):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(tokens, width)
        self.layers = nn.ModuleList(GptLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids):
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.norm(x) @ self.token.weight.t()


class TranslationLayer(nn.Module):
    def __init__(self, width: int, heads: int, decodes: bool):
        super().__init__()
        self.own, self.other = Attention(width, heads), Attention(width, heads) if decodes else None
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if decodes else 2))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(0.1)

    def forward(self, x, memory=None):
        y = self.norms[0](x)
        x = x + self.drop(self.own(y, y, memory is not None))
        if memory is not None:
            x = x + self.drop(self.other(self.norms[1](x), memory, False))
        return x + self.drop(self.mlp(self.norms[-1](x)))


class Translator(nn.Module):
    """Pre-norm encoder and decoder, sinusoidal positions, one embedding for source, target and output."""

    def __init__(self, layers: int, width: int, heads: int, tokens: int, vocabulary: int):
        super().__init__()
        self.token, self.scale = nn.Embedding(vocabulary, width), width**0.5
        nn.init.normal_(self.token.weight, std=width**-0.5)
        angle = torch.arange(tokens)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("position", torch.stack([angle.sin(), angle.cos()], -1).reshape(tokens, width))
        self.drop = nn.Dropout(0.1)
        self.encoder, self.decoder = (nn.ModuleList(TranslationLayer(width, heads, d) for _ in range(layers))
                                      for d in (False, True))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def embed(self, ids):
        return self.drop(self.token(ids) * self.scale + self.position[:ids.shape[1]])

    def forward(self, source, target):
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x)
        memory, x = self.norms[0](x), self.embed(target)
        for layer in self.decoder:
            x = layer(x, memory)
        return self.norms[1](x) @ self.token.weight.t()


def step_way(row: dict, compiled: bool):
    layers, width, heads, batch, tokens, vocabulary = row["extents"]
    translates = row["variant"] == "translation"
    model = (Translator if translates else Gpt)(layers, width, heads, tokens, vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3 if translates else 3e-4,
                                  betas=(0.9, 0.98) if translates else (0.9, 0.999), weight_decay=0.01, fused=True)
    inputs = [torch.randint(4, vocabulary, (batch, tokens)) for _ in range(2 if translates else 1)]
    labels = torch.randint(4, vocabulary, (batch, tokens))
    if compiled:
        torch._dynamo.reset()
    run = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(run(*inputs).view(-1, vocabulary), labels.view(-1),
                        label_smoothing=0.1 if translates else 0.0).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step
