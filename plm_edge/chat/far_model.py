"""A model that computes elsewhere: a llama-server's one slot, used as if it were loaded here.

Tokens cross the wire, not text: the prompt is rendered and tokenized under our rules, as it is
for a model in this process, and the server continues exactly that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import httpx2

from plm_edge.chat import preflight
from plm_edge.chat.loaded import Fed, ModelOptions, StopCheck
from plm_edge.chat.sampling import PENALTY_WINDOW, Sampling
from plm_edge.chat.stream import EventStream
from plm_edge.errors import InputError, PlmEdgeError
from plm_edge.gguf_header import GgufHeader

END = -1
# Some token: the wire tells how many there were, not always which.
UNKNOWN = -2
# Token types of the GGUF specification.
_UNKNOWN, _CONTROL = 2, 3
_SECONDS = 30.0

Explain = Callable[[Exception], PlmEdgeError]
"""Says in our words why the server does not answer any more."""


class FarModel:
    """Follows `LoadedModel`; the cache is the server's, and is reused as long as it fits."""

    def __init__(
        self, header: GgufHeader, options: ModelOptions, base_url: str, explain: Explain
    ) -> None:
        self.header = header
        self.path = header.path
        self.options = options
        self._explain = explain
        self._shape = preflight.shape_of(header)
        # Nobody's proxy stands between us and a port on this machine.
        self._client = httpx2.Client(base_url=base_url, timeout=_SECONDS, trust_env=False)
        self._texts: list[str] = list(header.metadata.get("tokenizer.ggml.tokens", []))
        self._types: list[int] = list(header.metadata.get("tokenizer.ggml.token_type", []))
        self._prompt: list[int] = []
        self._used = 0
        self._piece = b""
        settings = self._get("/props")["default_generation_settings"]
        # The server ends an answer one token before the cache is full; so do we, and say why.
        self.context_tokens = int(settings["n_ctx"]) - 1

    @property
    def name(self) -> str:
        """The model's own name, else its file's."""
        return preflight.model_name(self.header)

    @property
    def cache_bytes_per_token(self) -> int:
        """Bytes of latent cache one token takes."""
        return self._shape.cache_bytes_per_token(self.options.cache_type)

    @property
    def used_tokens(self) -> int:
        """How many tokens the cache holds."""
        return self._used

    # Text and tokens

    def special_text(self, which: Literal["bos", "eos"]) -> str:
        """The text of the token that opens or closes a document, or nothing."""
        token = self.header.metadata.get(f"tokenizer.ggml.{which}_token_id")
        return self._text_of(token) if isinstance(token, int) else ""

    def bos_tokens(self) -> tuple[int, ...]:
        """What the vocabulary wants in front of every prompt: usually nothing."""
        body = {"content": "a", "add_special": True, "parse_special": False}
        tokens = self._post("/tokenize", body)["tokens"]
        token = self.header.metadata.get("tokenizer.ggml.bos_token_id")
        return (token,) if isinstance(token, int) and tokens[:1] == [token] else ()

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of `text`; `special` turns the names of control tokens into those tokens."""
        body = {"content": text, "add_special": False, "parse_special": special}
        tokens: list[int] = self._post("/tokenize", body)["tokens"]
        return tokens

    def control_texts(self, tokens: Iterable[int]) -> Mapping[str, int]:
        """The control tokens among `tokens`: text → id."""
        found = {token for token in tokens if self._type_of(token) in (_CONTROL, _UNKNOWN)}
        return {self._text_of(token): token for token in found}

    def _text_of(self, token: int) -> str:
        return self._texts[token] if 0 <= token < len(self._texts) else ""

    def _type_of(self, token: int) -> int:
        return self._types[token] if 0 <= token < len(self._types) else 0

    # Computing

    def feed(self, tokens: Sequence[int], should_stop: StopCheck) -> Fed:
        """Bring the server's cache to `tokens`; nothing is generated yet."""
        self._prompt = list(tokens)
        body = {"prompt": self._prompt, "n_predict": 0, "cache_prompt": True}
        last: dict[str, Any] = {}
        with self._streaming(body) as stream:
            while (event := self._next(stream, should_stop)) is not None:
                last = event
        self._used = len(tokens)
        timings = last.get("timings", {})
        return Fed(int(timings.get("cache_n", 0)), was_stopped=not last.get("stop", False))

    @contextmanager
    def sampler(self, sampling: Sampling) -> Iterator[_Answer]:
        """An answer to what was fed; leaving the block stops the server."""
        with self._streaming(self._body(sampling)) as stream:
            yield _Answer(self, stream)

    def sample(self, chain: _Answer) -> int:
        """The next token; `END` when the model has nothing more to say."""
        token, self._piece = chain.next()
        return token

    def is_end(self, token: int) -> bool:
        """Whether `token` ends the answer."""
        return token == END

    def piece(self, token: int) -> bytes:
        """The bytes of the token that `sample` gave last."""
        return self._piece

    def append(self, token: int) -> None:
        """Count the token; the server has gone on by itself."""
        self._used += 1

    def next_event(self, stream: EventStream) -> dict[str, Any] | None:
        """The next event of an answer; `PlmEdgeError` if the wire or the server broke."""
        return self._next(stream, lambda: False)

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Every event of one request for a completion; who leaves early stops the server."""
        with self._streaming(body) as stream:
            while (event := self.next_event(stream)) is not None:
                yield event

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """One short answer in a piece."""
        return self._post("/completion", body)

    def _body(self, sampling: Sampling) -> dict[str, Any]:
        return {
            "prompt": self._prompt,
            "n_predict": sampling.max_tokens,
            "cache_prompt": True,
            "return_tokens": True,
            "samplers": ["penalties", "top_k", "top_p", "min_p", "temperature"],
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "repeat_last_n": PENALTY_WINDOW,
            "seed": sampling.seed,
        }

    # HTTP

    @contextmanager
    def _streaming(self, body: dict[str, Any]) -> Iterator[EventStream]:
        stream = EventStream(self._client, "/completion", body)
        try:
            yield stream
        finally:
            stream.close()

    def _next(self, stream: EventStream, should_stop: StopCheck) -> dict[str, Any] | None:
        try:
            return stream.next(should_stop)
        except httpx2.HTTPStatusError as error:
            raise _refused(error) from error
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise self._explain(error) from error

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._answered(lambda: self._client.post(path, json=body))

    def _get(self, path: str) -> dict[str, Any]:
        return self._answered(lambda: self._client.get(path))

    def _answered(self, request: Callable[[], httpx2.Response]) -> dict[str, Any]:
        try:
            response = request()
            response.raise_for_status()
            document: dict[str, Any] = response.json()
            return document
        except httpx2.HTTPStatusError as error:
            raise _refused(error) from error
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise self._explain(error) from error

    def close(self) -> None:
        """Close the connections; the server is somebody else's to end."""
        self._client.close()

    def __enter__(self) -> FarModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Answer:
    """Tokens with their bytes, from the events of one answer."""

    def __init__(self, model: FarModel, stream: EventStream) -> None:
        self._model = model
        self._stream = stream
        self._ready: deque[tuple[int, bytes]] = deque()
        self._counted = 0

    def next(self) -> tuple[int, bytes]:
        while not self._is_ready():
            self._read()
        return self._ready.popleft()

    def _is_ready(self) -> bool:
        # A last token without text may be the one that ends the answer: the next event tells.
        return bool(self._ready) and (len(self._ready) > 1 or self._is_telling(*self._ready[0]))

    def _is_telling(self, token: int, raw: bytes) -> bool:
        return bool(raw) or token == END

    def _read(self) -> None:
        event = self._model.next_event(self._stream)
        if event is None:
            self._ready.append((END, b""))
        elif event.get("stop"):
            self._finish(event)
        else:
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        """A character of several tokens comes as one event that names only the last of them."""
        text, named = str(event.get("content", "")), list(event.get("tokens", []))
        count = self._count(event, len(named))
        tokens = named if count == len(named) else self._spelled(text, named, count)
        raw = text.encode("utf-8", "replace")
        last = len(tokens) - 1
        self._ready.extend((token, raw if i == last else b"") for i, token in enumerate(tokens))

    def _count(self, event: dict[str, Any], named: int) -> int:
        before, self._counted = self._counted, event.get("tokens_predicted", self._counted + named)
        return self._counted - before

    def _spelled(self, text: str, named: list[int], count: int) -> list[int]:
        """The tokens as our rules spell the text, unless the model spelled it otherwise."""
        tokens = self._model.tokenize(text, special=False)
        if len(tokens) == count:
            return tokens
        return [UNKNOWN] * (count - len(named)) + named

    def _finish(self, event: dict[str, Any]) -> None:
        """Tokens of a character that was never whole come with no event, but they were computed."""
        self._ready.extend([(UNKNOWN, b"")] * self._count(event, 0))
        if event.get("stop_type") == "eos" and self._ready:
            self._ready.pop()  # the one that ends the answer is no part of it
        self._ready.append((END, b""))


def _refused(error: httpx2.HTTPStatusError) -> InputError:
    try:
        message = str(error.response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {error.response.status_code}"
    return InputError(f"the server on the device refused: {message}")
