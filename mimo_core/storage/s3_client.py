"""This process's S3 client, and the private name of s3fs that no public one replaces.

s3fs gives parameters and answers of S3 whole (etags, conditions, ranges, continuation tokens) by `_call_s3` alone; its
public calls leave out what exclusive creation and paging need. The client is checked for it when it is made.
"""

import os
from typing import Any

from mimo_core.errors import ErrorKind, SystemFailure
from mimo_core.storage.clients import client

# For so long a server may send nothing before a request counts as failed.
READ_SECONDS = 60.0
SUPPORTED = "s3fs>=2024.6,<2027"


def filesystem() -> Any:
    """Return this process's S3 file system for the present AWS settings.

    Raises:
        SystemFailure: the version of s3fs lacks what this program needs of it.
    """
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith(("AWS_", "FSSPEC_S3"))))
    return client(("s3", settings), _connect)


async def call(fs: Any, operation: str, **parameters: Any) -> Any:
    """Carry out one operation of S3 by its name in botocore, and return the server's answer."""
    return await fs._call_s3(operation, **parameters)


async def require_conditional_put(fs: Any) -> None:
    """Refuse a botocore whose PUT knows no condition.

    s3fs drops parameters that its botocore does not know, so that an exclusive write would be an ordinary one.

    Raises:
        SystemFailure: it does not.
    """
    service = await fs.set_session()
    known = service.meta.service_model.operation_model("PutObject").input_shape.members
    if "IfNoneMatch" not in known:
        raise SystemFailure(ErrorKind.STORAGE, "botocore is too old for exclusive writes; install s3fs >= 2024.12")


def _connect() -> Any:
    import s3fs

    if not callable(getattr(s3fs.S3FileSystem, "_call_s3", None)):
        raise SystemFailure(
            ErrorKind.STORAGE,
            f"s3fs {s3fs.__version__} does not fit (S3FileSystem._call_s3 is missing): install a tested version with "
            f"`pip install '{SUPPORTED}'`",
        )
    # One place decides about retries (Retries), so that the waits of three libraries do not multiply.
    fs = s3fs.S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": 64,
            "connect_timeout": 10,
            "read_timeout": READ_SECONDS,
        },
    )
    fs.retries = 1
    return fs
