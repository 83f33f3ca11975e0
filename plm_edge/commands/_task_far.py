"""A device's server as a task sees it; its own clock tells the times, without the wire's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plm_edge.commands._task_model import Prompts, seam
from plm_edge.errors import InputError
from plm_edge.eval.tasks.model import Completion, Likelihoods, Prompt, Timing

if TYPE_CHECKING:
    from plm_edge.chat.far_model import FarModel

_GREEDY = {"temperature": 0.0, "samplers": ["temperature"], "seed": 0}
# Makes a token the next one whatever the model thinks; its probability is told without it.
_CERTAIN = 1e6
# The server computes probabilities in 32 bits: a smaller one is 0 there.
_LEAST_LOG = math.log(2**-149)


class FarTaskModel:
    """A `TaskModel` on a server with one slot; greedy, and from an empty cache for every call."""

    def __init__(self, model: FarModel) -> None:
        self.model = model
        self._prompts = Prompts(model)

    def complete(self, prompt: Prompt, max_tokens: int, stop: Sequence[str]) -> Completion:
        """Write greedily, until a stop text, the end token or the limit."""
        tokens = self._prompts.tokens(prompt)
        limits = {"n_predict": max_tokens, "stop": list(stop), "cache_prompt": False}
        events = list(self.model.events({**_GREEDY, **limits, "prompt": tokens}))
        last = events[-1]
        text = "".join(str(event.get("content", "")) for event in events)
        written = int(last["timings"]["predicted_n"])
        # The token that ends an answer is computed like the others, and is none of it.
        answer = written - 1 if last.get("stop_type") == "eos" else written
        return Completion(text, _timing(len(tokens), [last["timings"]], answer, written - 1))

    def likelihoods(self, prompt: Prompt, continuations: Sequence[str]) -> Likelihoods:
        """How probable each continuation is, token by token; the prompt is computed once."""
        context, whole = self._prompts.with_continuations(prompt, continuations)
        fed = {"prompt": context, "n_predict": 0, "cache_prompt": False}
        clocks: list[dict[str, Any]] = [list(self.model.events(fed))[-1]["timings"]]
        found = [self._likelihood(tokens, seam(context, tokens), clocks) for tokens in whole]
        computed = sum(int(clock["prompt_n"]) for clock in clocks)
        return Likelihoods(
            tuple(value for value, _ in found),
            tuple(is_greedy for _, is_greedy in found),
            _timing(computed, clocks, 0, 0),
        )

    def _likelihood(
        self, tokens: Sequence[int], start: int, clocks: list[dict[str, Any]]
    ) -> tuple[float, bool]:
        """The log of the probability of `tokens` from `start` on, and whether each is the best."""
        value, is_greedy = 0.0, True
        for place in range(max(start, 1), len(tokens)):
            asked = {"n_predict": 1, "n_probs": 1, "logit_bias": [[tokens[place], _CERTAIN]]}
            prompt = {"prompt": list(tokens[:place]), "cache_prompt": True}
            done = self.model.completion({**_GREEDY, **asked, **prompt})
            clocks.append(done["timings"])
            seen = done["completion_probabilities"][0]
            if seen["id"] != tokens[place] or seen["logprob"] is None:  # JSON knows no NaN
                raise InputError(f"{self.model.path}: the model gives no finite numbers")
            value += max(float(seen["logprob"]), _LEAST_LOG)
            is_greedy &= seen["top_logprobs"][0]["id"] == tokens[place]
        return value, is_greedy


def _timing(
    prompt_tokens: int, clocks: Sequence[dict[str, Any]], answer_tokens: int, decoded_tokens: int
) -> Timing:
    """The device's clock: the prompt, then the tokens after the first."""
    answer = float(clocks[-1]["predicted_ms"]) / 1000 if decoded_tokens else 0.0
    total = sum(float(clock["prompt_ms"]) + float(clock["predicted_ms"]) for clock in clocks) / 1000
    return Timing(
        prompt_tokens=prompt_tokens,
        first_token_seconds=float(clocks[0]["prompt_ms"]) / 1000,
        answer_tokens=answer_tokens,
        decoded_tokens=decoded_tokens,
        answer_seconds=answer,
        total_seconds=total,
        cpu_seconds=0.0,  # the looks at the device tell
    )
