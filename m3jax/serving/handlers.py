"""What a server of experts answers to each request of the protocol."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from m3jax.serving import calls, codec, descriptors, store, workers

ARRAYS = "m3jax://arrays/"
"""Before the handle of an answer that waits in the store: its URI."""

_log = logging.getLogger(__name__)


def tokens_of(expert: descriptors.Expert, images: np.ndarray) -> np.ndarray:
    """Runs an expert on a batch, and checks what it gives.

    Args:
      expert: any expert.
      images: ``[B, *input_shape]``.

    Returns:
      Tokens ``[B, L, D]`` of the dtype that its descriptor names.

    Raises:
      ValueError: it gave another shape than its descriptor says.
    """
    descriptor = expert.descriptor
    tokens = np.asarray(expert.encode(images))
    expected = (len(images), *descriptor.output_shape)
    if tokens.shape != expected:
        raise ValueError(
            f"expert {descriptor.name} gave tokens of shape {tokens.shape}; its "
            f"descriptor says {expected}"
        )
    return tokens.astype(codec.DTYPES[descriptor.output_dtype], copy=False)


class Handlers:
    """Handlers of the SDK's server; an error is one sentence, never a traceback.

    Args:
      experts: of different names.
      limits: what is taken and kept.

    Attributes:
      limits: as given.
      store: answers that wait to be fetched.
      workers: run the experts.

    Raises:
      ValueError: no expert, or two of one name.
    """

    def __init__(self, experts: Sequence[descriptors.Expert], limits: calls.Limits):
        self._experts = {expert.descriptor.name: expert for expert in experts}
        if not experts or len(self._experts) != len(experts):
            names = [expert.descriptor.name for expert in experts]
            raise ValueError(f"experts are {names}; give at least one, of unlike names")
        self.limits = limits
        self.workers = workers.Workers(
            limits.max_parallel, limits.max_waiting, limits.waiting_bytes
        )
        self.store = store.Store(
            limits.store_bytes, limits.store_items, limits.store_seconds
        )

    @property
    def described(self) -> dict[str, descriptors.Descriptor]:
        """Descriptors of all experts that have one, as they are now."""
        found = {name: _describe(name, ex) for name, ex in self._experts.items()}
        return {name: described for name, described in found.items() if described}

    async def list_tools(self, context: Any, params: Any) -> Any:
        """The one tool."""
        from mcp import types

        tool = types.Tool(
            name=calls.TOOL,
            title="Encode images",
            description="Turns images into the tokens of a vision expert.",
            input_schema=calls.schema(self.described, self.limits),
            annotations=types.ToolAnnotations(
                read_only_hint=True, idempotent_hint=True, open_world_hint=False
            ),
        )
        return types.ListToolsResult(tools=[tool])

    async def list_resources(self, context: Any, params: Any) -> Any:
        """The descriptors; answers in the store are not listed, their handles given."""
        from mcp import types

        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=descriptors.uri(name),
                    name=name,
                    description=descriptor.description,
                    mime_type="application/json",
                )
                for name, descriptor in self.described.items()
            ]
        )

    async def list_templates(self, context: Any, params: Any) -> Any:
        """Where answers in the store are."""
        from mcp import types

        template = types.ResourceTemplate(
            uri_template=ARRAYS + "{handle}",
            name="array",
            description=f"An answer of {calls.TOOL}, until it expires.",
            mime_type=codec.MIME_TYPE,
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(self, context: Any, params: Any) -> Any:
        """A descriptor, or an answer."""
        from mcp import MCPError, types

        uri = params.uri
        name = uri.removeprefix(descriptors.EXPERTS)
        if uri.startswith(descriptors.EXPERTS) and name in self.described:
            text = descriptors.to_json(self.described[name])
            found = types.TextResourceContents(
                uri=uri, mime_type="application/json", text=text
            )
            return types.ReadResourceResult(contents=[found])
        try:
            if not uri.startswith(ARRAYS):
                raise KeyError
            blob = _blob(uri, self.store.get(uri.removeprefix(ARRAYS)))
        except KeyError:
            raise MCPError(
                types.INVALID_PARAMS,
                f"there is no resource {uri!r:.200}; an array is kept for "
                f"{self.limits.store_seconds:g} s, less where many are asked for: "
                "call the tool again",
                {"uri": uri[:200]},
            ) from None
        return types.ReadResourceResult(contents=[blob])

    async def call_tool(self, context: Any, params: Any) -> Any:
        """Tokens of images, or why there are none."""
        from mcp import MCPError, types

        if params.name != calls.TOOL:
            raise MCPError(
                types.INVALID_PARAMS,
                f"there is no tool {params.name!r:.80}; there is {calls.TOOL!r}",
            )
        try:
            asked = calls.parse(params.arguments or {}, self.described, self.limits)
            return self._answer(asked.expert, *await self.run(asked))
        except calls.Refused as refusal:
            text = types.TextContent(type="text", text=str(refusal))
            return types.CallToolResult(content=[text], is_error=True)

    async def run(self, asked: calls.Request) -> tuple[tuple[int, ...], bytes]:
        """Shape and message of the tokens; waits for its turn.

        Raises:
          calls.Busy: too many calls wait.
          calls.Refused: the expert failed, or the precision cannot hold its tokens.
        """
        try:
            return await self.workers.run(
                functools.partial(_encode, self._experts[asked.expert], asked),
                asked.images.nbytes,
            )
        except workers.Failed as failed:
            error = failed.__cause__
            _log.warning("expert %s failed", asked.expert, exc_info=error)
            raise calls.Refused(
                f"expert {asked.expert} failed ({type(error).__name__}); the log of its"
                " server says more"
            ) from error

    def _answer(self, expert: str, shape: tuple[int, ...], data: bytes) -> Any:
        """The result of a call: the tokens, or a link to them, and what they are."""
        from mcp import types

        facts = {"expert": expert, "shape": list(shape), "num_bytes": len(data)}
        if len(data) <= self.limits.max_inline_bytes:
            uri, where = f"{ARRAYS}inline", "inside"
            part = types.EmbeddedResource(type="resource", resource=_blob(uri, data))
        else:
            uri = ARRAYS + self._keep(data)
            where = f"at {uri}"
            facts |= {"uri": uri, "expires_s": self.limits.store_seconds}
            part = types.ResourceLink(
                type="resource_link",
                uri=uri,
                name="tokens",
                mime_type=codec.MIME_TYPE,
                size=len(data),
            )
        words = f"Tokens {list(shape)} of expert {expert}, {len(data)} bytes, {where}."
        text = types.TextContent(type="text", text=words)
        return types.CallToolResult(content=[text, part], structured_content=facts)

    def _keep(self, data: bytes) -> str:
        try:
            return self.store.put(data)
        except ValueError as error:
            raise calls.Refused(f"{error}; ask for fewer images in a call") from error


def _describe(name: str, expert: descriptors.Expert) -> Any:
    """The descriptor; None if the expert's code fails, whatever it raises."""
    try:
        return expert.descriptor
    except BaseException:
        _log.warning("expert %s has no descriptor", name, exc_info=True)
        return None


def _encode(
    expert: descriptors.Expert, asked: calls.Request
) -> tuple[tuple[int, ...], bytes]:
    """Runs in a thread of its own."""
    tokens = tokens_of(expert, asked.images)
    try:
        return tokens.shape, codec.encode(tokens, asked.precision)
    except ValueError as error:  # tokens that the precision cannot hold
        raise calls.Refused(str(error)) from error


def _blob(uri: str, data: bytes) -> Any:
    from mcp import types

    return types.BlobResourceContents(
        uri=uri, mime_type=codec.MIME_TYPE, blob=codec.to_text(data)
    )
