"""Mechanisms that PyTorch has no fused call for, as its user would write them: the plain form, which holds all logits.

Each takes query, key, value [B, H, T, D] and gives the call and the tensors that learn besides. Options are those of
stages_bench. Biases and relative scores stand in pytorch_biases.py, masks in pytorch_masks.py.
"""
import torch
import torch.nn.functional as F

from pytorch_biases import BIASES
from pytorch_form import learned, random_numbers, scaled, with_logits, with_weights
from pytorch_masks import MASKS

try:
    import entmax  # the package of its authors
except ImportError:
    entmax = None

GRID = 32  # width of the images whose patches the tokens are
HIDDEN = 64


def half_pairs(x, cos, sin):
    half = x.shape[-1] // 2
    return torch.cat([x[..., :half] * cos - x[..., half:] * sin, x[..., half:] * cos + x[..., :half] * sin], -1)


def angles_of(places, pairs: int, base: float = 10000.0):
    return places[:, None] * base ** (-torch.arange(pairs) / pairs)


def turned_by(angles_at):
    """angles_at(tokens, pairs) -> [tokens, pairs]."""
    def make(q, k, v, grad):
        angles = angles_at(q.shape[2], q.shape[-1] // 2)
        cos, sin = angles.cos(), angles.sin()
        return lambda: F.scaled_dot_product_attention(half_pairs(q, cos, sin), half_pairs(k, cos, sin), v), []
    return make


def grid_angles(tokens: int, pairs: int):
    places = torch.arange(tokens)
    return torch.cat([angles_of(at, pairs // 2, 100.0) for at in (places // GRID, places % GRID)], -1)


def xpos(q, k, v, grad):
    tokens, half = q.shape[2], q.shape[-1] // 2
    angles = angles_of(torch.arange(tokens), half)
    rates = (torch.arange(half) / half + 0.4) / 1.4
    powers = rates ** ((torch.arange(tokens)[:, None] - tokens // 2) / 512)
    cos, sin = angles.cos(), angles.sin()
    return lambda: F.scaled_dot_product_attention(
        half_pairs(q, cos * powers, sin * powers), half_pairs(k, cos / powers, sin / powers), v), []


def added(rows_of):
    """rows_of(tokens, width, grad) -> (function of nothing that gives [tokens, width], what learns)."""
    def make(q, k, v, grad):
        rows, learns = rows_of(q.shape[2], q.shape[-1], grad)

        def call():
            now = rows()
            return F.scaled_dot_product_attention(q + now, k + now, v)

        return call, learns
    return make


def sinusoids(angles_at):
    def rows_of(tokens, width, grad):
        angles = angles_at(tokens, width // 2)
        rows = torch.cat([angles.sin(), angles.cos()], -1)
        return lambda: rows, []
    return rows_of


def learned_rows(tokens, width, grad):
    table = random_numbers(grad, tokens, width)
    return lambda: table, [table]


def learned_grid(tokens, width, grad):
    """A table of half the grid's height and width, bicubic."""
    height = tokens // GRID
    table = random_numbers(grad, 1, width, height // 2, GRID // 2)
    return lambda: F.interpolate(table, (height, GRID), mode="bicubic").flatten(2)[0].T, [table]


def bilinear(q, k, grad):
    weight = random_numbers(grad, q.shape[1], q.shape[-1], k.shape[-1])
    return lambda: (q @ weight) @ k.transpose(-1, -2), [weight]


def cosine(q, k, grad):
    temperature = learned(grad, q.shape[1], 1, 1)
    return lambda: F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2) / temperature, [temperature]


def qk_norm(q, k, grad):
    gains = learned(grad, q.shape[-1]), learned(grad, k.shape[-1])
    rms = lambda x, gain: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * gain
    return lambda: scaled(rms(q, gains[0]), rms(k, gains[1])), list(gains)


def gaussian(q, k, grad):
    bandwidth = learned(grad, q.shape[1], 1, 1)
    return lambda: -torch.cdist(q, k).square() / (2 * bandwidth.square()), [bandwidth]


def location(q, k, grad):
    weight = random_numbers(grad, q.shape[1], k.shape[2], q.shape[-1])
    return lambda: q @ weight.transpose(-1, -2), [weight]


def of_hidden_units(with_bias: bool):
    """tanh of two linear maps, and of a bias, then one number a pair: additive (Bahdanau's), concat (Luong's) and an MLP of
    one layer."""
    def change(q, k, grad):
        width = q.shape[-1]
        learns = [random_numbers(grad, *s) for s in ((width, HIDDEN), (width, HIDDEN), (HIDDEN,))]
        bias = [random_numbers(grad, HIDDEN)] if with_bias else []
        hidden = lambda: (q @ learns[0] + (bias[0] if bias else 0))[..., :, None, :] + (k @ learns[1])[..., None, :, :]
        return lambda: torch.tanh(hidden()) @ learns[2], learns + bias
    return change


def off_by_one(logits):
    top = logits.amax(-1, keepdim=True).clamp(min=0)
    weights = torch.exp(logits - top)
    return weights / (weights.sum(-1, keepdim=True) + torch.exp(-top))


def sparsemax(logits):
    ordered = logits.sort(-1, descending=True).values
    sums = ordered.cumsum(-1) - 1
    size = (ordered * torch.arange(1, logits.shape[-1] + 1) > sums).sum(-1, keepdim=True)
    return (logits - sums.gather(-1, size - 1) / size).clamp(min=0)


def entmax_learned(q, k, v, grad):
    alpha = torch.full((q.shape[1], 1, 1), 1.5).requires_grad_(grad)
    return lambda: entmax.entmax_bisect(scaled(q, k), alpha) @ v, [alpha]


def straight_through(logits):
    weights = torch.softmax(logits, -1)
    chosen = torch.zeros_like(weights).scatter_(-1, weights.argmax(-1, keepdim=True), 1.0)
    return chosen + weights - weights.detach()


def stick_breaking(logits):
    """Each key takes its share of what the keys after it left."""
    left = F.logsigmoid(-logits)
    after = left.flip(-1).cumsum(-1).flip(-1) - left
    return torch.exp(F.logsigmoid(logits) + after)


MECHANISMS = MASKS | {name: with_logits(change) for name, change in BIASES.items()} | {
    "rotary": turned_by(lambda tokens, pairs: angles_of(torch.arange(tokens), pairs)),
    "rotary_2d": turned_by(grid_angles), "xpos": xpos,
    "sinusoidal": added(sinusoids(lambda tokens, pairs: angles_of(torch.arange(tokens), pairs))),
    "sinusoidal_2d": added(sinusoids(grid_angles)),
    "learned": added(learned_rows), "learned_grid": added(learned_grid),
    "dot": with_logits(lambda q, k, grad: (lambda: q @ k.transpose(-1, -2), [])),
    "bilinear": with_logits(bilinear), "cosine": with_logits(cosine), "qk_norm": with_logits(qk_norm),
    "squared_distance": with_logits(lambda q, k, grad: (lambda: -torch.cdist(q, k).square(), [])),
    "gaussian": with_logits(gaussian), "location": with_logits(location),
    "additive": with_logits(of_hidden_units(False)), "concat": with_logits(of_hidden_units(False)),
    "mlp": with_logits(of_hidden_units(True)),
    "sigmoid": with_weights(torch.sigmoid), "softmax_off_by_one": with_weights(off_by_one),
    "sparsemax": with_weights(sparsemax), "hard": with_weights(straight_through),
    "relu": with_weights(lambda s: torch.relu(s) / s.shape[-1]),
    "relu_squared": with_weights(lambda s: torch.relu(s).square() / s.shape[-1]),
    "unnormalized": with_weights(lambda s: s), "stick_breaking": with_weights(stick_breaking),
} | ({"entmax15": with_weights(entmax.entmax15), "entmax": entmax_learned} if entmax else {})
FUSED = {"rotary", "rotary_2d", "xpos", "sinusoidal", "sinusoidal_2d", "learned", "learned_grid", "causal"}
STORED = set(MASKS) - FUSED
PACKAGES = {"entmax15": "the package entmax", "entmax": "the package entmax"}


def way_of(name: str) -> str:
    """What a row's time is called."""
    told = "" if name in FUSED else ", mask stored" if name in STORED else ", plain form"
    return "PyTorch" + (", " + PACKAGES[name] if name in PACKAGES else told)
