"""PLM in PyTorch, to be read top to bottom: multi-head latent attention and a squared-ReLU FFN.

Parameter names are those of the Hugging Face checkpoint, so `state_dict()` is the file. Two ways to
run give the same logits: `forward` over whole sequences (training), and `decode` over a
`LatentCache`, which keeps one latent row per token and never rebuilds K or V. Shapes in comments:
B sequences, T tokens, H heads, S cached tokens. Follows the PLM paper (arXiv 2503.12167), and
DeepSeek-V2 (arXiv 2405.04434) for the attention.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plm_edge.shape import PlmShape


class RmsNorm(nn.Module):
    """x / rms(x) · weight, computed in float32 and cast back last, as PLM was trained."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Any shape whose last axis is `size`."""
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * scale * self.weight.float()).to(x.dtype)


def rotary_angles(positions: Tensor, rope_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin, each (T, rope_dim/2), of the angle each pair is turned by at each position."""
    pairs = torch.arange(0, rope_dim, 2, dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None] * theta ** (-pairs / rope_dim)[None, :]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn adjacent pairs (x0,x1), (x2,x3), … of the last axis; x is (B, T, …, rope_dim).

    PLM's weights are stored for interleaved pairs, not for halves.
    """
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    while cos.dim() < even.dim() - 1:  # (T, d/2) → (T, 1, d/2) when there is a head axis
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v where a token sees itself and those before; (B, H, T, ·) each."""
    if q.device.type == "cpu":
        return _attention_in_blocks(q, k, v)
    # torch's fast kernels want V as wide as K; the zeros are cut off again.
    spare = max(q.shape[-1] - v.shape[-1], 0)
    out = F.scaled_dot_product_attention(q, k, F.pad(v, (0, spare)), is_causal=True)
    return out[..., : v.shape[-1]]


QUERY_BLOCK = 128


def _attention_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same as plain matrix products, `QUERY_BLOCK` queries at a time over the keys they see.

    On a CPU with bf16 products a forward and backward pass takes 68 ms so, against 168 ms with
    torch's own kernel (2026-11, AVX-512 machine, 4 sequences of 512, 16 heads, one thread).
    """
    size, length = q.shape[:2], q.shape[2]
    q, k, v = q.flatten(0, 1) * q.shape[-1] ** -0.5, k.flatten(0, 1), v.flatten(0, 1)
    blocks = []
    for start in range(0, length, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, length)
        hidden = torch.full((end - start, end), float("-inf"), dtype=q.dtype).triu(start + 1)
        scores = torch.bmm(q[:, start:end], k[:, :end].transpose(1, 2)) + hidden
        blocks.append(torch.bmm(scores.softmax(-1).to(v.dtype), v[:, :end]))
    return torch.cat(blocks, dim=1).unflatten(0, size)


@dataclass
class LatentRows:
    """One layer's cache: normed latents (B, S, rank) and rotated keys (B, S, rope)."""

    latent: Tensor | None = None
    k_rope: Tensor | None = None

    def append(self, latent: Tensor, k_rope: Tensor) -> tuple[Tensor, Tensor]:
        """Add T rows and return all S + T of them."""
        if self.latent is not None and self.k_rope is not None:
            latent = torch.cat((self.latent, latent), dim=1)
            k_rope = torch.cat((self.k_rope, k_rope), dim=1)
        self.latent, self.k_rope = latent, k_rope
        return latent, k_rope


@dataclass
class LatentCache:
    """The latent KV cache of a model: one `LatentRows` a layer."""

    layers: list[LatentRows] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Cached tokens."""
        rows = self.layers[0].latent if self.layers else None
        return 0 if rows is None else rows.shape[1]


class Attention(nn.Module):
    """Multi-head latent attention; queries are not compressed in PLM."""

    def __init__(self, shape: PlmShape) -> None:
        super().__init__()
        self.shape = shape
        heads, hidden = shape.num_attention_heads, shape.hidden_size
        kv_width = heads * (shape.qk_nope_head_dim + shape.v_head_dim)
        self.q_proj = nn.Linear(hidden, heads * shape.qk_head_dim, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(hidden, shape.latent_width, bias=False)
        self.kv_a_layernorm = RmsNorm(shape.kv_lora_rank, shape.rms_norm_eps)
        self.kv_b_proj = nn.Linear(shape.kv_lora_rank, kv_width, bias=False)
        self.o_proj = nn.Linear(heads * shape.v_head_dim, hidden, bias=False)

    def queries(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H, nope) and the rotated (B, T, H, rope)."""
        q = self.q_proj(x).unflatten(-1, (self.shape.num_attention_heads, -1))
        nope, rope = q.split((self.shape.qk_nope_head_dim, self.shape.qk_rope_head_dim), dim=-1)
        return nope, rotate(rope, cos, sin)

    def latent(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """What the cache keeps of a token: normed latent (B, T, rank), rotated key (B, T, rope)."""
        row = self.kv_a_proj_with_mqa(x)
        latent, k_rope = row.split((self.shape.kv_lora_rank, self.shape.qk_rope_head_dim), dim=-1)
        return self.kv_a_layernorm(latent), rotate(k_rope, cos, sin)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Causal attention over whole sequences, K and V rebuilt per head: (B, T, hidden)."""
        shape = self.shape
        q_nope, q_rope = self.queries(x, cos, sin)
        latent, k_rope = self.latent(x, cos, sin)
        kv = self.kv_b_proj(latent).unflatten(-1, (shape.num_attention_heads, -1))
        k_nope, v = kv.split((shape.qk_nope_head_dim, shape.v_head_dim), dim=-1)
        k_rope = k_rope.unsqueeze(2).expand(-1, -1, shape.num_attention_heads, -1)
        q = torch.cat((q_nope, q_rope), dim=-1).transpose(1, 2)  # (B, H, T, qk)
        k = torch.cat((k_nope, k_rope), dim=-1).transpose(1, 2)
        out = causal_attention(q, k, v.transpose(1, 2))
        return self.o_proj(out.transpose(1, 2).flatten(2))

    def decode(self, x: Tensor, cos: Tensor, sin: Tensor, rows: LatentRows) -> Tensor:
        """Attention of T new tokens over the cache and themselves, on latents only.

        k·q = (W_k c)·q = c·(W_kᵀ q): W_k is absorbed into the query and W_v into the output, so a
        cached token costs one row of rank + rope values for all heads.
        """
        shape = self.shape
        q_nope, q_rope = self.queries(x, cos, sin)
        latent, k_rope = rows.append(*self.latent(x, cos, sin))
        per_head = self.kv_b_proj.weight.unflatten(0, (shape.num_attention_heads, -1))
        w_k, w_v = per_head.split((shape.qk_nope_head_dim, shape.v_head_dim), dim=1)
        q_latent = torch.einsum("bthn,hnr->bthr", q_nope, w_k)
        scores = torch.einsum("bthr,bsr->bhts", q_latent, latent)
        scores = scores + torch.einsum("bthd,bsd->bhts", q_rope, k_rope)
        new, total = x.shape[1], latent.shape[1]
        past = torch.ones(new, total, dtype=torch.bool, device=x.device).tril(total - new)
        scores = (scores.float() * shape.qk_head_dim**-0.5).masked_fill(~past, float("-inf"))
        mixed = torch.einsum("bhts,bsr->bthr", scores.softmax(-1).to(x.dtype), latent)
        out = torch.einsum("bthr,hvr->bthv", mixed, w_v)
        return self.o_proj(out.flatten(2))


class Mlp(nn.Module):
    """down(relu(up(x))²): no gate, no bias; the zeros of relu are what the engine skips."""

    def __init__(self, shape: PlmShape) -> None:
        super().__init__()
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, zeros: list[Tensor] | None = None) -> Tensor:
        """(B, T, hidden) → the same; `zeros` collects the share of exactly zero activations."""
        active = F.relu(self.up_proj(x))
        if zeros is not None:
            zeros.append((active == 0).float().mean())
        return self.down_proj(active.square())


class Layer(nn.Module):
    """Pre-norm attention and pre-norm FFN, each added to the residual stream."""

    def __init__(self, shape: PlmShape) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        rows: LatentRows | None = None,
        zeros: list[Tensor] | None = None,
    ) -> Tensor:
        """(B, T, hidden) → the same; with `rows` the tokens follow the cached ones."""
        normed = self.input_layernorm(x)
        if rows is None:
            x = x + self.self_attn(normed, *angles)
        else:
            x = x + self.self_attn.decode(normed, *angles, rows)
        return x + self.mlp(self.post_attention_layernorm(x), zeros)


class Backbone(nn.Module):
    """Everything below the head; its own module so that names start with `model.`."""

    def __init__(self, shape: PlmShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)


class PlmModel(nn.Module):
    """PLM with its head, which is the embedding matrix used a second time."""

    def __init__(self, shape: PlmShape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Backbone(shape)

    def initialize(self, seed: int, std: float = 0.02) -> None:
        """Fill every matrix with N(0, std²); those that write to the residual by 1/√(2·layers).

        The smaller ones keep the residual stream's size independent of depth (GPT-2).
        """
        generator = torch.Generator().manual_seed(seed)
        shrink = (2 * self.shape.num_hidden_layers) ** -0.5
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                with torch.no_grad():
                    weight.normal_(0.0, std * shrink if writes else std, generator=generator)

    def hidden(self, tokens: Tensor, zeros: list[Tensor] | None = None) -> Tensor:
        """The normed stream before the head: tokens (B, T) → (B, T, hidden)."""
        x = self.model.embed_tokens(tokens)
        angles = self._angles(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.model.layers:
            x = layer(x, angles, zeros=zeros)
        return self.model.norm(x)

    def forward(self, tokens: Tensor, zeros: list[Tensor] | None = None) -> Tensor:
        """Logits (B, T, vocab); `zeros` collects each layer's share of zero activations."""
        return F.linear(self.hidden(tokens, zeros), self.model.embed_tokens.weight)

    @torch.no_grad()
    def decode(self, tokens: Tensor, cache: LatentCache) -> Tensor:
        """Logits (B, T, vocab) of T tokens that follow what the cache holds; extends the cache."""
        if not cache.layers:
            cache.layers = [LatentRows() for _ in self.model.layers]
        start = cache.length
        x = self.model.embed_tokens(tokens)
        angles = self._angles(torch.arange(start, start + tokens.shape[1], device=tokens.device))
        for layer, rows in zip(self.model.layers, cache.layers, strict=True):
            x = layer(x, angles, rows=rows)
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)

    @torch.no_grad()
    def zero_fractions(self, tokens: Tensor) -> list[float]:
        """Per layer: the share of squared-ReLU activations that are exactly zero on `tokens`."""
        zeros: list[Tensor] = []
        self.hidden(tokens, zeros)
        return [float(share) for share in zeros]

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return rotary_angles(positions, self.shape.qk_rope_head_dim, self.shape.rope_theta)
