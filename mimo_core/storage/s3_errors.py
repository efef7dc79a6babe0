"""What an S3 server's or client's error means: whether to try again, and what it is to a run."""

import asyncio

from mimo_core.errors import ErrorKind, ImageError, MimoError, SystemFailure, UsageError
from mimo_core.storage.persistence import AloneError, BodyError

_CREDENTIAL_CODES = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
        "AccountProblem",
        "AllAccessDisabled",
        "NotSignedUp",
        "InvalidSecurity",
        "AuthorizationHeaderMalformed",
    }
)
_TRANSIENT_CODES = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "RequestTimeout",
        "InternalError",
        "ServiceUnavailable",
        "OperationAborted",
        "ConditionalRequestConflict",
        "XAmzContentSHA256Mismatch",
        "BadDigest",
        "IncompleteBody",
    }
)
_TRANSIENT_NAMES = frozenset(
    {"IncompleteRead", "IncompleteReadError", "ResponseStreamingError", "ResponseParserError", "ClientPayloadError"}
)
_CREDENTIAL_NAMES = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "TokenRetrievalError",
        "NoAuthTokenError",
        "SSOError",
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "RefreshWithMFAUnsupportedError",
        "MetadataRetrievalError",
        "InfiniteLoopConfigError",
        "ConfigParseError",
        "UnknownCredentialError",
    }
)


def code_of(error: BaseException) -> tuple[str, int]:
    """Return the server's error code and HTTP status behind an exception; ("", 0) where no server answered."""
    for cause in (error, error.__cause__):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
    return "", 0


def is_transient(error: BaseException) -> bool:
    """Return whether another try may succeed: throttling, the server's own errors, the network."""
    code, status = code_of(error)
    if code or status:
        return code in _TRANSIENT_CODES or status == 429 or (status >= 500 and status != 501)
    if isinstance(error, BodyError):
        return True
    from botocore.exceptions import ConnectionError as BotoConnectionError
    from botocore.exceptions import HTTPClientError

    if isinstance(error, (HTTPClientError, BotoConnectionError)) or type(error).__name__ in _TRANSIENT_NAMES:
        return True
    if isinstance(error, (ConnectionError, TimeoutError, asyncio.TimeoutError)):
        return True
    return any(cause.__module__.partition(".")[0] == "aiohttp" for cause in type(error).__mro__)


def alone_fault(error: AloneError, name: str) -> ImageError:
    """Return the program's error for one object that cannot be read although the server answers."""
    if isinstance(error.cause, BodyError):
        return ImageError(ErrorKind.STORAGE, f"{name}: damaged: {error.cause} ({error.tries} tries)")
    reason = code_of(error.cause)[0] or type(error.cause).__name__
    return ImageError(
        ErrorKind.STORAGE,
        f"{name}: cannot be read in {error.tries} tries, though the server answers ({reason})",
    )


def s3_fault(error: Exception, name: str, bucket: str, doing: str) -> MimoError:
    """Return the program's error for a failed request; `name` is the URL, `doing` one of "read", "write" and "list"."""
    code, status = code_of(error)
    kind = type(error).__name__
    failed = ErrorKind.WRITE if doing == "write" else ErrorKind.STORAGE
    if code in _CREDENTIAL_CODES or kind in _CREDENTIAL_NAMES:
        return SystemFailure(
            ErrorKind.NO_PERMISSION,
            f"{name}: the credentials are missing or not accepted ({code or kind}); check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or AWS_PROFILE, and the endpoint",
        )
    if code == "NoSuchBucket":
        return SystemFailure(
            ErrorKind.STORAGE, f"{name}: there is no bucket {bucket!r} at this endpoint (AWS_ENDPOINT_URL)"
        )
    if code in ("AccessDenied", "403", "InvalidObjectState") or status == 403:
        text = f"{name}: no permission to {doing} ({code or status})"
        # Permissions are given to prefixes: what cannot be listed or written once cannot be at all.
        return (ImageError if doing == "read" else SystemFailure)(ErrorKind.NO_PERMISSION, text)
    if code in ("NoSuchKey", "NoSuchVersion", "404") or status == 404:
        return ImageError(ErrorKind.NOT_FOUND, f"{name}: no such object")
    if code == "KeyTooLongError":
        return ImageError(failed, f"{name}: the key is too long for the server")
    if code:
        text = f"{name}: the server refuses to {doing}: {code}, HTTP {status}"
        # What may pass and was waited for in vain is no single object's.
        return (SystemFailure if doing == "list" or is_transient(error) else ImageError)(failed, text)
    if kind in ("ParamValidationError", "InvalidDNSNameError", "InvalidRegionError", "UnsupportedS3ArnError"):
        return UsageError(f"{name}: not a valid bucket, key or region")
    if is_transient(error):
        return SystemFailure(
            failed, f"{name}: the storage server cannot be reached ({kind}); check AWS_ENDPOINT_URL and the network"
        )
    return SystemFailure(failed, f"{name}: cannot {doing} ({kind})")
