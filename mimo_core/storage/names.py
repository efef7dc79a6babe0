"""Names of things in storage: URLs, keys below them, and how both are shown without what is secret."""

import codecs
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from mimo_core.errors import UsageError

# A hidden folder of this name, at a store's root, holds what a write has not finished; it is never listed.
TEMPORARY = ".mimo-tmp"

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://")
_DRIVE = re.compile(r"^[A-Za-z]:(/|$)")
# What each key that `check_key` refuses holds, set between slashes, unless it is not Unicode; so do some that it takes.
_IN_NO_KEY = ("\0", "\\", "//", "/./", "/../", f"/{TEMPORARY}/")
_SUSPICIOUS = re.compile(r"^/[A-Za-z]:/", re.MULTILINE)
# What nearly all keys are, told at a glance.
_ORDINARY = re.compile(r"\w[\w .+()@=,-]*(/\w[\w .+()@=,-]*)*", re.ASCII)
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s\"'<>]+")
_SECRET_QUERY = re.compile(
    r"(^|[&;])(x-amz-|x-goog-|signature|sig=|se=|token|key|secret|password|awsaccesskeyid|credential|googleaccessid)",
    re.IGNORECASE,
)
_HTTP = frozenset({"http", "https"})
_BUCKETS = frozenset({"s3", "s3a"})
# Where a file that must not exist yet is created by one of any contenders, as the system or the server decides: gcsfs
# sends `mode="create"` as x-goog-if-generation-match, adlfs as If-None-Match. For memory a lock of this process does.
_EXCLUSIVE = frozenset({"file", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
NO_PLACE_FOR_RUNS = (
    "a run cannot be kept there, for it commits by creating files that must not exist yet, which is known to be safe "
    "in folders and on s3://, gs:// and az:// alone; name OUTPUT in one of these, and copy it when it is finished"
)
# An access point's name is a resource: `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME`, or with a colon before the name.
_ACCESS_POINT = re.compile(r"arn:[^/:]+:[^/:]+:[^/:]*:\d*:(?:outpost[:/][^/:]+[:/])?accesspoint[:/][^/:]+")


@dataclass(frozen=True)
class Location:
    """A URL taken apart: `scheme` ("file", "s3", "https", ...) and `path`, without a trailing slash.

    `path` is an absolute local path for "file", `bucket/key` (never percent-decoded) for "s3", and the whole URL
    for every other scheme.
    """

    scheme: str
    path: str


def scheme_of(url: str) -> str:
    """Return the lower-case scheme of a URL; "file" for a plain path."""
    match = _SCHEME.match(url)
    return match.group(1).lower() if match else "file"


def is_local(url: str) -> bool:
    """Return whether a URL or path names something on this machine's file system."""
    return scheme_of(url) == "file"


def creates_exclusively(url: str) -> bool:
    """Return whether a run can be kept there: it commits by creating files that must not exist yet."""
    return scheme_of(url) in _EXCLUSIVE


def split_bucket(path: str) -> tuple[str, str]:
    """Return bucket and key (or prefix) of `bucket/key`; the bucket of an access point is its whole ARN."""
    if (point := _ACCESS_POINT.match(path)) is not None:
        return point[0], path[point.end() :].lstrip("/")
    bucket, _, key = path.partition("/")
    return bucket, key


def locate(url: str) -> Location:
    """Take a URL or path apart.

    Relative paths become absolute. `file://` URLs are percent-decoded (RFC 8089); `s3://` URLs are not, for a key may
    hold any character.

    Raises:
        UsageError: for an empty URL, a NUL byte, credentials inside an `s3://` URL, or a missing bucket.
    """
    if not url or "\0" in url:
        raise UsageError("the path or URL is empty" if not url else f"the path or URL {url!r} holds a NUL byte")
    scheme = scheme_of(url)
    if scheme == "file":
        return Location("file", os.path.abspath(_local_path(url)))  # noqa: PTH100 - Path would drop what it cannot hold
    if scheme in _BUCKETS:
        path = url.split("://", 1)[1].rstrip("/")
        bucket = path.split("/", 1)[0]
        if "@" in bucket or (":" in bucket and not bucket.startswith("arn:")):
            raise UsageError(
                f"{redact(url)}: credentials do not belong into an s3:// URL; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if not bucket:
            raise UsageError(f"{redact(url)} names no bucket; write s3://BUCKET/PREFIX")
        return Location("s3", path)
    return Location(scheme, url if scheme in _HTTP else url.rstrip("/"))


def _local_path(url: str) -> str:
    if _SCHEME.match(url) is None:
        return url
    parts = url.split("://", 1)[1]
    host, slash, rest = parts.partition("/")
    if host not in ("", "localhost"):
        raise UsageError(f"{redact(url)} names the host {host!r}; a file:// URL has three slashes: file:///{host}/...")
    return unquote(slash + rest, errors="surrogateescape")


def redact(url: str) -> str:
    """Return a URL as it may be shown and stored: without user names, passwords, query strings and fragments.

    Plain paths come back as they are. In schemes whose names may hold a `?` (s3, file, memory), a query string is taken
    away only where it holds something that looks like a credential.
    """
    if "?" not in url and "@" not in url and "#" not in url:
        # So are nearly all; very many are asked for.
        return url
    match = _SCHEME.match(url)
    if match is None:
        return url
    head, rest = url[: match.end()], url[match.end() :]
    authority, slash, tail = rest.partition("/")
    if scheme_of(url) in _HTTP:
        authority = re.split(r"[?#]", authority)[0]
        tail = re.split(r"[?#]", tail)[0]
    else:
        tail = _without_secret_query(tail)
        authority = _without_secret_query(authority)
    return head + authority.rpartition("@")[2] + slash + tail


def _without_secret_query(text: str) -> str:
    name, mark, query = text.partition("?")
    return name if mark and _SECRET_QUERY.search(query) else text


def redact_text(text: str) -> str:
    """Return a message as it may be shown and stored: every URL in it redacted."""
    return _URL_IN_TEXT.sub(lambda match: redact(match.group(0)), text)


def check_key(key: str) -> str:
    """Return `key` if it is a relative path with `/` that stays inside the folder it is joined to.

    Raises:
        UsageError: for empty keys and segments, `.` and `..`, a leading or trailing slash, backslashes, drive letters,
            NUL bytes, names that are not Unicode, and the hidden folder of unfinished writes.
    """
    reason = _fault_of_key(key)
    if reason:
        raise UsageError(f"the key {key!r} {reason}")
    return key


def check_keys(keys: Sequence[str]) -> None:
    """Check very many keys at once; errors as `check_key`, for the first that is none."""
    text = "/" + "/\n/".join(keys) + "/"
    suspicious = _SUSPICIOUS.search(text) is not None or any(part in text for part in _IN_NO_KEY)
    if suspicious or not _is_unicode(text):
        for key in keys:
            check_key(key)


def _fault_of_key(key: str) -> str:
    if _ORDINARY.fullmatch(key):
        return ""
    if not key:
        return "is empty"
    if "\0" in key:
        return "holds a NUL byte"
    if "\\" in key:
        return "holds a backslash; keys are separated by /"
    if _DRIVE.match(key):
        return "starts with a drive letter"
    segments = key.split("/")
    if "" in segments:
        return "is absolute, ends with a slash, or holds an empty segment"
    if "." in segments or ".." in segments:
        return "holds . or .. as a segment, and so might leave its folder"
    if TEMPORARY in segments:
        return f"lies in {TEMPORARY}, the folder of unfinished writes"
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return ""


def is_key(key: str) -> bool:
    """Return whether `check_key` would accept the key."""
    return not _fault_of_key(key)


def safe_key(name: str) -> str:
    """Return the key for a name found in storage: the name itself, or one with what no key may hold percent-escaped.

    `../x.png` becomes `%2E%2E/x.png`, a backslash `%5C`, a byte that is no UTF-8 its `%XX`, and then a percent sign of
    the name `%25`: of names that cannot be keys no two share one. A name that is a key by itself may be such a key.
    """
    if is_key(name):
        return name
    segments = []
    for segment in name.split("/"):
        if segment in ("", ".", "..", TEMPORARY):
            segments.append(segment.replace(".", "%2E") or "%2F")
            continue
        try:
            raw = segment.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raw = segment.encode("utf-8", "surrogatepass")
        text = raw.replace(b"%", b"%25").decode("utf-8", "_mimo_percent")
        segments.append(text.replace("\\", "%5C").replace("\0", "%00"))
    if _DRIVE.match(segments[0] + "/"):
        segments[0] = segments[0].replace(":", "%3A")
    return "/".join(segments)


def _percent(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("_mimo_percent", _percent)


def join(base: str, key: str) -> str:
    """Return the URL or path of `key` below the folder `base`; keys that would leave it are refused as in `check_key`.

    For http(s) the key is percent-encoded and a query string of `base` (a shared access signature) is kept; elsewhere
    characters are taken as they are.
    """
    check_key(key)
    return join_raw(base, key)


def join_raw(base: str, name: str) -> str:
    """Do as `join`, for a name found in storage below `base`, which may not be a valid key.

    A local name that is not Unicode gives a percent-encoded `file://` URL, so that the result can be stored as text.
    """
    scheme = scheme_of(base)
    if scheme in _HTTP:
        parts = urlsplit(base)
        return parts._replace(path=parts.path.rstrip("/") + "/" + quote(name)).geturl()
    if scheme == "file":
        path = _local_path(base).rstrip("/") + "/" + name
        if _SCHEME.match(base) or not _is_unicode(path):
            return "file://" + quote(os.path.abspath(path), errors="surrogateescape")  # noqa: PTH100 - as above
        return path
    return base.rstrip("/") + "/" + name


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def extension(key: str) -> str:
    """Return the extension of a key's last segment with its dot, as it is written; empty where there is none."""
    start = key.rfind("/") + 1
    dot = key.rfind(".", start)
    return key[dot:] if dot > start and key[start:dot].strip(".") else ""
