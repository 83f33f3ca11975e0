"""What a training run would need, from arithmetic alone: an estimate, for planning.

6 FLOPs per weight and token (forward 2, backward 4; Kaplan et al. 2020), attention scores on top;
memory is weights, gradients and AdamW's two moments in float32, spread by FSDP.
"""

from __future__ import annotations

from dataclasses import dataclass

from plm_edge.model.recipe import TrainRecipe

# float32 weight, gradient, and two moments
BYTES_PER_PARAMETER = 16
# bf16 values kept per token, layer and hidden unit for the backward pass, without recomputation;
# the usual 34 of Korthikanti et al. 2022, whose FFN is as wide as PLM's.
ACTIVATION_BYTES_PER_UNIT = 34


@dataclass(frozen=True)
class Budget:
    """An estimate; `hours` is 0 when no FLOP rate was given."""

    parameters: int
    tokens: int
    steps: int
    flops: float
    bytes_per_device: int
    hours: float


def estimate(recipe: TrainRecipe, devices: int, flops_per_second: float, shards: bool) -> Budget:
    """Memory per device, tokens, steps, and time at `flops_per_second` over all devices."""
    shape, batch = recipe.shape, recipe.batch
    tokens = recipe.steps * batch.tokens
    scores = 6 * shape.num_hidden_layers * batch.length * shape.num_attention_heads
    scores *= (shape.qk_head_dim + shape.v_head_dim) // 2
    flops = float(tokens) * (6 * shape.parameters + scores)
    state = shape.parameters * BYTES_PER_PARAMETER // (devices if shards else 1)
    rows = batch.micro or max(1, batch.sequences // devices)
    activations = rows * batch.length * shape.hidden_size * shape.num_hidden_layers
    logits = rows * batch.length * shape.vocab_size * 6  # bf16 and its float32 copy
    memory = state + activations * ACTIVATION_BYTES_PER_UNIT + logits
    hours = flops / flops_per_second / 3600 if flops_per_second else 0.0
    return Budget(shape.parameters, tokens, recipe.steps, flops, memory, hours)
