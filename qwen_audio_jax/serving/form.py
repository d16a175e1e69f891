"""A request's multipart form: one file and some short fields."""

import dataclasses
from typing import Any

import python_multipart  # noqa: F401  (what follows needs it, and would say so at the first form)
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from qwen_audio_jax.serving import body
from qwen_audio_jax.serving.errors import ApiError, wrong
from qwen_audio_jax.serving.limits import Limits

_MOST_FIELDS, _LONGEST_FIELD = 32, 1 << 16


@dataclasses.dataclass(frozen=True)
class Form:
    """What was sent.

    Attributes:
        file: the bytes of the field `file`.
        fields: the others, as JSON would have them: `name[]` is a list.
    """

    file: bytes
    fields: dict[str, Any]


async def read(request: Request, limits: Limits) -> Form:
    """Reads a form.

    Raises:
        ApiError: it is none, too large, or has no file.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiError(
            400, "the body must be multipart/form-data, with the audio as its field file"
        )
    parser = MultiPartParser(
        request.headers,
        body.chunks(request, limits),
        max_files=1,
        max_fields=_MOST_FIELDS,
        max_part_size=_LONGEST_FIELD,
    )
    parser.spool_max_size = limits.body_bytes  # no sound of a client goes to disk
    try:
        sent = await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, f"the body is no form that can be read: {error.message}") from None
    try:
        return await _form(sent)
    finally:
        await sent.close()


async def _form(sent: FormData) -> Form:
    fields: dict[str, Any] = {}
    file = None
    for name, value in sent.multi_items():
        if isinstance(value, UploadFile):
            if name != "file":
                raise wrong(name[:40], "is sent as a file; the audio is the field file")
            file = await value.read()
        elif name.endswith("[]"):
            fields.setdefault(name[:-2], []).append(value)
        elif name in fields:
            raise wrong(name[:40], "stands in the form twice")
        else:
            fields[name] = value
    if file is None:
        raise wrong("file", "is missing; it is the audio, as a file of the form")
    return Form(file, fields)
